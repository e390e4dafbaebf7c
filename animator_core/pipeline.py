"""The stages in order: condition, sample, decode."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from .conditioning.identity import encode_people
from .conditioning.pose import encode_pose_features
from .conditioning.reference import (
    added_time_ids,
    encode_image_tokens,
    encode_reference_latents,
)
from .config import (
    LATENT_SCALE,
    DecodeConfig,
    Fit,
    FrameSize,
    GuidanceConfig,
    SamplingConfig,
    WindowConfig,
)
from .diffusion.denoiser import GuidedDenoiser, guidance_scales
from .diffusion.noise import draw_noise, initial_noise_scale, karras_sigmas, tile_noise
from .diffusion.sampler import EulerState, iterate_euler
from .diffusion.windows import plan_windows
from .driving import DrivingMotion, select_frames
from .errors import ConfigError
from .frames import fit_picture, from_model_range
from .interfaces import (
    ClipConditioning,
    DenoisedCorrection,
    DeviceManager,
    Monitor,
    Progress,
    SilentMonitor,
)
from .models.bundle import AnimatorModels
from .people import PersonIdentity, identity_fade, identity_regions

__all__ = ["AnimationRequest", "Animator", "RunNoise"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class AnimationRequest:
    """Everything that one animation depends on.

    Attributes:
        reference: Reference picture, uint8 [H, W, 3] RGB, at its own size.
        motion: The driving motion.
        num_frames: Frames to animate; None or 0 for the whole motion.
        face_embedding: Raw face embedding of the reference's only person; short for one entry of
            `people` without a region. None for no identity, or where `people` is given.
        people: The identities of several people, or of one with a region.
        size: Output size.
        fit: How reference and poses are fitted into the output size.
        sampling: Steps, seed and the numbers that the model is told.
        guidance: Classifier-free guidance.
        window: Windows and their anchor.
    """

    reference: NDArray[np.uint8]
    motion: DrivingMotion
    num_frames: int | None = None
    face_embedding: Tensor | None = None
    people: tuple[PersonIdentity, ...] = ()
    size: FrameSize = field(default_factory=FrameSize)
    fit: Fit = "letterbox"
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    guidance: GuidanceConfig = field(default_factory=GuidanceConfig)
    window: WindowConfig = field(default_factory=WindowConfig)

    def __post_init__(self) -> None:
        if self.face_embedding is not None and self.people:
            raise ConfigError(
                "The request has a face embedding and a list of people; put the face into the list."
            )

    @property
    def identities(self) -> tuple[PersonIdentity, ...]:
        """Everybody whose face is kept; empty for no identity."""
        if self.face_embedding is not None:
            return (PersonIdentity(face_embedding=self.face_embedding),)
        return self.people

    @property
    def output_frames(self) -> int:
        """Frames of the finished animation."""
        return select_frames(self.motion.num_frames, self.num_frames)

    @property
    def lead_frames(self) -> int:
        """Frames before the first output frame that are sampled and then dropped."""
        return 1 if self.window.anchor == "reference_pose" else 0


@dataclass(frozen=True, kw_only=True)
class RunNoise:
    """All random numbers of a run, standard normal, float32, on the CPU.

    Attributes:
        picture: [3, H, W], for the noise augmentation of the reference.
        latents: [window, c, h, w], repeated over the clip.
    """

    picture: Tensor
    latents: Tensor

    @staticmethod
    def drawn(request: AnimationRequest, latent_channels: int = 4) -> RunNoise:
        """Draw it; a seed gives the same first frames for clips of any length."""
        generator = torch.Generator(device="cpu").manual_seed(request.sampling.seed)
        height, width = request.size.height, request.size.width
        picture = draw_noise((3, height, width), generator)
        side = LATENT_SCALE
        shape = (request.window.frames, latent_channels, height // side, width // side)
        return RunNoise(picture=picture, latents=draw_noise(shape, generator))


class Animator:
    """Turns a reference picture and a motion into a video.

    Args:
        models: The networks.
        devices: Loads them when they are needed.
        monitor: Sees progress and may cancel.
    """

    def __init__(
        self, models: AnimatorModels, devices: DeviceManager, monitor: Monitor | None = None
    ) -> None:
        self.models = models
        self.devices = devices
        self.monitor = monitor or SilentMonitor()

    @torch.no_grad()
    def condition(
        self, request: AnimationRequest, noise: RunNoise | None = None
    ) -> ClipConditioning:
        """Encode reference, face and poses.

        Args:
            request: What to animate.
            noise: Random numbers; drawn from the seed if not given.

        Raises:
            ConfigError: If the size does not suit the model, or identities contradict each other.
            NoPoseError: If the anchor needs a reference pose that is not there, or identities
                need keypoints.
            ShapeError: If a face embedding or a region does not fit.
        """
        request.size.check_multiple(LATENT_SCALE * self.models.unet.latent_multiple)
        noise = noise or RunNoise.drawn(request, self.models.vae.latent_channels)
        device, dtype, models = self.devices.device, self.models.dtype, self.models
        sampling = request.sampling
        scale, regions = _identity_placement(request)
        fitted = fit_picture(request.reference, request.size, request.fit)
        # CLIP sees the whole picture, without letterbox bars, unless parts of it are cut off
        seen = fitted if request.fit == "crop" else request.reference
        with self.devices.loaded(models.image_encoder, models.face_encoder):
            image_tokens = encode_image_tokens(models.image_encoder, seen, device).to(dtype)
            faces = [person.face_embedding for person in request.identities]
            identity = encode_people(models.face_encoder, faces, image_tokens)
        self.monitor.raise_if_cancelled()
        activation = models.vae.activation_bytes(1, fitted.shape[0], fitted.shape[1])
        with self.devices.loaded(models.vae, activation_bytes=activation):
            latents = encode_reference_latents(
                models.vae, fitted, noise.picture, sampling.noise_augmentation, device
            )
        return ClipConditioning(
            image_tokens=image_tokens,
            identity_tokens=identity,
            added_time_ids=added_time_ids(sampling).to(device, dtype),
            reference_latents=latents.to(device, dtype),
            pose_features=self._encode_poses(request),
            identity_scale=scale,
            identity_regions=regions,
        )

    def _encode_poses(self, request: AnimationRequest) -> Tensor:
        num_frames = request.output_frames

        def pictures() -> Iterator[NDArray[np.uint8]]:
            if request.lead_frames:
                yield request.motion.reference_picture(request.size, request.fit)
            done = 0
            for chunk in request.motion.iter_pictures(num_frames, request.size, request.fit):
                self.monitor.raise_if_cancelled()
                yield chunk
                done += len(chunk)
                self.monitor.update(Progress(stage="poses", done=done, total=num_frames))

        with self.devices.loaded(self.models.pose_net):
            return encode_pose_features(
                self.models.pose_net,
                pictures(),
                num_frames + request.lead_frames,
                self.devices.device,
            )

    @torch.no_grad()
    def sample(
        self,
        request: AnimationRequest,
        *,
        correct_denoised: DenoisedCorrection | None = None,
        noise: RunNoise | None = None,
    ) -> Float[Tensor, "frames 4 h w"]:
        """Run all steps.

        Args:
            request: What to animate.
            correct_denoised: Improves the clean prediction at every step.
            noise: Random numbers; drawn from the seed if not given.

        Returns:
            Latents [frames, 4, h, w], float32, on the CPU, in the VAE's scaled latent space.
        """
        noise = noise or RunNoise.drawn(request, self.models.vae.latent_channels)
        conditioning = self.condition(request, noise)
        latents = noise.latents[:0]
        for state in self.iterate(request, conditioning, noise, correct_denoised):
            latents = state.latents
        return latents[request.lead_frames :].cpu()

    @torch.no_grad()
    def iterate(
        self,
        request: AnimationRequest,
        conditioning: ClipConditioning,
        noise: RunNoise,
        correct_denoised: DenoisedCorrection | None = None,
    ) -> Generator[EulerState, None, None]:
        """Run the sampler step by step; the states include the frames that are dropped later."""
        device, unet = self.devices.device, self.models.unet
        num_frames = request.output_frames + request.lead_frames
        windows = plan_windows(num_frames, request.window)
        sigmas = karras_sigmas(request.sampling.steps)
        total = len(windows) * request.sampling.steps
        done = 0

        def on_window(_index: int) -> None:
            nonlocal done
            self.monitor.raise_if_cancelled()
            self.monitor.update(Progress(stage="sampling", done=done, total=total))
            done += 1

        together = self._batch_branches(request, len(windows[0]))
        activation = self._activation_bytes(request, len(windows[0]), 2 if together else 1)
        with self.devices.loaded(unet, activation_bytes=activation):
            denoiser = GuidedDenoiser(
                network=unet,
                conditioning=conditioning,
                windows=windows,
                guidance=_guidance(request),
                together=together,
                device=device,
                dtype=self.models.dtype,
                on_window=on_window,
            )
            start = tile_noise(noise.latents, num_frames).to(device) * initial_noise_scale()
            for state in iterate_euler(denoiser, start, sigmas, correct_denoised):
                shown = state.denoised[request.lead_frames :]
                self.monitor.update(
                    Progress(stage="sampling", done=done, total=total, denoised=shown)
                )
                yield state

    def _batch_branches(self, request: AnimationRequest, window: int) -> bool:
        if not request.guidance.is_active:
            return False
        if request.guidance.batching != "auto":
            return request.guidance.batching == "together"
        weights = sum(p.nbytes for p in self.models.unet.parameters())
        need = self._activation_bytes(request, window, 2) + weights
        together = need < self.devices.free_bytes()
        log.debug("guidance branches %s: %d bytes needed", together, need)
        return together

    def _activation_bytes(self, request: AnimationRequest, window: int, branches: int) -> int:
        height, width = request.size.height // LATENT_SCALE, request.size.width // LATENT_SCALE
        return self.models.unet.activation_bytes(branches * window, height, width)

    @torch.no_grad()
    def decode(
        self, latents: Float[Tensor, "frames 4 h w"], config: DecodeConfig | None = None
    ) -> Generator[Float[Tensor, "n height width 3"], None, None]:
        """Decode chunk by chunk; only one chunk of pixels exists at a time.

        Args:
            latents: As `sample` returns them.
            config: Chunk length.

        Yields:
            Frames, float32 RGB [n, H, W, 3] in 0..1, on the CPU; `frames.picture_to_uint8`
            turns them into 8 bits.
        """
        config = config or DecodeConfig()
        total, vae = latents.shape[0], self.models.vae
        height, width = (LATENT_SCALE * side for side in latents.shape[-2:])
        activation = vae.activation_bytes(min(config.chunk_frames, total), height, width)
        done = 0
        with self.devices.loaded(vae, activation_bytes=activation):
            self.monitor.raise_if_cancelled()
            for part in vae.iter_decode(latents, config.chunk_frames, self.devices.device):
                frames = from_model_range(part).cpu()
                done += len(frames)
                self.monitor.update(Progress(stage="decoding", done=done, total=total))
                yield frames
                self.monitor.raise_if_cancelled()


def _guidance(request: AnimationRequest) -> Tensor | None:
    if not request.guidance.is_active:
        return None
    scales = guidance_scales(request.output_frames, request.guidance)
    return torch.cat((scales[:1].expand(request.lead_frames), scales))


def _identity_placement(request: AnimationRequest) -> tuple[float | Tensor, Tensor | None]:
    """Strength of the identity, a number or one per frame, and the regions if there are any."""
    people, sampling, lead = request.identities, request.sampling, request.lead_frames
    num_frames = request.output_frames
    regions = identity_regions(
        people, request.motion, num_frames, request.size, request.fit, lead_frames=lead
    )
    if not people or not sampling.identity_fade:
        return sampling.identity_scale, regions
    fade = identity_fade(people, request.motion, num_frames, sampling.identity_fade)
    # the reference's own pose shows the face of the photograph: it never fades
    fade = torch.cat((fade.new_ones(lead, len(people)), fade))
    if regions is None:
        return sampling.identity_scale * fade[:, 0], None
    return sampling.identity_scale, regions * fade[..., None, None]
