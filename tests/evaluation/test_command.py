"""The command `evaluate` from options to files."""

from __future__ import annotations

import json

import numpy as np
import pytest
from cli_inputs import assert_fails
from faces.onnx_faces import marker_picture, save_detector, save_recogniser, small_recogniser
from onnx_factory import save_marker_detector, save_marker_pose_network
from PIL import Image

from animator_core.cli import main
from animator_core.console import Console
from animator_core.demo.identity import Character
from animator_core.demo.motion import dance_motion
from animator_core.errors import CancelledError
from animator_core.evaluation.l1 import l1
from animator_core.evaluation.measures import ClipSource, FrameMeasure
from animator_core.evaluation.psnr import psnr, psnr_published
from animator_core.evaluation.run import evaluate_clips
from animator_core.pose.keypoints import load_pose_file, save_pose_file
from animator_core.video import write_video


def clip(seed: int, frames: int = 5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 256, (32, 40, 3))
    return np.stack([np.roll(base, i, axis=1) for i in range(frames)]).astype(np.uint8)


def worse(frames: np.ndarray, amount: int) -> np.ndarray:
    change = np.random.default_rng(0).integers(-amount, amount + 1, frames.shape)
    return np.clip(frames.astype(int) + change, 0, 255).astype(np.uint8)


@pytest.fixture
def folders(tmp_path):
    """Three clips as folders of PNGs, which lose nothing."""
    for number in range(3):
        truth = clip(number)
        write_video(tmp_path / f"truth/clip{number}", truth, 8)
        write_video(tmp_path / f"made/clip{number}", worse(truth, 10 + 20 * number), 8)
    return tmp_path


def words(folder, *more: str, generated: str = "made", target: str = "truth") -> list[str]:
    options = ["--generated", str(folder / generated), "--target", str(folder / target)]
    options += ["--output", str(folder / "out/metrics.json"), "--models", str(folder / "models")]
    return ["evaluate", "--quiet", *options, *more]


def results(folder) -> dict:
    return json.loads((folder / "out/metrics.json").read_text())


def test_one_pair(folders, capsys):
    one = words(folders, "--metrics", "l1,psnr", generated="made/clip1", target="truth/clip1")
    assert main(one) == 0
    found = results(folders)
    truth = clip(1)
    made = worse(truth, 30)
    frames = [psnr(a, b) for a, b in zip(made, truth, strict=True)]
    assert found["metrics"]["psnr"]["mean"] == pytest.approx(np.mean(frames))
    assert found["metrics"]["psnr"]["interval"] is None
    (entry,) = found["clips"]
    assert (entry["frames"], entry["width"], entry["height"]) == (5, 40, 32)
    assert entry["metrics"]["psnr"]["per_frame"] == pytest.approx(frames)
    assert "255²" in found["protocol"]["psnr"]
    assert {"stableanimator", "torch", "numpy"} <= found["versions"].keys()
    assert "psnr: " in capsys.readouterr().out


def test_folders_report_and_strip(folders):
    report = folders / "report/metrics.md"
    names = "l1,l1_published,psnr,psnr_published,ssim,ssim_published,seams,fvd"
    more = ("--metrics", names, "--report", str(report), "--window", "3", "--overlap", "1")
    assert main(words(folders, *more)) == 0
    found = results(folders)
    means = [entry["metrics"]["l1"]["mean"] for entry in found["clips"]]
    low, high = found["metrics"]["l1"]["interval"]
    assert found["metrics"]["l1"]["mean"] == pytest.approx(np.mean(means))
    assert low < np.mean(means) < high
    assert found["metrics"]["l1"]["values"] == 3
    assert found["metrics"]["psnr_published"]["mean"] == pytest.approx(
        np.mean(
            [
                psnr_published(a, b)
                for i in range(3)
                for a, b in zip(worse(clip(i), 10 + 20 * i), clip(i), strict=True)
            ]
        )
    )
    assert found["not_computed"].keys() == {"fvd"}
    text = report.read_text(encoding="utf-8")
    assert "| psnr_published |" in text
    assert "30.81 / 28.85" in text
    assert "| clip2 | 5 |" in text
    assert "fvd: not computed: needs I3D" in text
    assert "metrics_strip.png" in text
    with Image.open(folders / "report/metrics_strip.png") as strip:
        assert strip.width == 5 * 164 + 4
        assert strip.height == 6 * (128 + 24)


def test_what_cannot_be_computed_is_a_warning(folders, capsys):
    assert main(words(folders, "--metrics", "l1,lpips,csim,pose_error,fvd")) == 0
    warnings = capsys.readouterr().err
    found = results(folders)
    assert found["metrics"].keys() == {"l1"}
    for name in ("lpips", "csim", "pose_error", "fvd"):
        assert f"WARNING: {name} is not computed: needs" in warnings
        assert found["not_computed"][name]


def test_nothing_to_compute_is_an_error(folders, capsys):
    asked = words(folders, "--metrics", "lpips,fvd")
    assert_fails(asked, capsys, "None of the metrics", "AlexNet", "I3D", "--metric-weights")
    assert_fails(words(folders, "--metrics", "pose_error"), capsys, "None of the metrics")
    assert not (folders / "out").exists()


