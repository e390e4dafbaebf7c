"""Extract, clean, align and overlay: what their sockets promise."""

from __future__ import annotations

import json
import math
import sys
from typing import ClassVar

import pytest
import torch
from comfy_host import execute, standing_person, walk
from onnx_factory import save_marker_detector, save_marker_pose_network

EXTRACT, CLEAN = "StableAnimatorExtractPoses", "StableAnimatorCleanPoses"
ALIGN, OVERLAY = "StableAnimatorAlignPose", "StableAnimatorPoseOverlay"
EMPTY = {"people": [], "canvas_width": 64, "canvas_height": 64}


@pytest.fixture
def detectors(folders):
    """The two ONNX networks, in miniature: a red block is a person to them."""
    networks = folders.models / "DWPose"
    networks.mkdir()
    save_marker_detector(networks / "yolox_l.onnx")
    save_marker_pose_network(networks / "dw-ll_ucoco_384.onnx")
    return networks


def present(frame) -> int:
    """People of a frame of whom anything was found; absent ones keep their place."""
    parts = [person["pose_keypoints_2d"][2::3] for person in frame["people"]]
    return sum(any(confidences) for confidences in parts)


def red_blocks(frames: int) -> torch.Tensor:
    pictures = torch.zeros(frames, 96, 96, 3)
    for index in range(frames):
        pictures[index, 20:70, 30 + 4 * index : 60 + 4 * index, 0] = 1
    return pictures


def test_extract_finds_the_person_of_every_frame(pack, detectors):
    pictures = torch.cat((red_blocks(2), torch.zeros(1, 96, 96, 3)))
    poses, preview = execute(pack.nodes[EXTRACT], images=pictures).result
    assert [present(frame) for frame in poses] == [1, 1, 0]
    assert {(f["canvas_width"], f["canvas_height"]) for f in poses} == {(96, 96)}
    assert preview.shape == (3, 96, 96, 3)
    assert not torch.equal(preview[0], pictures[0])
    torch.testing.assert_close(preview[2], pictures[2])


def test_extract_without_its_networks(pack, folders):
    with pytest.raises(pack.errors.CheckpointError, match="not installed"):
        execute(pack.nodes[EXTRACT], images=red_blocks(1))


def test_extract_with_the_two_networks_exchanged(pack, detectors):
    with pytest.raises(pack.errors.CheckpointError, match="is not a"):
        execute(
            pack.nodes[EXTRACT],
            images=red_blocks(1),
            detector="dw-ll_ucoco_384.onnx",
            pose_network="yolox_l.onnx",
        )


def test_extract_is_cancelled(pack, detectors, mm):
    mm.interrupt_current_processing(True)
    with pytest.raises(mm.InterruptProcessingException):
        execute(pack.nodes[EXTRACT], images=red_blocks(2))


def test_clean_fills_a_gap_and_leaves_a_long_one(pack):
    moves = walk(12)
    gapped = [*moves[:2], EMPTY, *moves[3:]]
    filled, fps = execute(pack.nodes[CLEAN], poses=gapped, max_gap=1).result
    kept = execute(pack.nodes[CLEAN], poses=gapped, max_gap=0)[0]
    assert [present(f) for f in filled] == [1] * 12
    assert present(kept[2]) == 0
    assert fps == 30.0


def test_clean_resamples(pack):
    poses, fps = execute(pack.nodes[CLEAN], poses=walk(9), fps=30.0, target_fps=15.0).result
    assert fps == 15.0
    assert len(poses) == 5


def test_clean_settles_confidences(pack):
    frame = standing_person()
    frame["people"][0]["pose_keypoints_2d"][2::3] = [0.4] * 18
    settled = execute(pack.nodes[CLEAN], poses=[frame] * 3, settle_confidence=True)[0]
    assert set(settled[0]["people"][0]["pose_keypoints_2d"][2::3]) <= {0.0, 1.0}


@pytest.mark.parametrize("method", ["learned", "procrustes", "rescale", "none"])
def test_align_gives_poses_overlay_residual_and_transforms(pack, method):
    run = execute(
        pack.nodes[ALIGN],
        driving=walk(4),
        reference=[standing_person(size=128)],
        reference_image=torch.rand(1, 128, 128, 3),
        method=method,
    )
    poses, overlay, residual, transforms = run.result
    assert len(poses) == 4
    assert {(f["canvas_width"], f["canvas_height"]) for f in poses} == {(128, 128)}
    assert overlay.shape == (4, 128, 128, 3)
    assert isinstance(residual, float)
    assert isinstance(json.loads(transforms), list)


def test_align_carries_the_motion_onto_the_reference(pack):
    small = [standing_person(0.3, 64) for _ in range(4)]
    goal = standing_person(0.6, 128)
    poses, _, residual, _ = execute(
        pack.nodes[ALIGN], driving=small, reference=[goal], method="procrustes"
    ).result
    found = torch.tensor(poses[0]["people"][0]["pose_keypoints_2d"])
    wanted = torch.tensor(goal["people"][0]["pose_keypoints_2d"], dtype=found.dtype)
    assert (found - wanted).abs().max() < 1
    assert residual < 0.02 or math.isnan(residual)


def test_align_says_on_the_node_what_it_did(pack, monkeypatch):
    class Server:
        shown: ClassVar[list] = []

        def send_progress_text(self, text, node_id):
            self.shown.append((text, node_id))

    class Module:
        class PromptServer:
            instance = Server()

    monkeypatch.setitem(sys.modules, "server", Module)
    execute(pack.nodes[ALIGN], driving=walk(2), reference=walk(1))
    (text, node_id), *_ = Server.shown
    assert "scale" in text
    assert node_id == "7"


def test_align_to_a_picture_of_nobody(pack):
    with pytest.raises(pack.errors.NoPoseError, match="no person to align to"):
        execute(pack.nodes[ALIGN], driving=walk(2), reference=[EMPTY])


def test_overlay_takes_one_picture_or_one_for_each(pack):
    one = execute(pack.nodes[OVERLAY], images=torch.zeros(1, 64, 80, 3), poses=walk(3))[0]
    each = execute(pack.nodes[OVERLAY], images=torch.zeros(3, 64, 80, 3), poses=walk(3))[0]
    assert one.shape == (3, 64, 80, 3)
    torch.testing.assert_close(one, each)
    assert one.max() > 0.2
    with pytest.raises(pack.errors.ShapeError, match="2 pictures for 3 poses"):
        execute(pack.nodes[OVERLAY], images=torch.zeros(2, 64, 64, 3), poses=walk(3))
