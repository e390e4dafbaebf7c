"""The demo family at work: `demo`, `gallery`, and what its parts earn on held-out scenes."""

import json
from dataclasses import replace

import numpy as np
import pytest
from cli_inputs import assert_fails
from PIL import Image

from animator_core.cli import main
from animator_core.commands import demo
from animator_core.commands.demo import demo_scene, gallery_scenes
from animator_core.commands.models import make_devices
from animator_core.commands.panels import PANEL_PX, Row, panel, row_of_panels, sheet_of_rows
from animator_core.commands.showcase import Scene, Theatre, stage
from animator_core.console import Console
from animator_core.evaluation.pose_error import pose_error
from animator_core.evaluation.psnr import psnr
from animator_core.training.drawn_clips import DrawnClipConfig, split_of
from animator_core.video import read_frames

CLOSE_UP = DrawnClipConfig(frames=4, pairs=0.0, close_ups=1.0, half_bodies=0.0)


@pytest.fixture(scope="module")
def theatre():
    return Theatre(Console(quiet=True), make_devices("cpu"))


def scene_of(number, **changes):
    return Scene(name="test", title="test", number=number, **{"data": CLOSE_UP, **changes})


def mean_psnr(frames, truth):
    return np.mean([psnr(a, b) for a, b in zip(frames, truth, strict=True)])


def test_demo_writes_video_and_sheet(tmp_path, capsys):
    output = tmp_path / "nice.mp4"
    words = ["demo", "--output", str(output), "--frames", "3", "--steps", "1", "--device", "cpu"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    for text in ("CSIM", "PSNR", "sampling", "nice_sheet.png"):
        assert text in shown
    frames = list(read_frames(output))
    assert len(frames) == 3
    assert frames[0].shape[1] > 4 * PANEL_PX  # reference, driving, aligned, output
    assert sorted(p.name for p in tmp_path.iterdir()) == ["nice.mp4", "nice_sheet.png"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [(["--frames", "0"], "0 frames"), (["--steps", "0"], "steps is 0")],
)
def test_demo_refuses_bad_settings(tmp_path, capsys, words, expected):
    assert_fails(["demo", "--output", str(tmp_path / "demo.mp4"), *words], capsys, expected)
    assert list(tmp_path.iterdir()) == []


def test_demo_refuses_a_folder(tmp_path, capsys):
    assert_fails(["demo", "--output", str(tmp_path / "demo")], capsys, "suffix")


def test_gallery_writes_every_scene(tmp_path, capsys, monkeypatch):
    def short(frames, seed):
        scenes = gallery_scenes(frames, seed)
        return tuple(s for s in scenes if s.name in ("two_people", "adapter_off", "refined"))

    monkeypatch.setattr(demo, "gallery_scenes", short)
    folder = tmp_path / "gallery"
    words = ["gallery", "--output", str(folder), "--frames", "2", "--steps", "2"]
    assert main([*words, "--device", "cpu"]) == 0
    names = ["adapter_off", "refined", "two_people"]
    files = sorted([*(f"{n}.mp4" for n in names), "gallery.json", "gallery.png"])
    assert sorted(p.name for p in folder.iterdir()) == files
    figures = json.loads((folder / "gallery.json").read_text())
    assert sorted(figures) == names
    assert len(figures["two_people"]["csim"]) == 2
    assert "3 videos" in capsys.readouterr().out
    with Image.open(folder / "gallery.png") as sheet:
        assert sheet.height > 3 * PANEL_PX


def test_scenes_are_held_out_and_differ():
    scenes = gallery_scenes(4, 0)
    names = [scene.name for scene in scenes]
    assert len(set(names)) == len(names) == 8
    for scene in (demo_scene(4, 0), *scenes):
        short = replace(scene, data=replace(scene.data, frames=1))
        staged = stage(short)
        assert all(split_of(seed) == "test" for seed in staged.clip.character_seeds)
    kinds = {s.name: stage(replace(s, data=replace(s.data, frames=1))).clip.who for s in scenes}
    assert len(kinds["two_people"]) == 2
    assert kinds["animal"][0].kind != "person"


def test_alignment_brings_the_motion_back():
    scene = demo_scene(8, 0)
    aligned, not_aligned = stage(scene), stage(replace(scene, aligned=False))
    truth = aligned.clip.poses
    error = pose_error(not_aligned.poses, truth).mean
    assert pose_error(aligned.poses, truth).mean < 0.3 * error
    assert not_aligned.poses == not_aligned.driving


def test_a_hidden_head_hides_the_head_only():
    staged = stage(scene_of(3, hidden_head=True))
    changed = (staged.reference != staged.clip.reference).any(axis=2)
    left, top, right, bottom = staged.clip.reference_face_boxes[0].astype(int)
    assert changed[top:bottom, left:right].mean() > 0.95
    assert 0.05 < changed.mean() < 0.8


def test_the_family_follows_the_pose_better_than_a_still_picture(theatre):
    scene = scene_of(5, data=replace(CLOSE_UP, close_ups=0.0, half_bodies=1.0))
    performed = theatre.perform(stage(scene))
    clip = performed.staged.clip
    still = mean_psnr([clip.reference] * 4, clip.frames)
    assert performed.psnr.mean > still + 1
    assert "CSIM" in performed.caption


def test_only_the_identity_tells_a_hidden_face(theatre):
    on = theatre.perform(stage(scene_of(13, hidden_head=True)))
    off = theatre.perform(stage(scene_of(13, hidden_head=True, identity="off")))
    assert on.similarity[0].mean > off.similarity[0].mean + 0.05


def test_refinement_raises_the_similarity(theatre):
    plain = theatre.perform(stage(scene_of(13)))
    refined = theatre.perform(stage(scene_of(13, refine_iterations=2)))
    assert refined.similarity[0].mean > plain.similarity[0].mean


def test_exchanged_faces_change_sides(theatre):
    data = replace(CLOSE_UP, pairs=1.0, close_ups=0.0, half_bodies=1.0)
    request = theatre.request(stage(scene_of(6, data=data)))
    exchanged = theatre.request(stage(scene_of(6, data=data, identity="exchanged")))
    ours, theirs = request.people, exchanged.people
    assert [p.person for p in ours] == [p.person for p in theirs] == [0, 1]
    assert (ours[0].face_embedding == theirs[1].face_embedding).all()
    assert (ours[0].face_embedding != theirs[0].face_embedding).any()


def test_pages_hold_what_they_are_given():
    red = panel(np.full((8, 8, 3), (255, 0, 0), np.uint8))
    assert red.shape == (PANEL_PX, PANEL_PX, 3)
    page = row_of_panels([red, red], ["a", "b"], "caption")
    assert (page == (255, 0, 0)).all(axis=2).sum() == 2 * PANEL_PX**2
    sheet = np.asarray(sheet_of_rows([Row(title="x", pictures=[red]), Row(title="y", pictures=[])]))
    assert (sheet == (255, 0, 0)).all(axis=2).sum() == PANEL_PX**2