def test_wrong_options(folders, capsys):
    assert_fails(words(folders, "--metrics", "psnr,fid"), capsys, "fid", "psnr_published")
    assert_fails(words(folders, "--metrics", ","), capsys, "nothing is no metric")
    assert_fails(words(folders, "--resize", "big"), capsys, "--resize big", "256x256")
    assert_fails(words(folders, "--metric-weights", str(folders / "x")), capsys, "is no folder")
    for wrong in (["--generated", "a"], ["--protocol", "misalign"]):
        with pytest.raises(SystemExit):
            main(["evaluate", "--output", "x.json", *wrong])
    assert "needs --target" in capsys.readouterr().err.replace("--input", "--target")


def test_sizes_and_lengths(folders, capsys):
    write_video(folders / "big", np.repeat(clip(0), 2, axis=1), 8)
    write_video(folders / "long", clip(0, 7), 8)
    pair = {"target": "truth/clip0"}
    metrics = ("--metrics", "l1")
    assert_fails(words(folders, *metrics, generated="big", **pair), capsys, "40x64", "40x32")
    assert_fails(words(folders, *metrics, generated="long", **pair), capsys, "7 frames", "has 5")
    assert main(words(folders, *metrics, "--resize", "target", generated="big", **pair)) == 0
    assert main(words(folders, *metrics, "--trim", generated="long", **pair)) == 0
    found = results(folders)
    assert found["clips"][0]["frames"] == 5
    assert found["metrics"]["l1"]["mean"] == 0
    assert found["settings"]["trim"] is True


def test_csim_and_pose_error(folders):
    models = folders / "models/antelopev2"
    models.mkdir(parents=True)
    save_detector(models / "scrfd_10g_bnkps.onnx")
    save_recogniser(models / "glintr100.onnx", small_recogniser())
    person = marker_picture(640, 640, [(320, 320)])
    Image.fromarray(person).save(folders / "identity.png")
    write_video(folders / "faces", [person, np.zeros_like(person)], 8)
    save_pose_file(
        dance_motion(Character(), 2, 8, width=64, height=64, seed=0), folders / "poses.json"
    )
    poses = str(folders / "poses.json")
    more = ("--metrics", "csim,pose_error", "--identity", str(folders / "identity.png"))
    more += ("--driven-poses", poses, "--generated-poses", poses)
    assert main(words(folders, *more, generated="faces", target="faces")) == 0
    found = results(folders)
    assert found["metrics"]["csim"]["mean"] == pytest.approx(1, abs=1e-3)
    assert found["clips"][0]["metrics"]["csim"]["frames_without_face"] == 1
    assert found["clips"][0]["metrics"]["csim"]["per_frame"][1] is None
    assert found["metrics"]["pose_error"]["mean"] == 0


def test_misalign(folders, capsys):
    save_pose_file(
        dance_motion(Character(), 2, 8, width=64, height=64, seed=0), folders / "in.json"
    )
    call = ["evaluate", "--quiet", "--protocol", "misalign", "--input", str(folders / "in.json")]
    call += ["--seed", "3", "--models", str(folders)]
    assert main([*call, "--output", str(folders / "pairs")]) == 0
    index = json.loads((folders / "pairs/transforms.json").read_text())
    assert index["seed"] == 3
    assert (folders / "pairs/misaligned/in.json").is_file()
    call[5] = str(folders / "truth")
    assert_fails([*call, "--output", str(folders / "o")], capsys, "DWPose", "no keypoints")


def dancer(x: int) -> np.ndarray:
    """A red block on grey: a person to the miniature pose networks."""
    picture = np.full((160, 160, 3), 60, np.uint8)
    picture[48:128, x : x + 40] = (255, 0, 0)
    return picture


def test_pose_networks_find_what_is_not_given(folders):
    networks = folders / "models/DWPose"
    networks.mkdir(parents=True)
    save_marker_detector(networks / "yolox_l.onnx")
    save_marker_pose_network(networks / "dw-ll_ucoco_384.onnx")
    write_video(folders / "danced", [dancer(40), dancer(60)], 8)
    write_video(folders / "asked", [dancer(40), dancer(60)], 8)
    pose = ("--metrics", "pose_error")
    assert main(words(folders, *pose, generated="danced", target="asked")) == 0
    assert results(folders)["metrics"]["pose_error"]["mean"] == 0
    call = ["evaluate", "--quiet", "--protocol", "misalign", "--input", str(folders / "asked")]
    call += ["--models", str(folders / "models"), "--output", str(folders / "pairs")]
    assert main(call) == 0
    assert len(load_pose_file(folders / "pairs/original/asked.json")) == 2


def test_cancelling(folders):
    console = Console(quiet=True)
    source = ClipSource(name="x", generated=folders / "made/clip0", target=folders / "truth/clip0")
    console.cancel()
    with pytest.raises(CancelledError):
        evaluate_clips([source], {"l1": FrameMeasure(l1)}, monitor=console)
