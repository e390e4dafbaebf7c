"""Models are ComfyUI's to load and to unload."""

from __future__ import annotations

import copy
import gc
import weakref

import pytest
import torch
from comfy_host import execute, needs_comfyui, one_identity, walk
from factory import PARTS, small_models
from torch import nn


@pytest.fixture
def adapter(pack):
    return pack.module("animator_core.comfy_adapter")


@pytest.fixture
def loads(adapter, mm, monkeypatch):
    """Every call of load_models_gpu as (networks, memory_required)."""
    calls = []
    load = mm.load_models_gpu

    def recorded(patchers, memory_required=0, **options):
        calls.append(({p.model.network for p in patchers}, memory_required))
        return load(patchers, memory_required=memory_required, **options)

    monkeypatch.setattr(mm, "load_models_gpu", recorded)
    return calls


def test_an_inner_stage_gives_the_outer_ones_networks_back(adapter, loads):
    outer, inner, manager = nn.Linear(2, 2), nn.Linear(2, 2), adapter.ComfyDeviceManager()
    with manager.loaded(outer, activation_bytes=10):
        with manager.loaded(inner, activation_bytes=30):
            assert loads == [({outer}, 10), ({outer, inner}, 30)]
        assert loads[2:] == [({outer}, 10)]
    assert len(loads) == 3
    assert manager._in_use == []


def test_an_error_leaves_nothing_in_use(adapter, loads):
    network, manager = nn.Linear(2, 2), adapter.ComfyDeviceManager()
    with pytest.raises(KeyError), manager.loaded(network), manager.loaded(nn.Linear(1, 1)):
        raise KeyError
    assert manager._in_use == []
    assert len(loads) == 2  # nothing is loaded again when nothing goes on


def test_running_out_of_memory_is_left_to_comfyui(adapter, mm, monkeypatch):
    def no_room(*_args, **_options):
        raise torch.OutOfMemoryError

    network, manager = nn.Linear(2, 2), adapter.ComfyDeviceManager()
    monkeypatch.setattr(mm, "load_models_gpu", no_room)
    with pytest.raises(torch.OutOfMemoryError), manager.loaded(network):
        pass
    assert manager._in_use == []


def test_a_network_has_one_patcher(adapter, mm):
    network, manager = nn.Linear(2, 2), adapter.ComfyDeviceManager()
    with manager.loaded(network):
        first = [p for p in mm.loaded_models() if p.model.network is network]
    with manager.loaded(network):
        second = [p for p in mm.loaded_models() if p.model.network is network]
    assert len(first) == 1
    assert first == second


def test_other_packs_models_are_never_unloaded_by_us(
    pack, model, mm, monkeypatch, reference, short
):
    def forbidden(*_args, **_options):
        raise AssertionError("unloading is ComfyUI's decision")

    for name in ("unload_all_models", "free_memory", "soft_empty_cache"):
        monkeypatch.setattr(mm, name, forbidden, raising=False)
    monkeypatch.setattr(mm, "free_memory", lambda *a, **k: [], raising=False)
    execute(
        pack.nodes["StableAnimatorAnimate"],
        model=model,
        reference=reference,
        poses=walk(1),
        **short,
    )


def test_a_stage_loads_only_what_it_needs(pack, model, loads, reference, short):
    execute(
        pack.nodes["StableAnimatorAnimate"],
        model=model,
        reference=reference,
        poses=walk(1),
        **short,
    )
    m = model.models
    assert [networks for networks, _ in loads] == [
        {m.image_encoder, m.face_encoder},
        {m.vae},
        {m.pose_net},
        {m.unet},
        {m.vae},
    ]
    assert loads[3][1] >= m.unet.activation_bytes(1, 8, 8)


