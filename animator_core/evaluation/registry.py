"""All metrics by name: what they mean, and how they are opened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ..config import WindowConfig
from ..errors import ConfigError
from .csim import CsimMeasure, open_face_analyzer
from .fvd import FvdMeasure, load_i3d
from .l1 import l1, l1_published
from .lpips import FeatureNet, load_lpips
from .measures import FrameMeasure, Measure, MetricUnavailableError
from .pose_error import FindPoses, PoseMeasure
from .psnr import psnr, psnr_published
from .seams import SeamMeasure
from .ssim import ssim, ssim_published

__all__ = ["DEFAULT_METRICS", "METRICS", "MetricInfo", "Resources", "open_measures"]

DEFAULT_METRICS = ("l1", "psnr", "psnr_published", "ssim", "lpips", "fvd", "csim")


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What metrics may need.

    Attributes:
        weights_folder: Feature networks of LPIPS and FVD.
        face_folders: Where antelopev2 is looked for.
        device: Where feature networks run.
        windows: Windows that the clips were sampled with.
        find_poses: Finds poses in frames; None if there are no pose networks.
    """

    weights_folder: Path | None = None
    face_folders: list[Path] = field(default_factory=list)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    windows: WindowConfig = field(default_factory=WindowConfig)
    find_poses: FindPoses | None = None


@dataclass(frozen=True, kw_only=True)
class MetricInfo:
    """A metric.

    Attributes:
        protocol: How it is computed, in a sentence.
        better: "higher" or "lower".
        published: StableAnimator's values on TikTok and Unseen100, where the same is measured.
        open: Makes it ready.
    """

    protocol: str
    better: str
    open: Callable[[Resources], Measure]
    published: str = ""


def _open_lpips(net: FeatureNet, published_range: bool) -> Callable[[Resources], Measure]:
    def opened(resources: Resources) -> Measure:
        lpips = load_lpips(resources.weights_folder, net, published_range=published_range)
        return FrameMeasure(lpips.to(resources.device).distance)

    return opened


METRICS: dict[str, MetricInfo] = {
    "l1": MetricInfo(
        protocol="mean absolute difference of 8-bit RGB, as a share of 255; mean over frames",
        better="lower",
        open=lambda _: FrameMeasure(l1),
    ),
    "l1_published": MetricInfo(
        protocol="mean absolute difference on 0..255 divided by the picture's number of pixels "
        "(DisCo's script); depends on the picture's size",
        better="lower",
        published="2.87e-4 / 2.71e-4",
        open=lambda _: FrameMeasure(l1_published),
    ),
    "psnr": MetricInfo(
        protocol="10 log10(255²/MSE) over the RGB pixels of a frame [dB]; mean over frames, "
        "equal frames count as 100",
        better="higher",
        open=lambda _: FrameMeasure(psnr),
    ),
    "psnr_published": MetricInfo(
        protocol="as psnr, but difference and square wrap around in 8 bits (DisCo's script), "
        "which is wrong and usually far too high; only for comparing with published tables",
        better="higher",
        published="30.81 / 28.85",
        open=lambda _: FrameMeasure(psnr_published),
    ),
    "ssim": MetricInfo(
        protocol="torchmetrics, RGB, Gaussian window 11x11 px with sigma 1.5, k1 .01, k2 .03, "
        "mirrored edges; mean over frames",
        better="higher",
        open=lambda _: FrameMeasure(ssim),
    ),
    "ssim_published": MetricInfo(
        protocol="8-bit grey, uniform window 7x7 px, sample covariance (scikit-image's defaults "
        "in DisCo's script); mean over frames",
        better="higher",
        open=lambda _: FrameMeasure(ssim_published),
    ),
    "lpips": MetricInfo(
        protocol="LPIPS 0.1 over AlexNet, pictures in -1..1 at their own size; mean over frames",
        better="lower",
        open=_open_lpips("alex", False),
    ),
    "lpips_vgg": MetricInfo(
        protocol="LPIPS 0.1 over VGG-16, pictures in -1..1 at their own size; mean over frames",
        better="lower",
        open=_open_lpips("vgg", False),
    ),
    "lpips_published": MetricInfo(
        protocol="LPIPS 0.1 over VGG-16 fed with 0..1 instead of -1..1 (DisCo's script); mean "
        "over frames",
        better="lower",
        open=_open_lpips("vgg", True),
    ),
    "fvd": MetricInfo(
        protocol="Fréchet distance of I3D logits (Kinetics-400) over clips of 16 frames that do "
        "not overlap, shorter side to 224 px, centre 224x224; biased upwards for few clips",
        better="lower",
        published="140.62 / 349.94",
        open=lambda r: FvdMeasure(load_i3d(r.weights_folder), r.device),
    ),
    "csim": MetricInfo(
        protocol="ArcFace cosine (antelopev2) between the reference face and the most similar "
        "face of each generated frame; mean over frames that show a face",
        better="higher",
        published=".831 / .805",
        open=lambda r: CsimMeasure(open_face_analyzer(r.face_folders)),
    ),
    "pose_error": MetricInfo(
        protocol="mean distance of the 18 body joints between generated and driven pose, as a "
        "share of the torso's length (neck to mid-hip); mean over frames",
        better="lower",
        open=lambda r: PoseMeasure(r.find_poses),
    ),
    "seams": MetricInfo(
        protocol="mean absolute change between generated frames at window borders, over that "
        "elsewhere; 1 is seamless",
        better="lower",
        open=lambda r: SeamMeasure(r.windows),
    ),
}


def open_measures(
    names: Sequence[str], resources: Resources
) -> tuple[dict[str, Measure], dict[str, str]]:
    """Make metrics ready.

    Args:
        names: Of `METRICS`.
        resources: What they may need.

    Returns:
        The metrics that can be computed, and for each other one the reason.

    Raises:
        ConfigError: If a name is unknown or there is none.
        CheckpointError: If a weight file is there but damaged, unsafe, or another network.
    """
    unknown = [name for name in names if name not in METRICS]
    if unknown or not names:
        raise ConfigError(
            f"Unknown metric {', '.join(unknown) or '(none given)'}; use some of "
            f"{', '.join(METRICS)}."
        )
    opened: dict[str, Measure] = {}
    reasons: dict[str, str] = {}
    for name in names:
        try:
            opened[name] = METRICS[name].open(resources)
        except MetricUnavailableError as error:
            reasons[name] = str(error)
    return opened, reasons
