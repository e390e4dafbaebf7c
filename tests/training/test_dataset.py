"""Videos in the published layout: reading them, training on them, and making them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from animation_factory import SIDE, drawn_settings, write_clip_folder, write_networks
from faces.onnx_faces import marker_picture, save_detector, save_recogniser, small_recogniser
from onnx_factory import save_marker_detector, save_marker_pose_network

from animator_core.checkpoints.state_dict import read_state_dict
from animator_core.cli import main
from animator_core.errors import ConfigError, MediaError
from animator_core.frames import load_picture
from animator_core.training.animation import AnimationObjective
from animator_core.training.animation_config import (
    AnimationTrainingConfig,
    FolderDataConfig,
    SamplesConfig,
)
from animator_core.training.animation_networks import load_training_models
from animator_core.training.animation_run import train_animation
from animator_core.training.dataset import (
    FolderClipSource,
    Window,
    find_clips,
    load_window,
    random_window,
    skipped_clips,
)
from animator_core.training.held_out import HeldOutFolders
from animator_core.training.settings import read_settings
from animator_core.video import write_video

SIZES = {"rec_size": (SIDE, SIDE), "vec_size": (SIDE, 2 * SIDE)}


def config_of(root, **changes):
    return FolderDataConfig(root=str(root), stride=2, **{**SIZES, **changes})


@pytest.fixture
def root(tmp_path):
    """Two good square videos and a tall one; four with faults."""
    folder = tmp_path / "data"
    for number in (1, 2):
        write_clip_folder(folder / f"rec/0000{number}", 8, seed=number)
    write_clip_folder(folder / "vec/00001", 8, seed=3)
    write_clip_folder(folder / "rec/00003", 3, seed=4)
    lacking = write_clip_folder(folder / "rec/00004", 8, seed=5)
    (lacking / "faces/frame_6.png").unlink()
    (folder / "rec/00005").mkdir()
    write_clip_folder(folder / "rec/00006", 8, seed=6, embeddings=False)
    return folder


def test_faults_are_named(root):
    clips, faults = find_clips(config_of(root), 4)
    assert [Path(c.path).parts[-2:] for c in clips] == [
        ("rec", "00001"),
        ("rec", "00002"),
        ("vec", "00001"),
    ]
    reasons = {Path(clip).name: reason for clip, reason in faults}
    assert reasons.keys() == {"00003", "00004", "00005", "00006"}
    assert "3 frames, but 5" in reasons["00003"]
    assert "missing in faces" in reasons["00004"]
    assert "frame_6" in reasons["00004"]
    assert "images" in reasons["00005"]
    assert "prepare-data" in reasons["00006"]


def test_frames_are_in_the_order_of_their_numbers(tmp_path):
    write_clip_folder(tmp_path / "rec/00001", 12)
    (clip,), _ = find_clips(config_of(tmp_path), 4)
    assert clip.frames[1:3] == ("frame_1.png", "frame_2.png")
    assert clip.frames[-1] == "frame_11.png"


def test_a_list_chooses_the_folders(root):
    (root / "video_rec_path.txt").write_text(f"rec/00002\n\n{root / 'rec/00001'}\n")
    clips, faults = find_clips(config_of(root), 4)
    assert [Path(clip.path).name for clip in clips] == ["00002", "00001", "00001"]
    assert not faults


def test_nothing_usable_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="prepare-data"):
        find_clips(config_of(tmp_path), 4)


def test_windows_are_spread_and_leave_the_reference_out():
    lot = np.random.default_rng(0)
    for available in (5, 7, 8, 40):
        for _ in range(20):
            window = random_window(lot, available, 4, 2)
            assert len(set(window.frames)) == 4
            assert window.reference not in window.frames
            assert max(window.frames) < available
    wide = random_window(lot, 40, 4, 2)
    assert set(np.diff(wide.frames)) == {2}


def test_a_window_is_what_lies_in_the_files(root):
    clips, _ = find_clips(config_of(root), 4)
    row = load_window(clips[0], Window(reference=7, frames=(0, 2)), config_of(root))
    folder = Path(clips[0].path)
    for name, kind, index in (("frames", "images", 2), ("poses", "poses", 2)):
        expected = load_picture(folder / kind / f"frame_{index}.png")
        assert np.array_equal(row[name][1].permute(1, 2, 0), expected)
    assert np.array_equal(
        row["reference"].permute(1, 2, 0), load_picture(folder / "images/frame_7.png")
    )
    assert set(np.unique(row["face_masks"])) == {0, 255}
    stored = read_state_dict(folder / "face_embeddings.safetensors")["embeddings"]
    assert torch.equal(row["face_embedding"], stored[7])
    tall = load_window(clips[2], Window(reference=7, frames=(0,)), config_of(root))
    assert tall["frames"].shape == (1, 3, 2 * SIDE, SIDE)


def test_what_cannot_be_read_is_skipped_and_counted(root, tmp_path):
    (root / "rec/00001/images/frame_3.png").write_bytes(b"no picture")
    (root / "rec/00001/images/frame_4.png").write_bytes(b"")
    clips, _ = find_clips(config_of(root), 6)
    source = FolderClipSource(
        config_of(root), SamplesConfig(clips=2, clip_frames=6), tuple(clips), str(tmp_path / "s")
    )
    parts = set()
    for seed in range(16):
        batch = source(0, seed)
        assert torch.equal(batch["frames"], source(0, seed)["frames"])
        parts.add(tuple(batch["frames"].shape))
    assert parts == {(2, 6, 3, SIDE, SIDE), (2, 6, 3, 2 * SIDE, SIDE)}
    skipped = skipped_clips(tmp_path / "s")
    assert [Path(clip).name for clip in skipped] == ["00001"]
    assert "frame_" in next(iter(skipped.values()))


def test_only_broken_videos_are_an_error(tmp_path):
    folder = write_clip_folder(tmp_path / "rec/00001", 6)
    for path in (folder / "poses").iterdir():
        path.write_bytes(b"no picture")
    clips, _ = find_clips(config_of(tmp_path), 4)
    samples = SamplesConfig(clips=1, clip_frames=4)
    source = FolderClipSource(config_of(tmp_path), samples, tuple(clips), str(tmp_path / "s"))
    with pytest.raises(MediaError, match="could not be read"):
        source(0, 0)


@pytest.fixture
def settings(root, tmp_path):
    tables = drawn_settings(tmp_path, write_networks(tmp_path / "models"))
    del tables["pictures"], tables["clips"]
    tables["samples"] = {"clips": 1, "clip_frames": 3}
    tables["loop"] |= {"steps": 2, "checkpoint_every": 1, "validate_every": 2}
    tables["folders"] = {"root": str(root), "stride": 2, **SIZES}
    return tables


def test_training_on_folders_names_what_it_skipped(settings, caplog):
    folder = train_animation(json.loads(json.dumps(settings)), "test")
    assert "4 videos were skipped" in caplog.text
    assert len(skipped_clips(folder / "skipped.jsonl")) == 4
    entry = json.loads((folder / "log.jsonl").read_text().splitlines()[-1])
    assert np.isfinite(entry["loss"])
    assert {"psnr", "copy_psnr", "vae_psnr"} <= entry["validation"].keys()
    assert (folder / "validation/step_0000002_0.png").is_file()
    before = len((folder / "skipped.jsonl").read_text().splitlines())
    train_animation(json.loads(json.dumps(settings)), "test")
    assert len((folder / "skipped.jsonl").read_text().splitlines()) == before


def test_settings_of_drawn_clips_are_refused_for_folders(settings):
    settings["samples"] |= {"moments_share": 0.5, "anchored": 0.9}
    with pytest.raises(ConfigError, match=r"moments_share, anchored .* know clips and clip_frames"):
        read_settings(AnimationTrainingConfig, settings, source="test")


def test_pixels_are_encoded_as_inference_does(settings):
    config = read_settings(AnimationTrainingConfig, settings, source="test")
    models = load_training_models(config)
    objective = AnimationObjective(config, models, HeldOutFolders(config, ()))
    clips, _ = find_clips(config.folders, 3)
    batch = FolderClipSource(config.folders, config.samples, tuple(clips[:1]), "unused")(0, 0)
    encoded = objective.encoded(batch, torch.Generator().manual_seed(0))
    frames = batch["frames"][0].float() / 127.5 - 1
    expected = models.vae.encode_chunks(frames).detach()
    torch.testing.assert_close(encoded["latents"][0], expected, rtol=1e-4, atol=1e-5)
    assert encoded["face_masks"].shape == (1, 3, 4, 4)
    mask = batch["face_masks"][0, :, ::8, ::8].float() / 255  # nearest: each cell's first pixel
    assert torch.equal(encoded["face_masks"][0], mask)
    quiet = replace(config, noise_augmentation=0.0)
    exact = AnimationObjective(quiet, models, HeldOutFolders(quiet, ())).encoded(
        batch, torch.Generator().manual_seed(0)
    )
    reference = models.vae.encode_chunks(batch["reference"].float() / 127.5 - 1).detach()
    torch.testing.assert_close(exact["reference_latents"], reference, rtol=1e-4, atol=1e-5)
    assert not torch.equal(exact["reference_latents"], encoded["reference_latents"])


def frame(width, height, *, person=True, shift=0):
    picture = marker_picture(height, width, [(height // 4, width // 2 + shift)] if person else [])
    if person:
        picture[height // 2 : height // 2 + 110, width // 2 : width // 2 + 110] = (255, 0, 0)
    return picture


def test_videos_become_training_data(tmp_path, capsys):
    models = tmp_path / "models"
    detector = save_marker_detector(tmp_path / "detector.onnx")
    pose = save_marker_pose_network(tmp_path / "pose.onnx")
    (models / "antelopev2").mkdir(parents=True)
    save_detector(models / "antelopev2/scrfd_10g_bnkps.onnx")
    save_recogniser(models / "antelopev2/glintr100.onnx", small_recogniser())
    videos = tmp_path / "videos"
    write_video(videos / "a", [frame(512, 512, shift=8 * i) for i in range(3)], 8)
    write_video(videos / "b", [frame(288, 512) for _ in range(2)], 8)
    write_video(videos / "c", [frame(512, 512, person=False) for _ in range(2)], 8)
    (videos / "d.mp4").write_bytes(b"no video")
    words = ["prepare-data", "--quiet", "--videos", str(videos), "--models", str(models)]
    words += ["--output", str(tmp_path / "data"), "--detector", str(detector)]
    words += ["--pose-model", str(pose)]
    assert main(words) == 0
    complaints = capsys.readouterr().err
    assert "0 of 2 frames" in complaints
    assert "d.mp4" in complaints
    clip = tmp_path / "data/rec/00001"
    for kind in ("images", "poses", "faces"):
        assert sorted(p.name for p in (clip / kind).iterdir()) == [
            f"frame_{i}.png" for i in range(3)
        ]
        assert load_picture(clip / kind / "frame_0.png").shape == (512, 512, 3)
    assert load_picture(tmp_path / "data/vec/00002/images/frame_0.png").shape == (1024, 576, 3)
    mask = load_picture(clip / "faces/frame_0.png")[..., 0]
    assert mask[128, 256] == 255
    assert mask[10, 10] == 0
    assert load_picture(clip / "poses/frame_0.png").any()
    state = read_state_dict(clip / "face_embeddings.safetensors")
    assert state["found"].all()
    assert state["embeddings"].shape == (3, 32)
    assert not list((tmp_path / "data").rglob("*.part"))
    clips, faults = find_clips(FolderDataConfig(root=str(tmp_path / "data")), 1)
    assert len(clips) == 2
    assert not faults
    made = (clip / "images/frame_0.png").stat().st_mtime_ns
    assert main(words) == 0
    assert (clip / "images/frame_0.png").stat().st_mtime_ns == made
