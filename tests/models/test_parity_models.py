"""Golden 01 to 04: every network equals the reference implementation."""

from __future__ import annotations

import pytest
import torch
from golden_files import golden_cases, load_case
from recipes import assert_golden, fill

from animator_core.interfaces import Conditioning
from animator_core.models.face_encoder import FaceEncoder
from animator_core.models.id_attention import AttentionContext, IdentityAttnProcessor
from animator_core.models.pose_net import PoseNet
from animator_core.models.unet import VideoUNet
from animator_core.models.vae import VideoVAE

pytestmark = pytest.mark.parity


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


@pytest.mark.parametrize("name", golden_cases("01_"))
def test_pose_net(name):
    case, t = load_case(name)
    net = fill(PoseNet(**case["config"]), case, t, "w.")
    assert_golden(case, t, "out.frames", net(t["in.frames"]))
    assert_golden(case, t, "out.video", net(t["in.video"].flatten(0, 1)))


@pytest.mark.parametrize("name", golden_cases("02_"))
@pytest.mark.parametrize("inputs", ["a", "b"])
def test_face_encoder(name, inputs):
    case, t = load_case(name)
    net = fill(FaceEncoder(**case["config"]), case, t, "w.")
    face, picture = t[f"in.id_{inputs}"], t[f"in.clip_{inputs}"]
    assert_golden(case, t, f"out.{inputs}", net(face, picture))
    out = net(face, picture, shortcut_scale=case["shortcut_scale"])
    assert_golden(case, t, f"out.{inputs}_shortcut", out)


@pytest.mark.parametrize("name", golden_cases("03_"))
def test_identity_attention(name):
    from diffusers.models.attention_processor import Attention

    case, t = load_case(name)
    config = case["config"]
    context = AttentionContext()
    attention = Attention(
        query_dim=config["query_dim"],
        cross_attention_dim=config["cross_attention_dim"],
        heads=config["heads"],
        dim_head=config["dim_head"],
    )
    inner = config["heads"] * config["dim_head"]
    processor = IdentityAttnProcessor(inner, config["cross_attention_dim"], context)
    attention.set_processor(processor)
    fill(attention, case, t, "w.")
    conditioning = _conditioning(t["in.encoder"], config["num_tokens"], config["id_scale"])
    with context.bound(conditioning, num_frames=1):
        assert_golden(case, t, "out.hidden", attention(t["in.hidden"]))


def _conditioning(tokens, num_identity_tokens=4, scale=1.0, **others):
    return Conditioning(
        image_tokens=tokens[:, :-num_identity_tokens],
        identity_tokens=tokens[:, -num_identity_tokens:],
        added_time_ids=others.pop("added_time_ids", torch.zeros(tokens.shape[0], 3)),
        identity_scale=scale,
        **others,
    )


@pytest.mark.parametrize("name", golden_cases("04_unet"))
def test_unet(name):
    case, t = load_case(name)
    unet = fill(VideoUNet(**case["config"]), case, t, "w.unet.")
    batch, frames = t["in.sample"].shape[:2]
    pose = t["in.pose_latents"].unflatten(0, (batch, frames))

    def run(encoder, pose_features, image_only=False):
        conditioning = _conditioning(
            encoder, added_time_ids=t["in.added_time_ids"], pose_features=pose_features
        )
        return unet(t["in.sample"], t["in.timestep"][0], conditioning, image_only=image_only)

    assert_golden(case, t, "out.with_pose", run(t["in.encoder"], pose))
    assert_golden(case, t, "out.no_pose", run(t["in.encoder"], None))
    if "out.image_only" in t:
        assert_golden(case, t, "out.image_only", run(t["in.encoder"], None, image_only=True))
    if "out.two_image_tokens" in t:
        assert_golden(case, t, "out.two_image_tokens", run(t["in.encoder_2img"], pose))


@pytest.mark.parametrize("name", golden_cases("04_vae"))
def test_vae(name):
    case, t = load_case(name)
    vae = fill(VideoVAE(**case["config"]), case, t, "w.vae.")
    mean, log_variance = vae.encode_moments(t["in.image"])
    assert_golden(case, t, "out.latent_mode", mean)
    several = vae.encode_chunks(t["in.image"].repeat(3, 1, 1, 1), chunk=2)
    assert_golden(case, t, "out.latent_mode", several[2:])
    assert_golden(case, t, "out.latent_logvar", log_variance)
    latents = t["in.latents"]
    assert_golden(case, t, "out.decode_all", vae.decode_frames(latents))
    assert_golden(case, t, "out.decode_first2", vae.decode_frames(latents[:2]))
    assert_golden(case, t, "out.decode_single", vae.decode_frames(latents[:1]))
