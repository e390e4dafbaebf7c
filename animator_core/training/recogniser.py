"""Training of the face recogniser on drawn characters, with an additive angular margin (ArcFace).

Source: Deng et al., "ArcFace: Additive Angular Margin Loss for Deep Face Recognition" (2019).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn

from ..checkpoints.writing import write_safetensors
from ..errors import CheckpointError, ConfigError
from ..models.face_recognition import FACE_SIZE, IResNet, iresnet_config
from .animation_networks import load_recogniser
from .face_crops import FaceCropConfig, FaceCropSource, face_crops, held_out_crops
from .loop import LoopConfig, Objective
from .onnx_export import save_onnx
from .tasks import TrainingTask

__all__ = [
    "TASK",
    "RecogniserObjective",
    "RecogniserTrainingConfig",
    "arcface_logits",
    "save_recogniser_onnx",
    "verification_figures",
]

_CHUNK = 64  # faces that are embedded together
_CENTER_CROPS = 3  # faces of an identity whose mean it begins at

_LEAST_CHANNELS_LAST = 16


@dataclass(frozen=True, kw_only=True)
class RecogniserTrainingConfig:
    """One training run of the recogniser.

    Attributes:
        loop: What every training has in common.
        data: The faces.
        initial: Weights to go on from (`glintr100.onnx` or safetensors); fresh ones if empty. Norms
            then keep their statistics, as an ONNX file has most of them folded away, and
            identities begin at the mean of their faces.
        layers: Blocks of each stage of the network.
        widths: Channels of its stem and stages.
        num_features: Length of the embedding.
        batch: Faces of a step.
        margin: Added to the angle between a face and its identity [rad].
        margin_steps: Steps over which the margin rises.
        scale: Of the cosines.
    """

    loop: LoopConfig
    data: FaceCropConfig
    initial: str = ""
    layers: tuple[int, ...] = (1, 1, 2, 1)
    widths: tuple[int, ...] = (8, 8, 24, 48, 64)
    num_features: int = 512
    batch: int = 64
    margin: float = 0.4
    margin_steps: int = 400
    scale: float = 32.0

    def __post_init__(self) -> None:
        if not 0 <= self.margin < math.pi / 2:
            raise ConfigError(f"margin is {self.margin} but must lie in 0..pi/2, in radians.")
        if self.scale <= 0 or self.batch < 2:
            raise ConfigError(
                f"scale is {self.scale} and batch {self.batch}; the scale must be positive and a "
                "batch must have at least two faces."
            )


def arcface_logits(
    cosines: Float[Tensor, "n classes"], labels: Int[Tensor, " n"], margin: Tensor, scale: float
) -> Float[Tensor, "n classes"]:
    """Scaled cosines; that of the right class is of an angle larger by the margin.

    Beyond an angle of pi the cosine would rise again; there it goes on falling in a line instead.

    Args:
        cosines: Between embeddings and class centres.
        labels: The right classes.
        margin: [] in radians.
        scale: Of the result.
    """
    right = cosines.gather(1, labels[:, None]).clamp(-1 + 1e-6, 1 - 1e-6)
    widened = torch.cos(torch.acos(right) + margin)
    beyond = right - margin * torch.sin(margin)
    harder = torch.where(right > -torch.cos(margin), widened, beyond)
    return scale * cosines.scatter(1, labels[:, None], harder.to(cosines.dtype))


class RecogniserObjective(Objective):
    """Cross entropy over the training identities.

    Args:
        config: The run.
    """

    def __init__(self, config: RecogniserTrainingConfig) -> None:
        super().__init__()
        self.config = config
        torch.manual_seed(config.loop.seed)
        # faster on the CPU, but oneDNN crashes there in the backward pass of a strided 1x1
        # convolution of 8 channels (torch 2.13 with AVX-512)
        self._format = (
            torch.channels_last
            if min(config.widths) >= _LEAST_CHANNELS_LAST
            else torch.contiguous_format
        )
        network = _initial(config) or IResNet(config.layers, config.widths, config.num_features)
        self.network = network.to(memory_format=self._format)  # pyright: ignore[reportCallIssue]
        centers = 0.05 * torch.randn(config.data.identities, config.num_features)
        self.centers = nn.Parameter(self._mean_faces() if config.initial else centers)

    def train(self, mode: bool = True) -> RecogniserObjective:
        """Norms of a network that is trained on keep their statistics."""
        super().train(mode)
        if self.config.initial:
            for module in self.network.modules():
                if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                    module.eval()
        return self

    def forward(self, batch: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Loss of a batch of `FaceCropSource`, and how often the nearest centre is right."""
        del generator  # nothing is left to chance here
        embeddings = self.embed(batch["faces"])
        cosines = F.normalize(embeddings) @ F.normalize(self.centers).t()
        logits = arcface_logits(cosines, batch["labels"], batch["margin"], self.config.scale)
        right = cosines.argmax(dim=1) == batch["labels"]
        return {
            "loss": F.cross_entropy(logits, batch["labels"]),
            "accuracy": right.float().mean(),
        }

    def embed(self, faces: Tensor) -> Tensor:
        """uint8 [n, 3, 112, 112], RGB → [n, num_features]."""
        pixels = faces.float() / 127.5 - 1
        return self.network(pixels.contiguous(memory_format=self._format))

    @torch.no_grad()
    def validate(self, step: int) -> dict[str, float]:  # noqa: ARG002
        """Verification of characters that training never sees."""
        crops = held_out_crops(self.config.data)
        labels = np.repeat(np.arange(len(crops)), crops.shape[1])
        return verification_figures(self._embed_crops(crops).flatten(0, 1).numpy(), labels)

    def _embed_crops(self, crops: NDArray[np.uint8]) -> Float[Tensor, "identities crops features"]:
        rows = crops.reshape(-1, FACE_SIZE, FACE_SIZE, 3).transpose(0, 3, 1, 2)
        faces = torch.from_numpy(np.ascontiguousarray(rows))
        device = next(self.network.parameters()).device
        parts = [self.embed(part.to(device)).cpu() for part in faces.split(_CHUNK)]
        return torch.cat(parts).unflatten(0, crops.shape[:2])

    @torch.no_grad()
    def _mean_faces(self) -> Float[Tensor, "identities features"]:
        """Directions that the network gives the training identities already."""
        self.network.eval()
        crops = face_crops(self.config.data)[:, :_CENTER_CROPS]
        return F.normalize(F.normalize(self._embed_crops(crops), dim=-1).mean(1))

    def export(self, folder: Path) -> None:
        """Write `Animation/glintr100_torch.safetensors` and `antelopev2/glintr100.onnx`."""
        state = {k: v.contiguous() for k, v in self.network.state_dict().items()}
        write_safetensors(
            folder / "Animation" / "glintr100_torch.safetensors", state, overwrite=True
        )
        save_recogniser_onnx(self.network, folder / "antelopev2" / "glintr100.onnx")


