"""Faces on the command line: encode-face, and whose faces animate keeps."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from cli_inputs import SIZE, animate_options, assert_fails
from faces.onnx_faces import marker_picture, save_detector, save_recogniser, small_recogniser
from PIL import Image
from safetensors.torch import save_file

from animator_core.cli import main
from animator_core.demo.identity import Character
from animator_core.demo.motion import dance_motion
from animator_core.people import load_identity
from animator_core.pose.keypoints import FramePose, map_points, save_pose_file
from animator_core.video import probe, read_frames


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Path:
    """The two face networks in miniature, and photographs: red above green is a face to them."""
    folder = tmp_path_factory.mktemp("faces")
    (folder / "antelopev2").mkdir()
    save_detector(folder / "antelopev2/scrfd_10g_bnkps.onnx")
    network = small_recogniser(num_features=512)
    save_recogniser(folder / "antelopev2/glintr100.onnx", network)
    for name, centres in {
        "front": [(320, 320)],
        "side": [(300, 200)],
        "pair": [(200, 120), (400, 500)],
        "crowd": [(100 + 50 * (i % 2) * 6, 64 + 56 * i) for i in range(10)],
        "cut": [(320, 20)],
        "nobody": [],
    }.items():
        Image.fromarray(marker_picture(640, 640, centres)).save(folder / f"{name}.png")
    drawing = np.full((480, 640, 3), 255, np.uint8)
    drawing[100:300, 200:220] = 0
    Image.fromarray(drawing).save(folder / "drawing.png")
    return folder


def encode(folder, output, *pictures, **options):
    words = ["encode-face", "--input", *(str(folder / p) for p in pictures)]
    words += ["--faces", str(folder), "--output", str(output)]
    for name, value in options.items():
        words += [f"--{name}", str(value)]
    return words


def test_encode_face_writes_an_identity_and_says_what_it_saw(faces, tmp_path, capsys):
    output = tmp_path / "me.safetensors"
    assert main(encode(faces, output, "front.png", "side.png", "cut.png")) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [Path(p["file"]).stem for p in shown["photographs"]] == ["front", "side", "cut"]
    assert all(p["height_px"] == pytest.approx(64, abs=1) for p in shown["photographs"])
    assert all(p["used"] for p in shown["photographs"])
    assert load_identity(output).shape == (512,)
    assert main(encode(faces, output, "front.png")) == 0  # is replaced
    capsys.readouterr()
    alone = load_identity(output)
    assert main(encode(faces, tmp_path / "pair.safetensors", "pair.png", face=1)) == 0
    assert torch.isfinite(alone).all()


@pytest.mark.parametrize(
    ("pictures", "options", "expected"),
    [
        (("nobody.png",), {}, ("No face was found in", "nobody.png", "without identity")),
        (("drawing.png",), {}, ("No face was found in", "drawing.png")),
        (("front.png", "nobody.png"), {}, ("No face was found in", "nobody.png")),
        (("crowd.png",), {"face": 10}, ("Face 10 of", "0 to 9")),
        (("missing.png",), {}, ("no picture file",)),
        (("front.png",), {"faces": "nowhere"}, ("antelopev2", "nowhere")),
    ],
)
def test_encode_face_refuses(faces, tmp_path, capsys, pictures, options, expected):
    words = encode(faces, tmp_path / "me.safetensors", *pictures, **options)
    assert_fails(words, capsys, *expected)
    assert list(tmp_path.iterdir()) == []


def test_encode_face_takes_one_of_ten(faces, tmp_path):
    found = []
    for index in (0, 9):
        output = tmp_path / f"{index}.safetensors"
        assert main([*encode(faces, output, "crowd.png", face=index), "--quiet"]) == 0
        found.append(load_identity(output))
    assert not torch.allclose(*found)


def test_encode_face_names_another_output(faces, tmp_path, capsys):
    assert_fails(encode(faces, tmp_path / "me.png", "front.png"), capsys, ".safetensors")


@pytest.fixture
def couple(tmp_path) -> Path:
    """Poses of two people beside each other."""
    path = tmp_path / "couple.json"
    frames = dance_motion(Character(), 3, 8, width=SIZE, height=SIZE, seed=1)
    half = np.diag([0.5, 0.9])
    save_pose_file(
        [
            FramePose(
                people=tuple(
                    map_points(frame.people[0], half, np.array([shift, 0.0]))
                    for shift in (0.0, SIZE / 2)
                ),
                width=SIZE,
                height=SIZE,
            )
            for frame in frames
        ],
        path,
    )
    return path


def pixels(words, output):
    assert main(words) == 0
    return np.stack(list(read_frames(output)))


def test_animate_keeps_the_face_of_photographs_or_of_a_file(inputs, model, faces, tmp_path):
    def video(name, *words, **changes):
        options = animate_options(inputs, model, tmp_path / name, **changes)
        return pixels([*options, *words], tmp_path / name)

    photographs = ["--identity", str(faces / "front.png"), str(faces / "side.png")]
    shown = video("a.mp4", *photographs, faces=faces)
    file = tmp_path / "me.safetensors"
    assert main([*encode(faces, file, "front.png", "side.png"), "--quiet"]) == 0
    np.testing.assert_array_equal(shown, video("b.mp4", identity=file))  # needs no networks
    assert (shown != video("c.mp4", "--no-identity")).any()


def test_animate_keeps_two_faces(inputs, model, faces, couple, tmp_path):
    files = [tmp_path / f"{name}.safetensors" for name in ("front", "cut")]
    for file in files:
        assert main([*encode(faces, file, f"{file.stem}.png"), "--quiet"]) == 0

    def video(name, *words):
        options = animate_options(inputs, model, tmp_path / name, poses=couple)
        return pixels([*options, *words], tmp_path / name)

    def people(first, second):
        return ["--person", *map(str, first), "--person", *map(str, second)]

    following = video("a.mp4", *people([files[0]], [files[1]]))
    swapped = video("b.mp4", *people([files[1]], [files[0]]))
    assert (following != swapped).any()
    left = np.zeros((SIZE, SIZE, 3), np.uint8)
    left[:, : SIZE // 2] = 255
    Image.fromarray(left).save(tmp_path / "left.png")
    Image.fromarray(255 - left).save(tmp_path / "right.png")
    masks = (tmp_path / "left.png", tmp_path / "right.png")
    halves = people([files[0], masks[0]], [files[1], masks[1]])
    assert (following != video("c.mp4", *halves, "--identity-fade", "1")).any()


def test_animate_refines_two_faces(inputs, model, faces, couple, tmp_path):
    output = tmp_path / "out.mp4"
    changes = {"poses": couple, "faces": faces, "width": 192, "height": 192}
    words = animate_options(inputs, model, output, **changes, refine_iterations=1)
    words += ["--person", str(faces / "front.png"), "--person", str(faces / "cut.png")]
    assert main(words) == 0
    assert probe(output).num_frames == 3


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--identity", "front.png"], ("--faces", "encode-face")),
        (["--identity", "a.safetensors", "front.png"], ("cannot be averaged",)),
        (["--identity", "missing.safetensors"], ("cannot be read",)),
        (["--identity", "other.safetensors"], ("is no identity", "something")),
        (["--identity", "damaged.safetensors"], ("cannot be read",)),
        (["--identity", "narrow.safetensors"], ("face embedding has shape (256,)",)),
        (["--person", "good.safetensors", "a.png", "b.png"], ("at most one mask",)),
        (["--person", "good.safetensors", "missing.png"], ("missing.png",)),
        (["--person", "good.safetensors", "--person", "good.safetensors"], ("acts nowhere",)),
        (["--person", "good.safetensors", "black.png"], ("acts nowhere",)),
        (["--identity", "good.safetensors", "--identity-fade", "2"], ("fade is 2",)),
    ],
)
def test_animate_refuses_bad_identities(
    inputs, model, faces, tmp_path, capsys, monkeypatch, words, expected
):
    monkeypatch.chdir(tmp_path)
    save_file({"face_embedding": torch.ones(512)}, "good.safetensors")
    save_file({"face_embedding": torch.ones(256)}, "narrow.safetensors")
    save_file({"something": torch.ones(512)}, "other.safetensors")
    Path("damaged.safetensors").write_bytes(b"not a file")
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save("black.png")
    Image.open(faces / "front.png").save("front.png")
    options = animate_options(inputs, model, tmp_path / "out.mp4")
    assert_fails([*options, *words], capsys, *expected)
    assert not Path("out.mp4").exists()


@pytest.mark.parametrize(
    "extra", [["--identity", "a", "--person", "b"], ["--no-identity", "--identity", "a"]]
)
def test_contradicting_identities_are_usage_errors(inputs, model, tmp_path, capsys, extra):
    with pytest.raises(SystemExit) as stopped:
        main([*animate_options(inputs, model, tmp_path / "out.mp4"), *extra])
    assert stopped.value.code == 2
    assert "contradict each other" in capsys.readouterr().err


def test_the_fade_needs_keypoints(inputs, model, tmp_path, capsys):
    save_file({"face_embedding": torch.ones(512)}, tmp_path / "good.safetensors")
    options = animate_options(
        inputs, model, tmp_path / "out.mp4", poses=inputs / "skeleton.mp4", identity_fade=0.5
    )
    words = [*options, "--identity", str(tmp_path / "good.safetensors")]
    assert_fails(words, capsys, "connect its keypoints too")
