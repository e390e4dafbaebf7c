from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from cli_inputs import SIZE, animate_options, assert_fails
from factory import write_published_layout
from PIL import Image

from animator_core.cli import main
from animator_core.commands.animate import DEFAULT_FPS
from animator_core.console import Console
from animator_core.demo.identity import Character
from animator_core.demo.model import DEMO_SIZE
from animator_core.demo.motion import standing_pose
from animator_core.pose.keypoints import save_pose_file
from animator_core.video import probe, read_frames

# animate ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("poses", "fps"),
    [("poses.json", DEFAULT_FPS), ("skeleton.mp4", 12), ("skeletons", DEFAULT_FPS)],
)
def test_animate_writes_a_playable_video(inputs, model, tmp_path, poses, fps):
    output = tmp_path / "out.mp4"
    assert main(animate_options(inputs, model, output, poses=inputs / poses)) == 0
    info = probe(output)
    assert (info.width, info.height, info.fps) == (SIZE, SIZE, fps)
    assert len(list(read_frames(output))) == 3
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]


def test_animate_uses_the_whole_motion_and_the_given_rate(inputs, model, tmp_path):
    output = tmp_path / "frames"
    words = animate_options(
        inputs, model, output, poses=inputs / "skeleton.mp4", frames=0, fps=24, fit="crop"
    )
    assert main(words) == 0
    assert len(list(output.glob("frame_*.png"))) == 5


def test_a_seed_gives_the_same_video_and_options_have_an_effect(inputs, model, tmp_path):
    def video(name: str, **changes: object) -> np.ndarray:
        assert main(animate_options(inputs, model, tmp_path / name, **changes)) == 0
        return np.stack(list(read_frames(tmp_path / name)))

    first = video("a")
    np.testing.assert_array_equal(first, video("b"))
    for index, changes in enumerate(
        [
            {"seed": 1},
            {"steps": 2},
            {"guidance_max": 5},
            {"fit": "stretch"},
            {"anchor": "none"},
            {"identity_scale": 0},
        ]
    ):
        assert (first != video(f"c{index}", **changes)).any(), changes


def test_animate_aligns_to_the_reference_pose(inputs, model, tmp_path, capsys):
    words = animate_options(
        inputs,
        model,
        tmp_path / "out.mp4",
        reference_poses=inputs / "reference.json",
        align="procrustes",
        anchor="reference_pose",
    )
    words.remove("--quiet")
    assert main(words) == 0
    assert "Aligned person 0 by procrustes: scale" in capsys.readouterr().out


def test_animate_with_the_built_in_model_says_what_it_knows(inputs, tmp_path, capsys):
    words = animate_options(inputs, Path("demo"), tmp_path / "out.mp4")
    for word in ("--quiet", "--width", "--height", str(SIZE), str(SIZE)):
        words.remove(word)
    assert main(words) == 0
    shown = capsys.readouterr()
    size = f"{DEMO_SIZE.width}x{DEMO_SIZE.height} px"
    assert size in shown.out  # what it was made for, as nothing else was asked
    assert "drawn characters" in shown.out
    assert "No identity" in shown.out  # the picture shows nobody that its detector knows
    assert "sampling" in shown.err
    assert "decoding and writing" in shown.out


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"reference": "missing.png"}, ("no picture file", "missing.png")),
        ({"poses": "missing.json"}, ("no pose file",)),
        ({"poses": "missing.mp4"}, ("no video",)),
        ({"frames": 7}, ("7 frames", "only 6")),
        ({"frames": -1}, ("frames",)),
        ({"width": 40}, ("width is 40", "multiple of 16")),
        ({"height": 30}, ("height is 30",)),
        ({"steps": 0}, ("steps is 0",)),
        ({"overlap": 2}, ("overlap is 2", "lower the overlap")),
        ({"window": 0}, ("window length is 0",)),
        ({"fps": 0}, ("frame rate",)),
        ({"seed": -1}, ("seed",)),
        ({"guidance_min": -1}, ("guidance",)),
        ({"device": "nonsense"}, ("nonsense",)),
        ({"refine_iterations": 2}, ("--refine-iterations needs", "--faces")),
        ({"faces": "nowhere"}, ("antelopev2", "nowhere")),
        ({"stable_video": "no/such/folder"}, ("weight files are missing",)),
    ],
)
def test_animate_refuses_bad_settings(inputs, model, tmp_path, capsys, changes, expected):
    words = animate_options(inputs, model, tmp_path / "out.mp4", **changes)
    assert_fails(words, capsys, "error: ", *expected)
    assert list(tmp_path.iterdir()) == []


def test_animate_refuses_more_frames_than_the_skeleton_video_has(inputs, model, tmp_path, capsys):
    words = animate_options(
        inputs, model, tmp_path / "out.mp4", poses=inputs / "skeleton.mp4", frames=9
    )
    assert_fails(words, capsys, "9 frames", "only 5")


def test_animate_refuses_a_missing_model_folder(inputs, tmp_path, capsys):
    words = animate_options(inputs, tmp_path / "none", tmp_path / "out.mp4")
    assert_fails(words, capsys, "none", "download")


