"""The networks as a training needs them."""

import pytest
import torch
from animation_factory import write_networks
from factory import SMALL, small_models

from animator_core.errors import CheckpointError
from animator_core.interfaces import Conditioning
from animator_core.models.unet import VideoUNet
from animator_core.training.animation_networks import (
    FrozenParts,
    fresh_models,
    load_frozen,
    load_recogniser,
)

VIDEOS, FRAMES = 2, 3


@pytest.fixture(scope="module")
def models():
    return small_models(seed=3)


def frozen_of(models):
    return FrozenParts(vae=models.vae, image_encoder=models.image_encoder)


def inputs(seed=0, *, zero_tokens=False):
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape):
        return torch.randn(shape, generator=generator)

    scale = 0.0 if zero_tokens else 1.0
    conditioning = Conditioning(
        image_tokens=scale * noise(VIDEOS, 1, 64),
        identity_tokens=scale * noise(VIDEOS, 4, 64),
        added_time_ids=torch.tensor([[6.0, 127.0, 0.02]]).expand(VIDEOS, -1),
        pose_features=noise(VIDEOS, FRAMES, 32, 4, 4),
    )
    return noise(VIDEOS, FRAMES, 8, 4, 4), conditioning


def one_of(conditioning, index):
    part = slice(index, index + 1)
    return Conditioning(
        image_tokens=conditioning.image_tokens[part],
        identity_tokens=conditioning.identity_tokens[part],
        added_time_ids=conditioning.added_time_ids[part],
        pose_features=conditioning.pose_features[part],
    )


@torch.no_grad()
def test_every_video_may_have_its_own_timestep(models):
    sample, conditioning = inputs()
    timesteps = torch.tensor([-0.7, 1.2])
    together = models.unet(sample, timesteps, conditioning)
    for index in range(VIDEOS):
        alone = models.unet(
            sample[index : index + 1], timesteps[index], one_of(conditioning, index)
        )
        torch.testing.assert_close(together[index : index + 1], alone, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_pictures_need_no_temporal_layers(models):
    sample, conditioning = inputs()
    timestep = torch.tensor(0.3)
    skipped = models.unet(sample, timestep, conditioning, image_only=True)
    for name, parameter in models.unet.named_parameters():
        if "temporal" in name:
            assert parameter.isfinite().all()
    # diffusers' own way: all is computed, and blended with the weight 0
    with torch.enable_grad():
        unet = VideoUNet(**SMALL.unet)
        unet.load_state_dict(models.unet.state_dict())
        unet.recompute_blocks()
        computed = unet(sample, timestep, conditioning, image_only=True)
    torch.testing.assert_close(skipped, computed, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(skipped, models.unet(sample, timestep, conditioning), atol=1e-3)


def gradients(unet, seed, **options):
    unet.requires_grad_(True)
    unet.zero_grad(set_to_none=True)
    sample, conditioning = inputs(seed, **options)
    unet(sample, torch.tensor([0.1, 0.9]), conditioning).square().mean().backward()
    found = {k: p.grad.clone() for k, p in unet.named_parameters() if p.grad is not None}
    unet.requires_grad_(False)
    return found


def test_recomputed_blocks_have_the_same_gradients():
    kept = VideoUNet(**SMALL.unet)
    again = VideoUNet(**SMALL.unet)
    again.load_state_dict(kept.state_dict())
    again.recompute_blocks()
    expected, found = gradients(kept, 5), gradients(again, 5)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6)


def test_dropped_tokens_give_finite_gradients():
    unet = VideoUNet(**SMALL.unet)
    assert all(g.isfinite().all() for g in gradients(unet, 6, zero_tokens=True).values())


@torch.no_grad()
def test_new_temporal_layers_change_nothing(models):
    new = fresh_models(SMALL, frozen_of(models), seed=4)
    torch.nn.init.normal_(new.unet.conv_out.weight, std=0.1)
    sample, conditioning = inputs()
    timestep = torch.tensor(0.3)
    pictures = new.unet(sample, timestep, conditioning, image_only=True)
    clip = new.unet(sample, timestep, conditioning)
    assert pictures.abs().max() > 0.01
    torch.testing.assert_close(clip, pictures, rtol=1e-4, atol=1e-5)


def test_equal_seeds_give_equal_networks(models):
    first, second, other = (
        fresh_models(SMALL, frozen_of(models), seed=seed).face_encoder.state_dict()
        for seed in (1, 1, 2)
    )
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert any(not torch.equal(first[k], other[k]) for k in first)


def test_frozen_networks_load_without_the_others(tmp_path):
    folder = write_networks(tmp_path / "models")
    for name in ("unet", "pose_net", "face_encoder"):
        for path in folder.glob(f"Animation/{name}.*"):
            path.unlink()
    frozen = load_frozen(_networks(folder))
    assert not any(p.requires_grad for p in frozen.vae.parameters())
    assert load_recogniser(folder / "recogniser.safetensors").num_features == 512
    with pytest.raises(CheckpointError, match="recogniser"):
        load_recogniser(folder / "none.safetensors")
    with pytest.raises(CheckpointError, match="vae"):
        load_frozen(_networks(tmp_path / "nothing"))


def _networks(folder):
    from animator_core.training.animation_config import FrozenNetworks

    return FrozenNetworks(models=str(folder))
