"""Opening ONNX files: damaged ones, other networks, and execution providers that fail."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_factory import (
    num_cells,
    save_constant_network,
    save_marker_detector,
    save_marker_pose_network,
)

from animator_core.errors import CheckpointError, ConfigError, DependencyError
from animator_core.pose import runtime
from animator_core.pose.detector import PersonDetector, letterbox
from animator_core.pose.extraction import PoseExtractor
from animator_core.pose.wholebody import WholebodyNetwork


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("networks")
    detector = save_marker_detector(folder / "detector.onnx", batch="N")
    return detector, save_marker_pose_network(folder / "pose.onnx")


# --- files -----------------------------------------------------------------------------------


def test_missing_file(tmp_path: Path, files: tuple[Path, Path]) -> None:
    with pytest.raises(CheckpointError, match=r"expected at .*gone\.onnx.*no such file.*yolox_l"):
        PoseExtractor(tmp_path / "gone.onnx", files[1])
    with pytest.raises(CheckpointError, match=r"dw-ll_ucoco_384"):
        PoseExtractor(files[0], tmp_path)


@pytest.mark.parametrize("damage", ["empty", "text", "half", "noise"])
def test_damaged_file(tmp_path: Path, files: tuple[Path, Path], damage: str) -> None:
    whole = files[0].read_bytes()
    contents = {
        "empty": b"",
        "text": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "half": whole[: len(whole) // 2],
        "noise": np.random.default_rng(0).bytes(5000),
    }
    path = tmp_path / "yolox_l.onnx"
    path.write_bytes(contents[damage])
    with pytest.raises(CheckpointError, match=r"yolox_l\.onnx .*download yolox_l\.onnx again"):
        PersonDetector(path)


def test_networks_in_the_wrong_place(files: tuple[Path, Path]) -> None:
    detector, pose = files
    with pytest.raises(CheckpointError, match=r"not a person detector.*found.*simcc_x"):
        PoseExtractor(pose, pose)
    with pytest.raises(CheckpointError, match=r"not a whole-body pose network.*found.*images"):
        PoseExtractor(detector, detector)


@pytest.mark.parametrize(
    ("shape", "output"),
    [
        ((1, 1, 64, 64), (1, num_cells((64, 64)), 85)),  # a grey picture
        ((1, 3, 64, 72), (1, num_cells((64, 64)), 85)),  # not a multiple of 32
        ((1, 3, 64, 64), (1, 25, 85)),  # another number of cells
        ((1, 3, 64, 64), (num_cells((64, 64)), 85)),
        ((1, 512), (1, num_cells((64, 64)), 85)),
    ],
)
def test_another_detector(tmp_path: Path, shape: Any, output: Any) -> None:
    path = save_constant_network(tmp_path / "a.onnx", shape, {"output": np.zeros(output)})
    with pytest.raises(CheckpointError, match=r"is not a person detector \(YOLOX\): expected"):
        PersonDetector(path)


@pytest.mark.parametrize(
    ("joints", "bins"), [(17, (144, 192)), (133, (144, 144)), (133, (72, 192))]
)
def test_another_pose_network(tmp_path: Path, joints: int, bins: tuple[int, int]) -> None:
    outputs = {
        name: np.zeros((1, joints, count), np.float32)
        for name, count in zip(("simcc_x", "simcc_y"), bins, strict=True)
    }
    path = save_constant_network(tmp_path / "a.onnx", (1, 3, 96, 72), outputs)
    with pytest.raises(CheckpointError, match="is not a whole-body pose network"):
        WholebodyNetwork(path)


def test_outputs_are_told_apart_by_name(tmp_path: Path) -> None:
    x, y = np.zeros((1, 133, 144), np.float32), np.zeros((1, 133, 192), np.float32)
    x[..., 10], y[..., 20] = 1.0, 1.0
    frames = np.array([[[36.0, 48.0], [72.0, 96.0]]])
    for outputs in ({"simcc_x": x, "simcc_y": y}, {"simcc_y": y, "simcc_x": x}, {"a": x, "b": y}):
        path = save_constant_network(tmp_path / "a.onnx", (1, 3, 96, 72), outputs)
        found = WholebodyNetwork(path).keypoints(np.zeros((1, 3, 96, 72), np.float32), frames, 1)
        np.testing.assert_allclose(found[0, 0], [5.0, 10.0, 1.0])


# --- providers -------------------------------------------------------------------------------


def pretend_providers(
    monkeypatch: pytest.MonkeyPatch, listed: list[str], broken: set[str]
) -> list[str]:
    """Let onnxruntime list providers; the broken ones fail, the others are really the CPU."""
    tried: list[str] = []
    create = runtime._create_session

    def created(model: Any, provider: str) -> Any:
        tried.append(provider)
        if provider in broken:
            raise RuntimeError("libcublas.so.12: cannot open shared object file\nmore lines")
        return create(model, runtime.CPU_PROVIDER)

    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: listed)
    monkeypatch.setattr(runtime, "_create_session", created)
    return tried


CUDA, DIRECTML, CPU = "CUDAExecutionProvider", "DmlExecutionProvider", "CPUExecutionProvider"


def test_a_provider_that_fails_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, files: tuple[Path, Path]
) -> None:
    tried = pretend_providers(monkeypatch, [CPU, DIRECTML, CUDA], broken={CUDA})
    extractor = PoseExtractor(*files)
    assert tried[:2] == [CUDA, DIRECTML]
    assert extractor.providers == (DIRECTML, DIRECTML)
    warning = caplog.records[0].getMessage()
    assert CUDA in warning
    assert "libcublas" in warning
    assert "more lines" not in warning
    assert "CPU" not in caplog.text.replace("CUDA", "")


def test_one_line_when_it_is_the_cpu(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, files: tuple[Path, Path]
) -> None:
    caplog.set_level(logging.INFO)
    pretend_providers(monkeypatch, ["TensorrtExecutionProvider", CUDA, CPU], broken={CUDA})
    extractor = PoseExtractor(*files)
    assert extractor.providers == (CPU, CPU)
    lines = [r.getMessage() for r in caplog.records if "runs on the CPU" in r.getMessage()]
    assert len(lines) == 1


def test_asking_for_what_does_not_work(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, files: tuple[Path, Path]
) -> None:
    pretend_providers(monkeypatch, [CUDA, CPU], broken={CUDA})
    with pytest.raises(DependencyError, match=r"none of these works: CUDA.*Add 'cpu'"):
        PoseExtractor(*files, providers=["cuda"])
    with pytest.raises(DependencyError, match=r"CoreML.* were asked for.*has only CUDA"):
        PoseExtractor(*files, providers=["CoreMLExecutionProvider"])
    with pytest.raises(ConfigError, match="cuda, rocm"):
        PoseExtractor(*files, providers=["gpu"])
    with pytest.raises(ConfigError):
        PoseExtractor(*files, providers=[])
    assert PoseExtractor(*files, providers=["coreml", "cpu"]).providers == (CPU, CPU)
    assert "CoreMLExecutionProvider was asked for" in caplog.text


def test_a_failure_in_the_middle_names_the_remedy(
    files: tuple[Path, Path],
) -> None:
    network = PersonDetector(files[0], ["cpu"]).network
    inputs = network._session.get_inputs()

    class Failing:
        def get_inputs(self) -> list[Any]:
            return inputs

        def run(self, *_: Any) -> None:
            raise RuntimeError("Failed to allocate memory")

    with pytest.raises(DependencyError, match=r"allocate memory.*Lower the batch size"):
        network._run_once(Failing(), np.zeros((4, 3, 160, 160)))


def test_a_silent_fall_back_to_the_cpu_is_noticed(files: tuple[Path, Path]) -> None:
    class Options:
        log_severity_level = 2

    class Session:
        def __init__(self, *_: Any, **__: Any) -> None: ...

        def get_providers(self) -> list[str]:
            return [CPU]

    class Runtime:
        SessionOptions = Options
        InferenceSession = Session

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime, "_onnxruntime", lambda: Runtime)
        with pytest.raises(RuntimeError, match="fell back to CPU"):
            runtime._create_session("a.onnx", CUDA)


def test_which_providers_work(monkeypatch: pytest.MonkeyPatch) -> None:
    assert runtime.working_providers()[CPU] is None
    pretend_providers(monkeypatch, [CUDA, CPU], broken={CUDA})
    assert runtime.working_providers() == {
        CUDA: "libcublas.so.12: cannot open shared object file",
        CPU: None,
    }


def test_missing_packages(monkeypatch: pytest.MonkeyPatch, files: tuple[Path, Path]) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(DependencyError, match="onnxruntime-directml"):
        PersonDetector(files[0])
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(DependencyError, match="pip install opencv-python"):
        letterbox(np.zeros((8, 8, 3), np.uint8), 64, 64)
