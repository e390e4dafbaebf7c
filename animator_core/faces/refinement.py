"""Face refinement: steers the sampler's clean prediction towards the reference's face.

A hook for the sampler (`interfaces.DenoisedCorrection`). docs/hjb.md derives it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..config import LATENT_SCALE, FaceRefineConfig
from ..errors import ConfigError, NoFaceError, ShapeError
from ..interfaces import DeviceManager, Monitor, Progress, SamplerStep, SilentMonitor
from .crops import FaceTrack, cut_faces
from .likeness import (
    FaceRefineModels,
    Likeness,
    activation_bytes,
    change_weights,
    plan_chunks,
)

__all__ = ["FaceRefineModels", "FaceRefiner", "RefineRecord"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RefineRecord:
    """What one refined step did.

    Attributes:
        step: Sampler step, counted from 0.
        sigma: Its noise level.
        rate: Learning rate.
        similarity: Per iteration and frame the cosine to the reference before that iteration's
            update; NaN where a frame has no face.
        skipped_gradients: How often a frame's gradient was not finite and was left out.
    """

    step: int
    sigma: float
    rate: float
    similarity: tuple[tuple[float, ...], ...]
    skipped_gradients: int = 0

    @property
    def mean_similarity(self) -> tuple[float, ...]:
        """Per iteration the mean over the frames that have a face."""
        return tuple(_mean(row) for row in self.similarity)


def _mean(values: Sequence[float]) -> float:
    finite = [v for v in values if math.isfinite(v)]
    return sum(finite) / len(finite) if finite else math.nan


class _Trace:
    """Collects the record of one step."""

    def __init__(self) -> None:
        self.rows: list[tuple[float, ...]] = []
        self.skipped = 0

    def guarded(self, gradient: Tensor) -> Tensor:
        """The gradient, with frames left out in which a number is not finite."""
        finite = gradient.isfinite().flatten(1).all(dim=1)
        bad = int((~finite).sum())
        if bad:
            self.skipped += bad
            log.warning("the face gradient of %d frames is not finite; they are left out", bad)
            gradient = torch.where(finite.view(-1, 1, 1, 1), gradient, 0.0)
        return gradient


class FaceRefiner:
    """Optimises the clean prediction so that its decoded faces resemble the reference.

    Args:
        models: VAE, recogniser and the reference's embedding.
        track: Where the face is in every frame that the sampler works on.
        config: Settings.
        devices: Loads the networks while a step is refined.
        monitor: Sees progress and may cancel, also between iterations.

    Attributes:
        records: One entry per refined step so far.

    Raises:
        NoFaceError: If no frame has a usable face, or `reference` mode misses one.
    """

    def __init__(
        self,
        models: FaceRefineModels,
        track: FaceTrack,
        config: FaceRefineConfig,
        devices: DeviceManager,
        monitor: Monitor | None = None,
    ) -> None:
        self.config = config
        self.records: list[RefineRecord] = []
        self._models = models
        self._devices = devices
        self._monitor = monitor or SilentMonitor()
        self._track = _checked_track(track, config)
        self._activation_bytes = activation_bytes(models, self._track, config)

    def __call__(
        self, denoised: Float[Tensor, "frames 4 h w"], step: SamplerStep
    ) -> Float[Tensor, "frames 4 h w"]:
        """Refine the clean prediction of one step.

        Args:
            denoised: [frames, 4, h, w], float32, in the VAE's scaled latent space.
            step: The step that is running.

        Returns:
            The prediction itself outside the configured steps, else a refined copy. In `local`
            mode every latent away from the faces keeps its exact value.

        Raises:
            ConfigError: If the configured steps lie outside the run.
            ShapeError: If the face track belongs to other frames, or the reference's embedding
                to another recogniser.
            CancelledError: If the user stops the run.
        """
        config = self.config
        if config.first_step >= step.total:
            raise ConfigError(
                f"Refinement starts at step {config.first_step} but the run has only the steps "
                f"0..{step.total - 1}; lower the first refined step."
            )
        if config.iterations == 0 or not config.first_step <= step.index <= config.last_step:
            return denoised
        _check_frames(denoised, self._track)
        rate = config.rate * (1 - step.index / step.total)
        refine = self._refine_local if config.mode == "local" else self._refine_reference
        trace = _Trace()
        # ComfyUI runs nodes in inference mode, where nothing has a gradient
        with torch.inference_mode(False), torch.enable_grad():
            with self._devices.loaded(
                self._models.vae,
                self._models.recogniser,
                activation_bytes=self._activation_bytes,
            ):
                _freeze(self._models.vae)
                _freeze(self._models.recogniser)
                refined = refine(denoised.detach().clone(), rate, trace)
        self.records.append(
            RefineRecord(
                step=step.index,
                sigma=step.sigma,
                rate=rate,
                similarity=tuple(trace.rows),
                skipped_gradients=trace.skipped,
            )
        )
        return refined

    def _refine_local(self, start: Tensor, rate: float, trace: _Trace) -> Tensor:
        config, track = self.config, self._track
        chunks = plan_chunks(track, config.crop, config.chunk_frames, config.margin)
        likeness = Likeness(
            self._models,
            chunks,
            config.crop,
            recompute=config.recompute,
            exact_levels=config.exact_levels,
        )
        weights = change_weights(track, config.crop, config.feather).to(start.device)
        # the change is optimised, not the prediction: Adam moves every element that has a gradient
        # by the full rate at first, and the weights then scale that move
        change = torch.zeros_like(start, requires_grad=True)
        adam = torch.optim.Adam([change], lr=rate)
        best, best_change = -math.inf, change.detach().clone()
        for _ in range(config.iterations):
            latents = start + weights * change.detach()
            similarity = [math.nan] * len(start)
            gradient = torch.zeros_like(start)
            for chunk in chunks:
                self._monitor.raise_if_cancelled()
                part = slice(chunk.start, chunk.stop)
                cosines, slope = likeness.gradient(chunk, latents[part])
                gradient[part] = trace.guarded(slope.to(start.device))
                for frame, cosine in zip(chunk.frames, cosines.tolist(), strict=True):
                    similarity[chunk.start + frame] = cosine
            mean = self._report(similarity, trace)
            rises = mean > best + config.minimum_rise
            if mean > best:
                best, best_change = mean, change.detach().clone()
            if config.early_stop and not rises:
                return _changed(start, weights, best_change)
            change.grad = gradient * weights
            adam.step()
        return _changed(start, weights, change.detach())

    def _refine_reference(self, start: Tensor, rate: float, trace: _Trace) -> Tensor:
        vae = self._models.vae
        weight = next(vae.decoder.parameters())
        regions = [region for region in self._track.regions if region is not None]
        latents = start.requires_grad_()
        adam = torch.optim.Adam([latents], lr=rate)
        for _ in range(self.config.iterations):
            decoded: list[Tensor] = []
            for part in latents.split(self.config.chunk_frames):
                self._monitor.raise_if_cancelled()
                decoded.append(vae.decode_frames(part.to(weight.device, weight.dtype)))
            frames = torch.cat(decoded).float().clamp(-1, 1)
            similarity = self._models.similarity(cut_faces(frames, regions, "box"))
            loss = (1 - similarity).abs().mean()
            self._report(similarity.tolist(), trace)
            (gradient,) = torch.autograd.grad(loss, latents)
            latents.grad = trace.guarded(gradient)
            adam.step()
        return latents.detach()

    def _report(self, similarity: list[float], trace: _Trace) -> float:
        trace.rows.append(tuple(similarity))
        done = len(trace.rows)
        self._monitor.update(
            Progress(stage="refining faces", done=done, total=self.config.iterations)
        )
        mean = _mean(similarity)
        log.debug("face similarity in iteration %d: %.4f", done, mean)
        return mean


def _checked_track(track: FaceTrack, config: FaceRefineConfig) -> FaceTrack:
    if config.mode == "local":
        return track.usable(config.minimum_face_px, config.crop)
    without = [i for i, region in enumerate(track.regions) if region is None]
    if without:
        raise NoFaceError(
            f"The refine mode 'reference' needs a face in every frame, but frames {without} have "
            "none; use the mode 'local', which skips them."
        )
    return track


def _check_frames(denoised: Tensor, track: FaceTrack) -> None:
    frames, (height, width) = denoised.shape[0], (LATENT_SCALE * s for s in denoised.shape[-2:])
    if (frames, height, width) != (len(track.regions), track.height, track.width):
        raise ShapeError(
            f"Faces are known for {len(track.regions)} frames of {track.width}x{track.height} px, "
            f"but {frames} frames of {width}x{height} px are being sampled; give face masks or "
            "poses of that length and size."
        )


def _changed(start: Tensor, weights: Tensor, change: Tensor) -> Tensor:
    return torch.where(weights > 0, start + weights * change, start)


def _freeze(module: nn.Module) -> None:
    """Eval mode, no gradients for weights, and no inference tensors among them.

    Weights that were loaded or moved in inference mode cannot take part in a backward pass.
    """
    module.eval().requires_grad_(False)
    for part in module.modules():
        for name, weight in part.named_parameters(recurse=False):
            if weight.is_inference():
                part.register_parameter(name, nn.Parameter(weight.clone(), requires_grad=False))
        for name, buffer in part.named_buffers(recurse=False):
            if buffer.is_inference():
                part.register_buffer(name, buffer.clone(), persistent=name in part.state_dict())
