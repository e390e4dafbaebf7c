"""The differentiable face recogniser: an aligned face → its ArcFace embedding.

The network of `glintr100`: a residual network whose blocks normalise before the first convolution.
Embeddings are compared by their cosine, so they are not normalised here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..errors import CheckpointError, ConfigError, ShapeError

__all__ = ["FACE_SIZE", "IRESNET_PRESET", "IResNet", "build_recogniser", "iresnet_config"]

FACE_SIZE = 112
"""Side of the square face picture that the recogniser takes [px]."""

IRESNET_PRESET: dict[str, Any] = {
    "layers": (3, 13, 30, 3),
    "widths": (64, 64, 128, 256, 512),
    "num_features": 512,
}
"""Architecture of glintr100."""

_STAGES = 4
_EPS = 1e-5
_MAP_SIZE = FACE_SIZE // 2**_STAGES


class ResidualBlock(nn.Module):
    """Norm, convolution, norm, PReLU, strided convolution, norm, and a shortcut.

    Args:
        channels_in: Input channels.
        channels: Output channels.
        stride: Of the second convolution and the shortcut.
    """

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels_in, eps=_EPS)
        self.conv1 = nn.Conv2d(channels_in, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels, eps=_EPS)
        self.prelu = nn.PReLU(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels, eps=_EPS)
        self.downsample: nn.Module | None = None
        if stride != 1 or channels_in != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride=stride, bias=False),
                nn.BatchNorm2d(channels, eps=_EPS),
            )

    def forward(self, x: Tensor) -> Tensor:
        """[n, channels_in, h, w] → [n, channels, h / stride, w / stride]."""
        out = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        out = self.bn3(self.conv2(out))
        return out + (x if self.downsample is None else self.downsample(x))


class IResNet(nn.Module):
    """ArcFace's residual network. Parameter names are those of `glintr100_torch.pth`.

    Args:
        layers: Blocks of each of the four stages.
        widths: Channels of the stem and of each stage.
        num_features: Length of the embedding.
        checkpoint_blocks: Compute each block again in the backward pass instead of keeping its
            activations; a fifth of the memory for a third more time.

    Raises:
        ConfigError: If there are not four stages, or a size is below 1.
    """

    def __init__(
        self,
        layers: Sequence[int] = IRESNET_PRESET["layers"],
        widths: Sequence[int] = IRESNET_PRESET["widths"],
        num_features: int = IRESNET_PRESET["num_features"],
        *,
        checkpoint_blocks: bool = False,
    ) -> None:
        super().__init__()
        if len(layers) != _STAGES or len(widths) != _STAGES + 1:
            raise ConfigError(
                f"An IResNet has {_STAGES} stages and a stem, but {len(layers)} block counts and "
                f"{len(widths)} widths were given."
            )
        if min(*layers, *widths, num_features) < 1:
            raise ConfigError(
                f"IResNet sizes must be at least 1 but are layers {tuple(layers)}, widths "
                f"{tuple(widths)}, features {num_features}."
            )
        self.checkpoint_blocks = checkpoint_blocks
        self.num_features = num_features
        self.conv1 = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0], eps=_EPS)
        self.prelu = nn.PReLU(widths[0])
        for index in range(_STAGES):
            stage = _make_stage(widths[index], widths[index + 1], layers[index])
            self.add_module(f"layer{index + 1}", stage)
        self.bn2 = nn.BatchNorm2d(widths[-1], eps=_EPS)
        self.fc = nn.Linear(widths[-1] * _MAP_SIZE**2, num_features)
        self.features = nn.BatchNorm1d(num_features, eps=_EPS)

    def forward(self, faces: Float[Tensor, "n 3 112 112"]) -> Float[Tensor, "n features"]:
        """Embed aligned faces.

        Args:
            faces: [n, 3, 112, 112], RGB, in [-1, 1] (`pixels / 127.5 - 1`).

        Returns:
            [n, num_features], not normalised.

        Raises:
            ShapeError: If the faces have another size.
        """
        if faces.shape[1:] != (3, FACE_SIZE, FACE_SIZE):
            raise ShapeError(
                f"Faces must be [n, 3, {FACE_SIZE}, {FACE_SIZE}] but are {tuple(faces.shape)}; "
                "warp or resize them first."
            )
        x = self.prelu(self.bn1(self.conv1(faces)))
        recompute = self.checkpoint_blocks and torch.is_grad_enabled()
        for index in range(_STAGES):
            for block in self.get_submodule(f"layer{index + 1}").children():
                x = checkpoint(block, x, use_reentrant=False) if recompute else block(x)
        return self.features(self.fc(self.bn2(x).flatten(1)))


def _make_stage(channels_in: int, channels: int, blocks: int) -> nn.Sequential:
    first = ResidualBlock(channels_in, channels, stride=2)
    return nn.Sequential(first, *(ResidualBlock(channels, channels, 1) for _ in range(blocks - 1)))


def iresnet_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Architecture of the IResNet that a state dict belongs to.

    Args:
        state: Weights under the names of `glintr100_torch.pth`.

    Returns:
        Arguments of `IResNet`.

    Raises:
        CheckpointError: If the weights belong to another network.
    """
    try:
        layers = tuple(
            len({name.split(".")[1] for name in state if name.startswith(f"layer{stage}.")})
            for stage in range(1, _STAGES + 1)
        )
        widths = (
            state["conv1.weight"].shape[0],
            *(state[f"layer{stage}.0.conv1.weight"].shape[0] for stage in range(1, _STAGES + 1)),
        )
        features, inputs = state["fc.weight"].shape
    except (KeyError, ValueError, IndexError) as error:
        raise CheckpointError(
            f"This is not a face recogniser of the IResNet family: {error} is missing among its "
            f"{len(state)} entries. Use glintr100_torch.pth or antelopev2/glintr100.onnx."
        ) from error
    if inputs != widths[-1] * _MAP_SIZE**2:
        raise CheckpointError(
            f"The recogniser's last layer takes {inputs} numbers, but {widths[-1]} channels of "
            f"{_MAP_SIZE}x{_MAP_SIZE} (faces of {FACE_SIZE} px) give {widths[-1] * _MAP_SIZE**2}; "
            "use a recogniser for 112 px faces."
        )
    return {"layers": layers, "widths": widths, "num_features": features}


