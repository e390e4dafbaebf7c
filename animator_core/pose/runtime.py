"""ONNX networks on whichever execution provider works.

A provider that onnxruntime lists may still fail (missing CUDA libraries, a driver that is too
old), and onnxruntime then drops to the CPU without saying so. Here a provider counts as working
only after the network ran on it once.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch  # noqa: F401 - loads the CUDA libraries that onnxruntime-gpu often cannot find itself
from numpy.typing import NDArray

from ..errors import CheckpointError, ConfigError, DependencyError

__all__ = ["CPU_PROVIDER", "NetworkRole", "OnnxNetwork", "opencv", "working_providers"]

logger = logging.getLogger(__name__)

CPU_PROVIDER = "CPUExecutionProvider"
PROVIDERS: dict[str, str] = {
    "cuda": "CUDAExecutionProvider",
    "rocm": "ROCMExecutionProvider",
    "migraphx": "MIGraphXExecutionProvider",
    "directml": "DmlExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "cpu": CPU_PROVIDER,
}
"""Short names of execution providers, in the order in which they are tried."""

_PROVIDER_OPTIONS: dict[str, dict[str, str]] = {
    # the default search times every convolution again for each new batch size
    "CUDAExecutionProvider": {"cudnn_conv_algo_search": "HEURISTIC"},
}
_DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
_DAMAGED = ("InvalidProtobuf", "InvalidGraph", "NoModel", "NoSuchFile", "ModelRequiresCompilation")


@dataclass(frozen=True, kw_only=True)
class NetworkRole:
    """What an ONNX file is expected to be, for checks and messages.

    Attributes:
        title: What the network is, such as "person detector (YOLOX)".
        file_name: The published file.
        size: Height and width [px] to use where the graph leaves them open.
        num_outputs: Number of outputs.
        outputs: Their shapes, for the user's eyes.
    """

    title: str
    file_name: str
    size: tuple[int, int]
    num_outputs: int
    outputs: str


class OnnxNetwork:
    """A network with one picture input [N, 3, H, W], opened on the first provider that works.

    Args:
        path: ONNX file.
        role: What the file is expected to be.
        providers: Execution providers to try, best first, by their onnxruntime names or the short
            names of `PROVIDERS`; None tries all that are there, the CPU last.

    Raises:
        CheckpointError: If the file is missing, damaged or another network.
        DependencyError: If onnxruntime is missing, or none of the given providers works.
        ConfigError: If a provider's name is unknown.
    """

    def __init__(
        self, path: str | Path, role: NetworkRole, providers: Sequence[str] | None = None
    ) -> None:
        self.path = Path(path)
        self.role = role
        self.dtype: type[np.floating[Any]] = np.float32
        self.size = role.size
        self.batch_size: int | None = None
        self.output_shapes: tuple[tuple[int, ...], ...] = ()
        self._require_file()
        self._session, self.provider = self._open(_candidates(providers))

    def run(self, pictures: NDArray[np.float32], max_batch: int) -> list[NDArray[np.float32]]:
        """The outputs for any number of pictures.

        Args:
            pictures: [N, 3, H, W].
            max_batch: Pictures per call; a graph with a fixed batch size overrides it.

        Returns:
            One array [N, ...] per output, in the graph's order.

        Raises:
            DependencyError: If the provider fails, for example for want of memory.
        """
        size = self.batch_size or max(max_batch, 1)
        parts: list[list[NDArray[Any]]] = []
        for start in range(0, len(pictures), size):
            batch = pictures[start : start + size].astype(self.dtype, copy=False)
            missing = (self.batch_size or 0) - len(batch)
            if missing > 0:
                batch = np.concatenate(
                    [batch, np.zeros_like(batch, shape=(missing, *batch.shape[1:]))]
                )
            used = min(size, len(pictures) - start)
            parts.append([output[:used] for output in self._run_once(self._session, batch)])
        if not parts:
            return [np.zeros((0, *shape[1:]), np.float32) for shape in self.output_shapes]
        return [
            np.concatenate(outputs).astype(np.float32, copy=False)
            for outputs in zip(*parts, strict=True)
        ]

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs, in the graph's order."""
        return [output.name for output in self._session.get_outputs()]

    def wrong_network(self, found: str | None = None) -> CheckpointError:
        """The error for a file that holds another network.

        Args:
            found: What the file holds, if it is more than the declared shapes.
        """
        role = self.role
        return CheckpointError(
            f"{self.path} is not a {role.title}: expected an input [N, 3, H, W] and "
            f"{role.outputs}, found {found or self._signature}. Choose {role.file_name} of the "
            "DWPose release, or a network of the same form."
        )

    def _require_file(self) -> None:
        if not self.path.is_file():
            raise CheckpointError(
                f"The {self.role.title} is expected at {self.path}, but there is no such file. "
                f"Put {self.role.file_name} there or choose where it is; the pack's download "
                "command fetches it."
            )

    def _open(self, providers: list[str]) -> tuple[Any, str]:
        failures: list[str] = []
        for provider in providers:
            try:
                return self._open_on(provider), provider
            except CheckpointError:
                raise
            except Exception as error:  # onnxruntime's errors have no common base
                if type(error).__name__ in _DAMAGED or provider == CPU_PROVIDER:
                    raise self._damaged(error) from error
                reason = _first_line(error)
                failures.append(f"{provider}: {reason}")
                logger.warning(
                    "onnxruntime lists %s, but %s does not run on it (%s); trying the next one.",
                    provider,
                    self.path.name,
                    reason,
                )
        raise DependencyError(
            f"{self.path.name} should run on {', '.join(providers)}, but none of these works: "
            f"{'; '.join(failures)}. Add 'cpu' to the providers, or repair the installation of "
            "onnxruntime and the graphics driver."
        )

    def _open_on(self, provider: str) -> Any:
        session = _create_session(str(self.path), provider)
        self._read_signature(session)
        height, width = self.size
        blank = np.zeros((self.batch_size or 1, 3, height, width), self.dtype)
        outputs = session.run(None, {session.get_inputs()[0].name: blank})
        self.output_shapes = tuple(output.shape for output in outputs)
        return session

    def _read_signature(self, session: Any) -> None:
        inputs, outputs = session.get_inputs(), session.get_outputs()
        self._signature = (
            f"inputs {', '.join(f'{i.name} {i.shape}' for i in inputs)} and "
            f"outputs {', '.join(f'{o.name} {o.shape}' for o in outputs)}"
        )
        shape = inputs[0].shape if inputs else []
        wrong_input = len(inputs) != 1 or len(shape) != 4 or inputs[0].type not in _DTYPES
        if wrong_input or (isinstance(shape[1], int) and shape[1] != 3):
            raise self.wrong_network()
        if len(outputs) != self.role.num_outputs:
            raise self.wrong_network()
        self.dtype = _DTYPES[inputs[0].type]
        fixed = [side if isinstance(side, int) and side > 0 else None for side in shape]
        self.batch_size = fixed[0]
        self.size = (fixed[2] or self.role.size[0], fixed[3] or self.role.size[1])

    def _run_once(self, session: Any, batch: NDArray[Any]) -> list[NDArray[Any]]:
        try:
            return session.run(None, {session.get_inputs()[0].name: batch})
        except Exception as error:  # onnxruntime's errors have no common base
            raise DependencyError(
                f"{self.path.name} ran in a trial but fails on a batch of {len(batch)} with "
                f"{self.provider}: {_first_line(error)}. Lower the batch size, free GPU memory, or "
                "choose the provider 'cpu'."
            ) from error

    def _damaged(self, error: Exception) -> CheckpointError:
        megabytes = self.path.stat().st_size / 1e6
        return CheckpointError(
            f"{self.path} ({megabytes:.1f} MB) should be the {self.role.title} as an ONNX file but "
            f"cannot be run: {_first_line(error)}. It may be damaged or half downloaded; delete it "
            f"and download {self.role.file_name} again."
        )