def test_animate_refuses_a_model_folder_with_missing_files(inputs, tmp_path, capsys):
    folder = tmp_path / "models"
    write_published_layout(folder)
    (folder / "Animation/pose_net.pth").unlink()
    assert_fails(animate_options(inputs, folder, tmp_path / "out.mp4"), capsys, "pose_net")


def test_animate_refuses_an_output_below_a_file(inputs, model, tmp_path, capsys):
    (tmp_path / "file").touch()
    words = animate_options(inputs, model, tmp_path / "file/out.mp4")
    assert_fails(words, capsys, "is a file, not a folder")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes anywhere")
def test_animate_refuses_a_folder_that_is_not_writable(inputs, model, tmp_path, capsys):
    tmp_path.chmod(0o500)
    assert_fails(animate_options(inputs, model, tmp_path / "out.mp4"), capsys, "not writable")


def test_animate_refuses_unknown_kinds_of_output(inputs, model, tmp_path, capsys):
    assert_fails(animate_options(inputs, model, tmp_path / "out.xyz"), capsys, ".xyz")


def test_animate_refuses_a_reference_pose_of_another_picture(inputs, model, tmp_path, capsys):
    save_pose_file([standing_pose(Character(), 60, 80)], tmp_path / "other.json")
    words = animate_options(
        inputs, model, tmp_path / "out.mp4", reference_poses=tmp_path / "other.json"
    )
    assert_fails(words, capsys, "60x80", "80x60")


def test_animate_refuses_to_align_skeleton_pictures(inputs, model, tmp_path, capsys):
    words = animate_options(
        inputs,
        model,
        tmp_path / "out.mp4",
        poses=inputs / "skeleton.mp4",
        reference_poses=inputs / "reference.json",
        align="rescale",
    )
    assert_fails(words, capsys, "needs keypoints")


@pytest.mark.parametrize(
    "extra",
    [
        ["--align", "learned"],
        ["--anchor", "reference_pose"],
        ["--refine-start", "3"],
        ["--refine-end", "3"],
        ["--reference-poses", "x.json", "--align", "none"],
        ["--precision", "fp7"],
        ["--no-such-option"],
    ],
)
def test_contradicting_options_are_usage_errors(inputs, model, tmp_path, capsys, extra):
    with pytest.raises(SystemExit) as stopped:
        main([*animate_options(inputs, model, tmp_path / "out.mp4"), *extra])
    assert stopped.value.code == 2
    assert extra[0] in capsys.readouterr().err


def test_debug_shows_the_traceback(inputs, model, tmp_path):
    words = animate_options(inputs, model, tmp_path / "out.mp4", steps=0)
    with pytest.raises(ValueError, match="steps"):
        main([*words, "--debug"])


@pytest.mark.parametrize("stage", ["poses", "sampling", "decoding"])
def test_ctrl_c_leaves_nothing_behind(inputs, model, tmp_path, capsys, monkeypatch, stage):
    def update(self: Console, progress) -> None:
        if progress.stage == stage:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(Console, "update", update)
    words = animate_options(inputs, model, tmp_path / "out.mp4", frames=6)
    assert main(words) == 130
    assert "Stopped" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_ctrl_c_stops_at_once(inputs, model, tmp_path, monkeypatch):
    def run(args, console: Console) -> int:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("not reached")

    monkeypatch.setattr("animator_core.commands.animate.run_animate", run)
    assert main(animate_options(inputs, model, tmp_path / "out.mp4")) == 130


def test_too_little_memory_is_told_plainly(inputs, model, tmp_path, monkeypatch, capsys):
    def run(args, console: Console) -> int:
        raise MemoryError("tried to allocate 80 GiB")

    monkeypatch.setattr("animator_core.commands.animate.run_animate", run)
    words = animate_options(inputs, model, tmp_path / "out.mp4")
    assert_fails(words, capsys, "80 GiB", "Lower --width")


def test_animate_keeps_and_refines_a_face(inputs, model, tmp_path, capsys):
    from faces.onnx_faces import (
        marker_picture,
        save_detector,
        save_recogniser,
        small_recogniser,
    )

    faces = tmp_path / "antelopev2"
    faces.mkdir()
    save_detector(faces / "scrfd_10g_bnkps.onnx")
    save_recogniser(faces / "glintr100.onnx", small_recogniser(num_features=512))
    Image.fromarray(marker_picture(640, 640, [(320, 320)])).save(tmp_path / "face.png")
    changes = {"reference": tmp_path / "face.png", "faces": tmp_path, "width": 128, "height": 128}
    output = tmp_path / "out.mp4"
    words = animate_options(inputs, model, output, **changes, refine_iterations=1)
    assert main(words) == 0
    assert probe(output).num_frames == 3
    words = animate_options(inputs, model, tmp_path / "b.mp4", **changes)
    words[words.index(str(tmp_path / "face.png"))] = str(inputs / "person.png")
    assert_fails(words, capsys, "No face was found", "person.png")