def test_dropping_the_model_frees_it(pack, folders, mm):
    from factory import write_published_layout

    write_published_layout(folders.models / "small")
    loaded = execute(pack.nodes["StableAnimatorLoadModel"], checkpoint="small")[0]
    latent = {"samples": torch.randn(1, 4, 4, 4)}
    execute(pack.nodes["StableAnimatorDecode"], model=loaded, latent=latent)
    mm.unload_all_models()
    alive = [weakref.ref(loaded.models.vae), weakref.ref(loaded.models.unet)]
    del loaded
    gc.collect()
    assert [ref() for ref in alive] == [None, None]


def test_becoming_streamable_changes_no_weight_and_no_result(adapter):
    models = small_models(seed=3)
    picture = torch.rand(1, 3, 64, 64)
    before = copy.deepcopy(models.pose_net)
    adapter._make_streamable(models.pose_net)
    torch.testing.assert_close(models.pose_net(picture), before(picture), rtol=0, atol=0)
    assert models.pose_net.state_dict().keys() == before.state_dict().keys()


@pytest.mark.comfyui
@needs_comfyui
def test_layers_that_cast_on_use_give_the_same_video(pack, model, mm, reference, short):
    """What ComfyUI switches on in the layers that did not fit on the device."""
    given = {"model": model, "reference": reference, "poses": walk(3), **short}
    identity = one_identity(pack, torch.ones(512))
    plain = execute(pack.nodes["StableAnimatorAnimate"], **given, identity=identity)
    networks = [getattr(model.models, part) for part in PARTS]
    layers = [m for n in networks for m in n.modules() if hasattr(m, "comfy_cast_weights")]
    assert len(layers) > 100
    try:
        for layer in layers:
            layer.comfy_cast_weights = True
        cast = execute(pack.nodes["StableAnimatorAnimate"], **given, identity=identity)
    finally:
        for layer in layers:
            del layer.comfy_cast_weights
    torch.testing.assert_close(cast[0]["samples"], plain[0]["samples"], rtol=0, atol=0)
    torch.testing.assert_close(cast[1], plain[1], rtol=0, atol=0)


@pytest.mark.comfyui
@needs_comfyui
def test_a_network_whose_layers_stay_behind_still_computes_on_the_device(pack, model, adapter):
    """The extreme of partial loading: every layer's weights are elsewhere.

    Torch's meta device stands for a GPU: tensors of both places in one operation are an error.
    """
    meta = torch.device("meta")
    interfaces = pack.module("animator_core.interfaces")

    def left_behind(network):
        network = copy.deepcopy(network)
        adapter._make_streamable(network)
        for module in network.modules():
            if hasattr(module, "comfy_cast_weights"):
                module.comfy_cast_weights = True
            else:  # as _move_loose_tensors, which cannot move a parameter's data to meta
                for name, parameter in module.named_parameters(recurse=False):
                    setattr(module, name, nn.Parameter(parameter.to(meta), requires_grad=False))
                for name, buffer in module.named_buffers(recurse=False):
                    setattr(module, name, buffer.to(meta))
        return network

    m = model.models
    with torch.inference_mode():
        features = left_behind(m.pose_net)(torch.ones(2, 3, 64, 64, device=meta))
        vae = left_behind(m.vae)
        mean, _ = vae.encode_moments(torch.ones(1, 3, 64, 64, device=meta))
        frames = vae.decode_frames(torch.ones(2, 4, 8, 8, device=meta))
        tokens = left_behind(m.image_encoder)(torch.ones(1, 3, 56, 56, device=meta)).image_embeds
        faces = left_behind(m.face_encoder)(torch.ones(1, 512, device=meta), tokens[:, None])
        conditioning = interfaces.Conditioning(
            image_tokens=tokens[:, None],
            identity_tokens=faces,
            added_time_ids=torch.ones(1, 3, device=meta),
            pose_features=features[None],
        )
        sample = torch.ones(1, 2, 8, 8, 8, device=meta)
        velocity = left_behind(m.unet)(sample, torch.ones(1, device=meta), conditioning)
    assert velocity.shape == (1, 2, 4, 8, 8)
    for tensor in (features, mean, frames, tokens, faces, velocity):
        assert tensor.device == meta
