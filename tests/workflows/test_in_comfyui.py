"""The shipped workflows run inside a real ComfyUI, from a folder with dashes and dots."""

from __future__ import annotations

import asyncio
import importlib
import json
import shutil
import warnings
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comfy_host import (
    COMFYUI_DIR,
    ROOT,
    execute,
    load_pack,
    needs_comfyui,
    start_comfyui,
    walk,
)
from faces.onnx_faces import marker_picture, save_detector, save_recogniser, small_recogniser
from onnx_factory import save_marker_detector, save_marker_pose_network
from PIL import Image
from workflow_format import WORKFLOWS, api_format, core_specs

pytestmark = [pytest.mark.comfyui, needs_comfyui]

SMALL = {"width": 64, "height": 64, "frames": 2, "steps": 1}
UNTOUCHED = ("first_run", "keep_the_face", "two_people")
MOVED = 0.1  # difference of colour, of 1
LARGE_FACES = {"width": 192, "height": 192}  # of at least 16 px, to be refined


class QuietServer:
    """What PromptExecutor wants of the page's server."""

    client_id = None
    last_node_id = None
    last_prompt_id = None

    def __init__(self) -> None:
        self.sent: list[tuple[str, Any]] = []

    def send_sync(self, event: str, message: Any, _client: Any = None) -> None:
        self.sent.append((event, message))


@pytest.fixture(scope="module")
def comfyui(tmp_path_factory) -> Any:
    """ComfyUI's `nodes`, with the pack loaded as from custom_nodes/my-pack.v1.0."""
    start_comfyui()
    folder = tmp_path_factory.mktemp("custom_nodes") / "my-pack.v1.0"
    folder.symlink_to(ROOT, target_is_directory=True)
    nodes = importlib.import_module("nodes")
    assert Path(str(nodes.__file__)).parent == Path(str(COMFYUI_DIR)).resolve()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        extras = Path(str(COMFYUI_DIR)) / "comfy_extras" / "nodes_video.py"
        assert asyncio.run(nodes.load_custom_node(str(extras), module_parent="comfy_extras"))
    assert asyncio.run(nodes.load_custom_node(str(folder), module_parent="custom_nodes"))
    assert nodes.EXTENSION_WEB_DIRS["my-pack.v1.0"] == str(folder / "web")
    return nodes


@pytest.fixture
def inputs(comfyui, tmp_path) -> Path:
    """An input folder with every file that the workflows name."""
    import folder_paths

    for name in ("input", "output", "temp", "models"):
        (tmp_path / name).mkdir()
    folder_paths.set_input_directory(str(tmp_path / "input"))
    folder_paths.set_output_directory(str(tmp_path / "output"))
    folder_paths.set_temp_directory(str(tmp_path / "temp"))
    paths = ([str(tmp_path / "models")], set())
    folder_paths.folder_names_and_paths["stableanimator"] = paths
    place = tmp_path / "input"
    Image.fromarray(_marked_picture(2)).save(place / "reference.png")
    (place / "dance.json").write_text(json.dumps(walk(3)), encoding="utf-8")
    (place / "reference_pose.json").write_text(json.dumps(walk(1)), encoding="utf-8")
    for name in ("dance_skeleton.mp4", "drive.mp4", "generated.mp4"):
        _write_video(place / name)
    return place


def _give_faces(place: Path) -> None:
    """Face networks in miniature, and a photograph with a face that these can find."""
    folder = place.parent / "models" / "antelopev2"
    folder.mkdir()
    save_detector(folder / "scrfd_10g_bnkps.onnx")
    save_recogniser(folder / "glintr100.onnx", small_recogniser(num_features=512))
    Image.fromarray(marker_picture(640, 640, [(200, 320)])).save(place / "reference.png")


def _marked_picture(index: int) -> np.ndarray:
    """A red block, which the stand-in detector takes for a person."""
    picture = np.zeros((64, 64, 3), dtype=np.uint8)
    picture[16 + 2 * index : 44, 20 + 3 * index : 40 + 3 * index, 0] = 255
    return picture


