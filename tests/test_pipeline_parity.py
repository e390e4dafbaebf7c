"""Golden 05: the whole pipeline equals the reference implementation, step by step."""

from __future__ import annotations

import pytest
import torch
from golden_files import golden_cases, load_case
from recipes import assert_golden, load_recipe, pipeline_recipe, stored_weights

from animator_core.config import (
    DecodeConfig,
    FrameSize,
    GuidanceConfig,
    SamplingConfig,
    WindowConfig,
)
from animator_core.diffusion.noise import c_noise, karras_sigmas
from animator_core.driving import DrivingMotion
from animator_core.interfaces import PlainDeviceManager
from animator_core.models.bundle import AnimatorModels
from animator_core.models.face_encoder import FaceEncoder
from animator_core.models.image_encoder import build_image_encoder, clip_pixels
from animator_core.models.pose_net import PoseNet
from animator_core.models.unet import VideoUNet
from animator_core.models.vae import VideoVAE
from animator_core.pipeline import AnimationRequest, Animator, RunNoise

pytestmark = pytest.mark.parity

PLAIN_CASES = [n for n in golden_cases("05_pipeline") if "hjb" not in n]


def reference_models(case, tensors) -> AnimatorModels:
    config = case["config"]
    nets = {
        "unet": VideoUNet(**config["unet"]),
        "vae": VideoVAE(**config["vae"]),
        "pose_net": PoseNet(**config["pose_net"]),
        "face_encoder": FaceEncoder(**config["face_encoder"]),
    }
    for name, net in nets.items():
        load_recipe(net, pipeline_recipe(case, name))
        net.eval()
    image_encoder = build_image_encoder(config["clip"])
    image_encoder.load_state_dict(stored_weights(case, tensors, "w.clip."), strict=True)
    return AnimatorModels(
        **nets, image_encoder=image_encoder, dtype=torch.float32, name="golden", trained=False
    )


def reference_request(case, tensors) -> AnimationRequest:
    args = case["args"]
    return AnimationRequest(
        reference=tensors["in.image"].numpy(),
        motion=DrivingMotion(skeletons=tensors["in.poses"].numpy()),
        face_embedding=tensors["in.face_embedding"],
        size=FrameSize(width=args["width"], height=args["height"]),
        fit="stretch",  # the reference distorts
        sampling=SamplingConfig(
            steps=args["steps"],
            fps=args["fps"],
            motion_bucket_id=args["motion_bucket_id"],
            noise_augmentation=args["noise_aug_strength"],
        ),
        guidance=GuidanceConfig(minimum=args["min_guidance"], maximum=args["max_guidance"]),
        window=WindowConfig(frames=args["tile_size"], overlap=args["tile_overlap"]),
    )


def reference_noise(tensors) -> RunNoise:
    return RunNoise(picture=tensors["in.image_noise"][0], latents=tensors["in.latents"][0])


@pytest.mark.parametrize("name", PLAIN_CASES)
def test_pipeline(name):
    case, t = load_case(name)
    request, noise = reference_request(case, t), reference_noise(t)
    animator = Animator(reference_models(case, t), PlainDeviceManager("cpu"))
    conditioning = animator.condition(request, noise)

    from animator_core.frames import to_model_range

    pixels = clip_pixels(to_model_range(request.reference[None]))
    assert_golden(case, t, "out.clip_pixel_values_sub4", pixels[..., ::4, ::4])
    tokens = torch.cat((conditioning.image_tokens, conditioning.identity_tokens), dim=1)
    assert_golden(case, t, "out.cond_encoder", tokens)
    assert_golden(case, t, "out.image_latents", conditioning.reference_latents[None])
    assert_golden(case, t, "out.added_time_ids", conditioning.added_time_ids)
    window = case["window_indices"][0]
    assert_golden(case, t, "out.pose_latents_window0", conditioning.pose_features[window])
    sigmas = karras_sigmas(request.sampling.steps)
    assert_golden(case, t, "out.sigmas", sigmas)
    assert_golden(
        case, t, "out.timesteps", torch.tensor([c_noise(s) for s in sigmas[:-1].tolist()])
    )

    latents = noise.latents
    for state in animator.iterate(request, conditioning, noise):
        index = state.step.index
        assert_golden(case, t, f"out.noise_pred.{index}", state.prediction[None])
        assert_golden(case, t, f"out.latents.{index}", state.latents[None])
        latents = state.latents

    chunk = case["args"]["decode_chunk_size"]
    with torch.no_grad():
        raw = torch.cat(list(animator.models.vae.iter_decode(latents, chunk, latents.device)))
    assert_golden(case, t, "out.raw_frames", raw.movedim(0, 1)[None])
    frames = torch.cat(list(animator.decode(latents, DecodeConfig(chunk_frames=chunk))))
    assert frames.shape == (*raw.shape[:1], *raw.shape[2:], 3)
    if "out.frames" in t:
        assert_golden(case, t, "out.frames", frames.movedim(-1, 1))
    else:
        torch.testing.assert_close(frames.movedim(-1, 1), (raw / 2 + 0.5).clamp(0, 1))
