"""One guided, windowed call of the video network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..config import GuidanceConfig
from ..interfaces import ClipConditioning, Conditioning
from .noise import c_in, c_noise
from .windows import blend_weights

__all__ = ["GuidedDenoiser", "PredictVelocity", "guidance_scales"]

PredictVelocity = Callable[[Tensor, Tensor, Conditioning], Tensor]
"""The network: (sample [b, f, 8, h, w], timestep, conditioning) -> v [b, f, 4, h, w]."""


def guidance_scales(num_frames: int, config: GuidanceConfig) -> Float[Tensor, " frames"]:
    """Per-frame guidance, rising linearly from the first frame to the last."""
    return torch.linspace(config.minimum, config.maximum, num_frames)


@dataclass(frozen=True, kw_only=True)
class GuidedDenoiser:
    """Predicts v for a whole clip, window by window.

    Attributes:
        network: The video UNet; any callable with its signature.
        conditioning: What the clip is conditioned on.
        windows: Frame indices of every window, all of one length.
        guidance: Per-frame guidance scales [frames], or None to skip the unconditional branch.
        together: Run both branches as one batch.
        device: Device of the network.
        dtype: Dtype of the network.
        on_window: Called before every window, with the number of windows done; it may raise.
    """

    network: PredictVelocity
    conditioning: ClipConditioning
    windows: list[list[int]]
    guidance: Tensor | None
    together: bool
    device: torch.device
    dtype: torch.dtype
    on_window: Callable[[int], None] = lambda _done: None

    def __call__(
        self, latents: Float[Tensor, "frames 4 h w"], sigma: float
    ) -> Float[Tensor, "frames 4 h w"]:
        """Guided v-prediction, blended over the windows.

        Args:
            latents: Noisy latents [frames, 4, h, w], float32, not scaled.
            sigma: Their noise level.
        """
        scaled = latents * c_in(sigma)
        timestep = torch.tensor(c_noise(sigma), dtype=torch.float32, device=self.device)
        total = torch.zeros_like(latents)
        weight_sum = torch.zeros(latents.shape[0], 1, 1, 1, device=latents.device)
        weights = blend_weights(len(self.windows[0])).to(latents.device)[:, None, None, None]
        for done, window in enumerate(self.windows):
            self.on_window(done)
            prediction = self._guided(scaled, timestep, window)
            total[window] += prediction.to(total.device) * weights
            weight_sum[window] += weights
        return total / weight_sum

    def _guided(self, scaled: Tensor, timestep: Tensor, window: list[int]) -> Tensor:
        sample = scaled[window].to(self.device, self.dtype)
        conditional = self._branch(sample, window)
        if self.guidance is None:
            return self._predict([conditional], timestep)[0]
        branches = [self._unconditional(conditional), conditional]
        if self.together:
            unconditional, guided = self._predict(branches, timestep)
        else:
            unconditional, guided = (self._predict([b], timestep)[0] for b in branches)
        scale = self.guidance[window].to(guided.device)[:, None, None, None]
        return unconditional + scale * (guided - unconditional)

    def _branch(self, sample: Tensor, window: list[int]) -> _Branch:
        clip = self.conditioning
        reference = clip.reference_latents.expand(len(window), -1, -1, -1)
        scale, regions = clip.identity_scale, clip.identity_regions
        return _Branch(
            sample=torch.cat((sample, reference), dim=1)[None],
            conditioning=Conditioning(
                image_tokens=clip.image_tokens,
                identity_tokens=clip.identity_tokens,
                added_time_ids=clip.added_time_ids,
                pose_features=clip.pose_features[window].to(self.device, self.dtype)[None],
                identity_scale=scale[window].to(sample) if isinstance(scale, Tensor) else scale,
                identity_regions=None if regions is None else regions[window].to(sample),
            ),
        )

    def _unconditional(self, branch: _Branch) -> _Branch:
        """The same frames without reference, tokens and pose.

        Adding zero features is what the reference does by adding none.
        """
        given = branch.conditioning
        sample = branch.sample.clone()
        sample[:, :, sample.shape[2] // 2 :] = 0
        pose = given.pose_features
        return _Branch(
            sample=sample,
            conditioning=Conditioning(
                image_tokens=torch.zeros_like(given.image_tokens),
                identity_tokens=torch.zeros_like(given.identity_tokens),
                added_time_ids=given.added_time_ids,
                pose_features=torch.zeros_like(pose)
                if self.together and pose is not None
                else None,
                identity_scale=given.identity_scale,
                identity_regions=given.identity_regions,
            ),
        )

    def _predict(self, branches: list[_Branch], timestep: Tensor) -> Tensor:
        """Run branches as one batch; [branches, frames, 4, h, w] in float32."""
        batch = branches[0] if len(branches) == 1 else _Branch.joined(branches)
        return self.network(batch.sample, timestep, batch.conditioning).float()


@dataclass(frozen=True, kw_only=True)
class _Branch:
    """Input and conditioning of one guidance branch, or of several as a batch."""

    sample: Tensor
    conditioning: Conditioning

    @staticmethod
    def joined(branches: list[_Branch]) -> _Branch:
        parts = [b.conditioning for b in branches]
        poses = [p.pose_features for p in parts if p.pose_features is not None]
        scale, regions = parts[0].identity_scale, parts[0].identity_regions
        return _Branch(
            sample=torch.cat([b.sample for b in branches]),
            conditioning=Conditioning(
                image_tokens=torch.cat([p.image_tokens for p in parts]),
                identity_tokens=torch.cat([p.identity_tokens for p in parts]),
                added_time_ids=torch.cat([p.added_time_ids for p in parts]),
                pose_features=torch.cat(poses) if poses else None,
                identity_scale=scale.repeat(len(parts)) if isinstance(scale, Tensor) else scale,
                identity_regions=None if regions is None else regions.repeat(len(parts), 1, 1, 1),
            ),
        )