def build_recogniser(
    state: Mapping[str, Tensor],
    *,
    dtype: torch.dtype = torch.float32,
    checkpoint_blocks: bool = False,
) -> IResNet:
    """The recogniser that a state dict belongs to: frozen, in eval mode, on the CPU.

    Args:
        state: Weights under the names of `glintr100_torch.pth`.
        dtype: float32 or bfloat16; float16 overflows in this network.
        checkpoint_blocks: See `IResNet`.

    Raises:
        CheckpointError: If keys or shapes do not fit; they are named.
        ConfigError: If the dtype is not one of the two.
    """
    if dtype not in (torch.float32, torch.bfloat16):
        raise ConfigError(
            f"The face recogniser runs in float32 or bfloat16, not {dtype}: its activations "
            "overflow float16."
        )
    with torch.device("meta"):
        network = IResNet(**iresnet_config(state), checkpoint_blocks=checkpoint_blocks)
    expected = network.state_dict()
    missing, unexpected = sorted(expected.keys() - state), sorted(state.keys() - expected.keys())
    wrong = [k for k, v in expected.items() if k in state and state[k].shape != v.shape]
    if missing or unexpected or wrong:
        raise CheckpointError(
            f"The face recogniser's weights do not fit. Missing: {missing[:5]} ({len(missing)} in "
            f"all); unexpected: {unexpected[:5]} ({len(unexpected)}); wrong shape: {wrong[:5]} "
            f"({len(wrong)}). Use glintr100_torch.pth or antelopev2/glintr100.onnx."
        )
    network.load_state_dict({k: v.detach().cpu().clone() for k, v in state.items()}, assign=True)
    return network.to(dtype=dtype).eval().requires_grad_(False)
