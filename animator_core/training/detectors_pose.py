"""Training of a small pose network in the layout of RTMPose with SimCC outputs, on drawn people.

Two outputs, simcc_x [n, 133, bins] and simcc_y: every joint's column and row, as classes. The
largest number of a row says where the joint is, and how certain that is.

Sources of the layout: Li et al., "SimCC" (2021), and Jiang et al., "RTMPose" (2023), as published
in DWPose's `dw-ll_ucoco_384.onnx`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from ..errors import ConfigError
from ..pose.skeletons import NUM_BODY, NUM_FACE
from ..pose.wholebody import NUM_WHOLEBODY, crop_frame, crop_person, decode_simcc, to_openpose
from .detector_data import DetectorDataConfig, PicturePool, Scenery, Shown, compose, draw_pictures
from .detectors import ConvBlock, Residual
from .loop import LoopConfig, Objective
from .onnx_export import save_onnx
from .tasks import TrainingTask

__all__ = [
    "TASK",
    "PoseDetectorConfig",
    "PoseDetectorObjective",
    "PoseNetwork",
    "PoseSource",
    "save_pose_detector",
    "simcc_targets",
]

_STRIDE = 16
_NUM_FEET = 6
_SHARPNESS = 10.0  # of the softmax over bins; the published networks were trained with it
_SEEN, _NOT_SEEN = 1.0, -0.3  # largest number of a row; below 0 the joint counts as absent


@dataclass(frozen=True, kw_only=True)
class PoseDetectorConfig:
    """One training run of the pose network.

    Attributes:
        loop: What every training has in common.
        data: The pictures.
        height: Of the network's input [px]; a multiple of 16.
        width: Of the network's input [px]; a multiple of 16.
        split_ratio: Bins per pixel.
        widths: Channels at strides 2, 4, 8 and 16.
        hidden: Numbers that describe a joint's place.
        batch: People of a step.
        spread_px: Deviation of the target's bell [px].
        certainty_weight: Of the loss of the largest numbers.
        box_error: Deviation of the boxes' sides, as a share of their size.
        canvas: Side of the pictures that people are cut from [px].
    """

    loop: LoopConfig
    data: DetectorDataConfig
    height: int = 192
    width: int = 144
    split_ratio: int = 2
    widths: tuple[int, ...] = (12, 24, 40, 80)
    hidden: int = 192
    batch: int = 16
    spread_px: float = 2.0
    certainty_weight: float = 2.0
    box_error: float = 0.05
    canvas: int = 192

    def __post_init__(self) -> None:
        if self.height % _STRIDE or self.width % _STRIDE:
            raise ConfigError(
                f"The pose network's input is {self.width}x{self.height} px, but both sides must "
                f"be multiples of {_STRIDE}."
            )
        if len(self.widths) != 4:
            raise ConfigError(f"widths is {self.widths}; give four, of strides 2, 4, 8 and 16.")


class PoseNetwork(nn.Module):
    """Columns and rows of 133 joints.

    Args:
        config: Sizes.
    """

    def __init__(self, config: PoseDetectorConfig) -> None:
        super().__init__()
        first, second, third, last = config.widths
        self.body = nn.Sequential(
            ConvBlock(3, first, 2),
            ConvBlock(first, second, 2),
            ConvBlock(second, third, 2),
            Residual(third),
            ConvBlock(third, last, 2),
            Residual(last),
            Residual(last),
        )
        self.joints = nn.Conv2d(last, NUM_WHOLEBODY, 3, padding=1)
        cells = (config.height // _STRIDE) * (config.width // _STRIDE)
        self.place = nn.Sequential(nn.Linear(cells, config.hidden), nn.ReLU())
        self.columns = nn.Linear(config.hidden, config.width * config.split_ratio)
        self.rows = nn.Linear(config.hidden, config.height * config.split_ratio)

    def forward(self, people: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers of every bin.

        Args:
            people: [n, 3, height, width], RGB, normalised by ImageNet's mean and deviation.

        Returns:
            [n, 133, width x split] and [n, 133, height x split].
        """
        place = self.place(self.joints(self.body(people)).flatten(2))
        return self.columns(place), self.rows(place)


