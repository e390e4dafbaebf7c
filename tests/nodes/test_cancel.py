"""Cancel stops at once and leaves nothing behind."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from comfy_host import execute, walk


@pytest.fixture
def cancel_at(mm):
    """Press Cancel when the progress bar shows `done` of `total`."""
    import comfy.utils

    def arrange(done, total):
        def shown(current, of, _preview, node_id=None):
            if (current, of) == (done, total):
                mm.interrupt_current_processing(True)

        comfy.utils.set_progress_bar_global_hook(shown)

    yield arrange
    comfy.utils.set_progress_bar_global_hook(None)


@pytest.fixture
def watched(pack, monkeypatch):
    """Weak references to the big tensors of a run."""
    pipeline = pack.module("animator_core.pipeline")
    references: list[weakref.ref] = []

    def watch(function):
        def watching(*args, **kwargs):
            made = function(*args, **kwargs)
            references.append(weakref.ref(made))
            return made

        return watching

    for name in ("encode_pose_features", "encode_reference_latents", "tile_noise"):
        monkeypatch.setattr(pipeline, name, watch(getattr(pipeline, name)))
    return references


def test_cancel_while_sampling(pack, model, mm, cancel_at, watched, reference, short):
    given = {"model": model, "reference": reference, "poses": walk(3), **short, "steps": 7}
    cancel_at(2, 7)
    with pytest.raises(mm.InterruptProcessingException):
        execute(pack.nodes["StableAnimatorAnimate"], **given)
    assert len(watched) == 3
    gc.collect()  # the exception and its frames hold each other
    assert [ref() for ref in watched] == [None] * 3
    assert model.devices._in_use == []
    assert not mm.processing_interrupted()


def test_cancel_while_decoding(pack, model, mm, cancel_at, monkeypatch):
    decoded: list[weakref.ref] = []
    vae = type(model.models.vae)
    decode = vae.decode_frames

    def watching(self, latents):
        frames = decode(self, latents)
        decoded.append(weakref.ref(frames))
        return frames

    monkeypatch.setattr(vae, "decode_frames", watching)
    latent = {"samples": torch.randn(5, 4, 8, 8)}
    cancel_at(2, 5)
    with pytest.raises(mm.InterruptProcessingException):
        execute(
            pack.nodes["StableAnimatorDecode"], model=model, latent=latent, decode_chunk_frames=1
        )
    gc.collect()
    assert [ref() for ref in decoded] == [None, None]
    assert model.devices._in_use == []


def test_cancel_while_drawing(pack, mm, cancel_at):
    mm.interrupt_current_processing(True)
    with pytest.raises(mm.InterruptProcessingException):
        execute(pack.nodes["StableAnimatorDrawPoses"], poses=walk(3))


def test_the_next_run_is_not_cancelled(pack, model, mm, cancel_at, reference, short):
    given = {"model": model, "reference": reference, "poses": walk(1), **short}
    cancel_at(1, 2)
    with pytest.raises(mm.InterruptProcessingException):
        execute(pack.nodes["StableAnimatorAnimate"], **given)
    import comfy.utils

    comfy.utils.set_progress_bar_global_hook(None)
    assert execute(pack.nodes["StableAnimatorAnimate"], **given)[1].shape[0] == 1