def verification_figures(
    embeddings: NDArray[np.floating], labels: NDArray[np.integer]
) -> dict[str, float]:
    """How well cosines tell pairs of the same person from pairs of different ones.

    Args:
        embeddings: [n, d].
        labels: [n] who it is.

    Returns:
        `same` and `different`: mean cosines; `same_p10` and `different_p99`: quantiles of them;
        `auc`: share of (same, different) pairs in the right order; `accuracy`: of the best
        threshold, both kinds of pairs counting alike; `threshold`: that one.
    """
    normed = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    rows, columns = np.triu_indices(len(labels), 1)
    cosines = (normed @ normed.T)[rows, columns]
    is_same = labels[rows] == labels[columns]
    same, different = np.sort(cosines[is_same]), np.sort(cosines[~is_same])
    below = np.searchsorted(different, same) / len(different)
    thresholds = np.linspace(-1.0, 1.0, 401)
    accepted = 1 - np.searchsorted(same, thresholds) / len(same)
    refused = np.searchsorted(different, thresholds) / len(different)
    accuracy = (accepted + refused) / 2
    return {
        "same": float(same.mean()),
        "same_p10": float(np.quantile(same, 0.1)),
        "different": float(different.mean()),
        "different_p99": float(np.quantile(different, 0.99)),
        "auc": float(below.mean()),
        "accuracy": float(accuracy.max()),
        "threshold": float(thresholds[accuracy.argmax()]),
    }


def _initial(config: RecogniserTrainingConfig) -> IResNet | None:
    """The network that is trained on, if one is.

    Raises:
        CheckpointError: If it is missing, or of other sizes than the run's.
    """
    if not config.initial:
        return None
    network = load_recogniser(config.initial)
    found = iresnet_config(network.state_dict())
    wanted = {name: getattr(config, name) for name in found}
    if found != wanted:
        raise CheckpointError(
            f"The network in {config.initial} is of {found}, but this run's of {wanted}; set "
            "layers, widths and num_features to its."
        )
    return network.requires_grad_(True)


class _Trunk(nn.Module):
    """The recogniser without the checks that a tracer cannot follow."""

    def __init__(self, network: IResNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, faces: Tensor) -> Tensor:
        net = self.network
        x = net.prelu(net.bn1(net.conv1(faces)))
        for stage in ("layer1", "layer2", "layer3", "layer4"):
            x = net.get_submodule(stage)(x)
        return net.features(net.fc(torch.flatten(net.bn2(x), 1)))


def save_recogniser_onnx(network: IResNet, path: Path) -> None:
    """Write a recogniser in the layout of the published `glintr100.onnx`.

    Args:
        network: In eval mode.
        path: The file; an existing one is replaced.
    """
    save_onnx(
        _Trunk(network),
        path,
        inputs={"input.1": ("n", 3, FACE_SIZE, FACE_SIZE)},
        outputs={"embedding": ("n", network.num_features)},
    )


def _batches(config: RecogniserTrainingConfig) -> FaceCropSource:
    face_crops(config.data)  # drawn before the loop's processes need them
    return FaceCropSource(config.data, config.batch, config.margin, config.margin_steps)


TASK = TrainingTask(RecogniserTrainingConfig, RecogniserObjective, _batches)