def save_pose_detector(network: PoseNetwork, path: Path, config: PoseDetectorConfig) -> None:
    """Write a network in the layout of the published `dw-ll_ucoco_384.onnx`.

    Args:
        network: In eval mode.
        path: The file; an existing one is replaced.
        config: Sizes.
    """
    sides = {"simcc_x": config.width, "simcc_y": config.height}
    save_onnx(
        network,
        path,
        inputs={"input": ("batch", 3, config.height, config.width)},
        outputs={k: ("batch", NUM_WHOLEBODY, config.split_ratio * v) for k, v in sides.items()},
    )


def _wholebody_places() -> NDArray[np.int64]:
    """For each of body, face and hands without the neck: its place among the 133."""
    numbers = np.repeat(np.arange(NUM_WHOLEBODY, dtype=np.float64)[:, None], 3, axis=1)
    openpose = to_openpose(numbers[None])[0, :, 0]
    return np.delete(openpose, np.r_[1, NUM_BODY : NUM_BODY + _NUM_FEET]).astype(np.int64)


def _to_wholebody(person: Shown) -> NDArray[np.float64]:
    """[133, 3] x, y [px], and 1 where the joint is to be seen; feet are not among ours."""
    joints = np.zeros((NUM_WHOLEBODY, 3))
    ours = np.concatenate([person.joints, person.seen[:, None]], axis=1)
    joints[_wholebody_places()] = np.delete(ours, 1, axis=0)  # the neck is not among theirs
    return joints


@dataclass(frozen=True)
class PoseSource:
    """Draws batches of people, cut out, and their joints.

    Attributes:
        folder: Of the drawn pictures.
        config: The run.
    """

    folder: Path
    config: PoseDetectorConfig

    def __call__(self, step: int, seed: int) -> dict[str, Tensor]:  # noqa: ARG002
        """`people` [n, 3, h, w] normalised, and `joints` [n, 133, 3] in pixels of the crop."""
        config, lot = self.config, np.random.default_rng(seed)
        pool = PicturePool(self.folder)
        scenery = Scenery(height=config.canvas, width=config.canvas, padding=0)
        crops: list[NDArray[np.float32]] = []
        joints: list[NDArray[np.float64]] = []
        while len(crops) < config.batch:
            picture, people = compose(lot, pool, scenery, config.data)
            for person in people[: config.batch - len(crops)]:
                crop, points = _cut_out(lot, picture, person, config)
                crops.append(crop)
                joints.append(points)
        return {
            "people": torch.from_numpy(np.stack(crops)),
            "joints": torch.from_numpy(np.stack(joints).astype(np.float32)),
        }