def _write_video(path: Path, frames: int = 3) -> None:
    import av

    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=Fraction(8))
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for index in range(frames):
            picture = av.VideoFrame.from_ndarray(_marked_picture(index), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def _run(prompt: dict[str, Any]) -> tuple[Any, QuietServer]:
    execution = importlib.import_module("execution")
    server = QuietServer()

    async def run() -> Any:
        valid, error, outputs, node_errors = await execution.validate_prompt("test", prompt, None)
        assert valid, (error, node_errors)
        executor = execution.PromptExecutor(server)
        await executor.execute_async(prompt, "test", {}, outputs)
        return executor

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return asyncio.run(run()), server


def _small_prompt(path: Path, specs: dict[str, Any]) -> dict[str, Any]:
    prompt = api_format(json.loads(path.read_text(encoding="utf-8")), specs)
    for entry in prompt.values():
        if entry["class_type"] == "StableAnimatorAnimate":
            entry["inputs"].update(SMALL)
            if "refiner" in entry["inputs"]:
                entry["inputs"].update(LARGE_FACES)
        if entry["class_type"] == "StableAnimatorFaceRefine":
            entry["inputs"]["first_step"] = 0
    return prompt


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_runs(inputs, specs, path):
    prompt = _small_prompt(path, specs)
    if any(e["class_type"] == "StableAnimatorExtractPoses" for e in prompt.values()):
        networks = inputs.parent / "models" / "DWPose"
        networks.mkdir()
        save_marker_detector(networks / "yolox_l.onnx")
        save_marker_pose_network(networks / "dw-ll_ucoco_384.onnx")
    faces = [e for e in prompt.values() if e["class_type"] == "StableAnimatorEncodeFace"]
    if any("model" not in e["inputs"] for e in faces):
        _give_faces(inputs)
    executor, _server = _run(prompt)
    assert executor.success, executor.status_messages[-1]
    shown = executor.history_result["outputs"]
    assert shown
    files = [f for o in shown.values() for f in o.get("images", []) if f["type"] == "output"]
    for file in files:
        assert (inputs.parent / "output" / file["subfolder"] / file["filename"]).stat().st_size > 0


@pytest.mark.parametrize("name", UNTOUCHED)
def test_demo_workflow_runs_untouched(comfyui, specs, inputs, name):
    """As on a fresh install: without any file in the input and model folders."""
    shutil.rmtree(inputs)
    inputs.mkdir()
    path = next(p for p in WORKFLOWS if p.stem == name)
    prompt = api_format(json.loads(path.read_text(encoding="utf-8")), specs)
    executor, _server = _run(prompt)
    assert executor.success, executor.status_messages[-1]
    (video,) = (inputs.parent / "output" / "video").glob("*.mp4")
    frames = _read_video(video)
    reference, truth = _drawn(prompt)
    assert frames.shape == truth.shape == (16, 192, 192, 3)
    # it follows the motion, and leaves alone what does not move; over the whole picture, most of
    # which stands still, a sharp copy of the reference can be nearer than any animation
    copied, made = np.abs(reference - truth), np.abs(frames - truth)
    moved = copied.max(axis=-1) > MOVED
    if moved.mean() > 0.2:
        assert made.mean() < copied.mean()
    assert made[moved].mean() < 0.7 * copied[moved].mean()
    assert made[~moved].mean() < 0.06


def _read_video(path: Path) -> np.ndarray:
    import av

    with av.open(str(path)) as container:
        frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    return np.stack(frames) / 255


def _drawn(prompt: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """The reference, and the frames as Demo Character would draw them."""
    demo = next(e for e in prompt.values() if e["class_type"] == "StableAnimatorDemoCharacter")
    drawn = execute(load_pack().nodes["StableAnimatorDemoCharacter"], **demo["inputs"]).result
    return drawn[0].numpy(), drawn[3].numpy()


def test_an_error_reaches_the_page_in_words(inputs, specs):
    path = next(p for p in WORKFLOWS if p.stem == "animate_from_poses")
    prompt = _small_prompt(path, specs)
    for entry in prompt.values():
        if entry["class_type"] == "StableAnimatorAnimate":
            entry["inputs"]["window_overlap"] = entry["inputs"]["window_frames"]
    executor, server = _run(prompt)
    assert not executor.success
    event, message = executor.status_messages[-1]
    assert event == "execution_error"
    assert message["node_type"] == "StableAnimatorAnimate"
    assert "overlap" in message["exception_message"]
    assert server.sent


def test_the_table_of_core_nodes_is_right(comfyui, inputs):
    for name, spec in core_specs().items():
        node = comfyui.NODE_CLASS_MAPPINGS[name]
        given = node.INPUT_TYPES()
        found = {**given.get("required", {}), **given.get("optional", {})}
        assert list(found) == [i.name for i in spec.inputs], name
        for wanted in spec.inputs:
            kind, *details = found[wanted.name]
            details = details[0] if details else {}
            assert ("COMBO" if isinstance(kind, list) else kind) == wanted.type
            assert (wanted.name in given.get("optional", {})) == wanted.optional
            uploads = any(details.get(f"{what}_upload") for what in ("image", "video"))
            widget = wanted.type in ("COMBO", "INT", "FLOAT", "STRING", "BOOLEAN")
            assert wanted.widgets == (1 + uploads if widget else 0), f"{name}.{wanted.name}"
            options = kind if isinstance(kind, list) else details.get("options")
            if wanted.options is not None:
                assert set(wanted.options) <= set(options)
        assert tuple(map(str, node.RETURN_TYPES)) == spec.outputs