def opencv() -> ModuleType:
    """The OpenCV module.

    Raises:
        DependencyError: If it is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise DependencyError(
            f"Pose extraction needs OpenCV, which cannot be imported ({error}). "
            "Install it with: pip install opencv-python"
        ) from error
    return cv2


def working_providers() -> dict[str, str | None]:
    """Which of the listed execution providers really run a network.

    Returns:
        Per provider None if it works, else why it does not.

    Raises:
        DependencyError: If onnxruntime is not installed.
    """
    results: dict[str, str | None] = {}
    for provider in _candidates(None):
        try:
            session = _create_session(_ADDITION, provider)
            session.run(None, {"x": np.ones(1, np.float32)})
            results[provider] = None
        except Exception as error:  # noqa: BLE001 - onnxruntime's errors have no common base
            results[provider] = _first_line(error)
    return results


_ADDITION = bytes.fromhex(
    "08073a350a0e0a01780a017812017922034164641201675a0f0a0178120a0a08080112040a02080162"
    "0f0a0179120a0a08080112040a02080142040a00100d"
)
"""An ONNX file with one node, y = x + x, for trying providers."""


def _onnxruntime() -> ModuleType:
    try:
        import onnxruntime
    except ImportError as error:
        raise DependencyError(
            f"Pose extraction needs onnxruntime, which cannot be imported ({error}). Install one "
            "of: onnxruntime-gpu (NVIDIA), onnxruntime-directml (Windows), onnxruntime (CPU, Mac)."
        ) from error
    return onnxruntime


def _candidates(providers: Sequence[str] | None) -> list[str]:
    available = list(_onnxruntime().get_available_providers())
    if providers is None:
        return [name for name in PROVIDERS.values() if name in available]
    wanted = [PROVIDERS.get(name.lower(), name) for name in providers]
    unknown = [name for name in wanted if not name.endswith("ExecutionProvider")]
    if unknown or not wanted:
        raise ConfigError(
            f"Execution providers are {', '.join(PROVIDERS)} or onnxruntime's own names; "
            f"found {list(providers)}."
        )
    for name in wanted:
        if name not in available:
            logger.warning(
                "%s was asked for, but this onnxruntime has only %s.", name, ", ".join(available)
            )
    usable = [name for name in wanted if name in available]
    if not usable:
        raise DependencyError(
            f"The execution providers {', '.join(wanted)} were asked for, but this onnxruntime has "
            f"only {', '.join(available)}. Install the onnxruntime package for that hardware "
            "(onnxruntime-gpu, onnxruntime-directml), or add 'cpu'."
        )
    return usable


def _create_session(model: str | bytes, provider: str) -> Any:
    ort = _onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = 3  # errors only; warnings about node placement are noise
    if provider == PROVIDERS["directml"]:
        options.enable_mem_pattern = False  # DirectML refuses memory patterns
    chosen = [(provider, _PROVIDER_OPTIONS.get(provider, {}))]
    if provider != CPU_PROVIDER:
        chosen.append((CPU_PROVIDER, {}))  # for the few operators that an accelerator lacks
    session = ort.InferenceSession(model, options, providers=chosen)
    if session.get_providers()[0] != provider:
        raise RuntimeError(f"onnxruntime fell back to {session.get_providers()[0]}")
    return session


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]
