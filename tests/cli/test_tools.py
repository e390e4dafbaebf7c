from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from cli_inputs import animate_options, assert_fails

from animator_core.cli import main
from animator_core.pose.keypoints import load_pose_file
from animator_core.video import probe, read_frames

REPO = Path(__file__).resolve().parents[2]


# poses -----------------------------------------------------------------------------------------


def test_draw_poses_writes_a_folder_and_a_video(inputs, tmp_path):
    poses = str(inputs / "poses.json")
    folder, video = tmp_path / "pictures", tmp_path / "video.mp4"
    assert main(["draw-poses", "--quiet", "--poses", poses, "--output", str(folder)]) == 0
    pictures = list(read_frames(folder))
    assert len(pictures) == 6
    assert pictures[0].shape == (96, 96, 3)
    assert pictures[0].any()
    words = ["draw-poses", "--poses", poses, "--output", str(video), "--mode", "fast"]
    assert main([*words, "--width", "64", "--fps", "5"]) == 0
    info = probe(video)
    assert (info.width, info.height, info.fps) == (64, 64, 5)
    assert main([*words[:-3], str(video), "--height", "48"]) == 0
    assert probe(video).width == 48


def test_draw_poses_refuses_an_empty_file(tmp_path, capsys):
    (tmp_path / "empty.json").write_text("[]")
    words = ["draw-poses", "--poses", str(tmp_path / "empty.json"), "--output", str(tmp_path / "o")]
    assert_fails(words, capsys, "no frame")


def test_align_poses_prints_the_transform(inputs, tmp_path, capsys):
    output = tmp_path / "deeper/out.json"
    words = ["align-poses", "--reference", str(inputs / "reference.json")]
    words += ["--driving", str(inputs / "poses.json"), "--output", str(output)]
    assert main([*words, "--method", "procrustes"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert {"scale", "angle_deg", "shift_px", "residual"} <= printed.keys()
    frames = load_pose_file(output)
    assert (len(frames), frames[0].width, frames[0].height) == (6, 80, 60)


def test_extract_poses_says_where_networks_are_wanted(inputs, tmp_path, capsys):
    words = ["extract-poses", "--input", str(inputs / "person.png"), "--models", str(tmp_path)]
    words += ["--output", str(tmp_path / "out.json")]
    assert_fails(words, capsys, "yolox_l.onnx", "download --components dwpose")


# weights ---------------------------------------------------------------------------------------


def test_convert_makes_a_model_that_animates(inputs, model, tmp_path):
    converted = tmp_path / "converted"
    assert main(["convert", "--quiet", "--input", str(model), "--output", str(converted)]) == 0
    assert (converted / "Animation/unet.safetensors").is_file()
    assert main(animate_options(inputs, converted, tmp_path / "out.mp4")) == 0


def test_convert_refuses_what_is_missing(tmp_path, capsys):
    words = ["convert", "--input", str(tmp_path / "none.pth"), "--output", str(tmp_path / "out")]
    assert_fails(words, capsys, "none.pth")


def test_download_shows_the_licences_first(tmp_path, capsys):
    words = ["download", "--output", str(tmp_path), "--components", "antelopev2"]
    assert_fails(words, capsys, "non-commercial", "accept")


def test_doctor_reports(tmp_path, capsys):
    assert main(["doctor", "--models", str(tmp_path)]) == 0
    assert "torch" in capsys.readouterr().out


def test_train_aligner_reads_its_settings(tmp_path, capsys):
    assert_fails(["train-aligner", str(tmp_path / "none.toml")], capsys, "none.toml")


# start -----------------------------------------------------------------------------------------


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=False
    )


def test_help_imports_nothing_heavy():
    code = (
        "import sys, contextlib\nfrom animator_core.cli import main\n"
        "with contextlib.suppress(SystemExit): main(['animate', '--help'])\n"
        "print([m for m in ('torch', 'numpy', 'PIL', 'av', 'cv2') if m in sys.modules])"
    )
    done = run_python(code)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_align_poses_starts_without_diffusers(inputs, tmp_path):
    words = ["align-poses", "--reference", str(inputs / "reference.json")]
    words += ["--driving", str(inputs / "poses.json"), "--output", str(tmp_path / "out.json")]
    code = (
        f"import sys\nfrom animator_core.cli import main\nassert main({words}) == 0\n"
        "print([m for m in ('diffusers', 'transformers', 'av') if m in sys.modules])"
    )
    done = run_python(code)
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stderr