def _cut_out(
    lot: np.random.Generator,
    picture: NDArray[np.uint8],
    person: Shown,
    config: PoseDetectorConfig,
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    size = np.tile(person.box[2:] - person.box[:2], 2)
    box = person.box + config.box_error * size * lot.standard_normal(4)
    frame = crop_frame(box, config.width / config.height)
    crop = crop_person(picture, frame, config.height, config.width)
    sides = np.array([config.width, config.height])
    joints = _to_wholebody(person)
    joints[:, :2] = (joints[:, :2] - frame[0]) * sides / frame[1] + sides / 2
    inside = ((joints[:, :2] >= 0) & (joints[:, :2] <= sides - 1)).all(axis=1)
    joints[:, 2] *= inside
    return crop, joints


def simcc_targets(
    places: Float[Tensor, "n joints"], bins: int, spread: float
) -> Float[Tensor, "n joints {bins}"]:
    """Bells around places, each of sum 1.

    Args:
        places: In bins.
        bins: Number of bins.
        spread: Deviation of the bell, in bins.
    """
    numbers = torch.arange(bins, device=places.device, dtype=places.dtype)
    return torch.softmax(-0.5 * ((numbers - places[..., None]) / spread).square(), dim=-1)


class PoseDetectorObjective(Objective):
    """Cross entropy over bins, and the certainty of every joint.

    Args:
        config: The run.
    """

    def __init__(self, config: PoseDetectorConfig) -> None:
        super().__init__()
        self.config = config
        torch.manual_seed(config.loop.seed)
        self.network = PoseNetwork(config).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Losses of a batch of `PoseSource`."""
        del generator  # nothing is left to chance here
        config, joints = self.config, batch["joints"]
        people = batch["people"].contiguous(memory_format=torch.channels_last)
        seen = joints[..., 2]
        where = joints.new_zeros(())
        sure = joints.new_zeros(())
        for axis, numbers in enumerate(self.network(people)):
            places = joints[..., axis] * config.split_ratio
            spread = config.spread_px * config.split_ratio
            wanted = simcc_targets(places, numbers.shape[-1], spread)
            likely = F.log_softmax(_SHARPNESS * numbers, dim=-1)
            divergence = F.kl_div(likely, wanted, reduction="none").sum(-1)
            where = where + (divergence * seen).sum() / seen.sum().clamp(min=1)
            target = seen * (_SEEN - _NOT_SEEN) + _NOT_SEEN
            sure = sure + F.smooth_l1_loss(numbers.amax(dim=-1), target, beta=0.2)
        return {
            "loss": where + config.certainty_weight * sure,
            "where": where,
            "sure": sure,
        }

    @torch.no_grad()
    def validate(self, step: int) -> dict[str, float]:  # noqa: ARG002
        """Errors on people that training never sees: of the body in torsos, of faces in faces."""
        config = self.config
        source = PoseSource(draw_pictures(config.data, "test"), config)
        device = next(self.network.parameters()).device
        places = _wholebody_places()
        body, hands = slice(0, NUM_BODY - 1), slice(NUM_BODY - 1 + NUM_FACE, None)
        face = slice(NUM_BODY - 1, NUM_BODY - 1 + NUM_FACE)
        errors: dict[str, list[float]] = {"body": [], "face": [], "hands": []}
        certain: list[bool] = []
        for number in range(max(config.data.held_out // config.batch, 1)):
            batch = source(0, config.loop.seed * 1000 + number)
            outputs = (part.cpu().numpy() for part in self.network(batch["people"].to(device)))
            bins, scores = decode_simcc(*outputs)
            joints = batch["joints"].numpy()[:, places]
            away = np.linalg.norm(bins[:, places] / config.split_ratio - joints[..., :2], axis=2)
            seen = joints[..., 2] > 0
            certain += ((scores[:, places] > 0) == seen).ravel().tolist()
            units = _units(joints)
            for name, part in (("body", body), ("face", face), ("hands", hands)):
                unit = units[int(name == "face")]
                errors[name] += (away / unit[:, None])[:, part][seen[:, part]].tolist()
        result = {f"{k}_error": float(np.mean(v)) if v else 0.0 for k, v in errors.items()}
        within = np.array(errors["body"]) < 0.1
        return {
            **result,
            "body_within_tenth": float(within.mean()),
            "certain": float(np.mean(certain)),
        }

    def export(self, folder: Path) -> None:
        """Write `DWPose/dw-ll_ucoco_384.onnx`."""
        path = folder / "DWPose" / "dw-ll_ucoco_384.onnx"
        save_pose_detector(self.network, path, self.config)


def _units(joints: NDArray[np.floating]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Lengths of torsos and heights of faces [px], of joints in our order without the neck."""
    body = joints[:, : NUM_BODY - 1, :2]
    # without the neck, the joints after it move up by one
    shoulders, hips = body[:, [1, 4]].mean(axis=1), body[:, [7, 10]].mean(axis=1)
    face = joints[:, NUM_BODY - 1 : NUM_BODY - 1 + NUM_FACE, 1]
    torso = np.linalg.norm(shoulders - hips, axis=1)
    return np.maximum(torso, 1e-3), np.maximum(np.ptp(face, axis=1), 1e-3)


TASK = TrainingTask(
    PoseDetectorConfig,
    PoseDetectorObjective,
    lambda config: PoseSource(draw_pictures(config.data, "train"), config),
)
