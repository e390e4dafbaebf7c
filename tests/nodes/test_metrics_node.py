"""Animation Metrics: what is measured follows from what is connected."""

from __future__ import annotations

import json
import math

import pytest
import torch
from comfy_host import execute
from faces.onnx_faces import marker_picture, save_detector, save_recogniser, small_recogniser

from animator_core.demo.identity import Character
from animator_core.demo.motion import dance_motion
from animator_core.pose.keypoints import to_pose_keypoint

METRICS, ENCODE = "StableAnimatorMetrics", "StableAnimatorEncodeFace"
L1, PSNR, SSIM, CSIM, POSE = range(2, 7)


def frames(number: int = 3, seed: int = 0, side: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(number, side, side, 3, generator=generator)


def test_target_frames(pack):
    target = frames()
    made = (target + 0.1 * frames(seed=1)).clamp(0, 1)
    result = execute(pack.nodes[METRICS], images=made, target=target).result
    report = json.loads(result[0])
    per_frame = report["clips"][0]["metrics"]["psnr"]["per_frame"]
    assert len(per_frame) == 3
    assert result[PSNR] == pytest.approx(sum(per_frame) / 3)
    assert 0 < result[L1] < 0.1
    assert 0.5 < result[SSIM] < 1
    assert math.isnan(result[CSIM])
    assert math.isnan(result[POSE])
    assert result[1].shape == (1, 640, 640, 3)  # two panels
    assert "psnr_published" not in report["metrics"]
    report = json.loads(execute(pack.nodes[METRICS], images=made, target=target, published=True)[0])
    assert report["metrics"]["psnr_published"]["mean"] >= result[PSNR] - 1e-6


def test_other_kinds_of_pictures(pack):
    grey = frames(1)[..., :1]
    rgba = torch.cat([grey.expand(-1, -1, -1, 3), torch.ones(1, 32, 32, 1)], dim=-1)
    result = execute(pack.nodes[METRICS], images=grey, target=rgba).result
    assert (result[L1], result[PSNR], result[SSIM]) == (0, 100, pytest.approx(1))


def test_a_face(pack, folders):
    folder = folders.models / "antelopev2"
    folder.mkdir()
    save_detector(folder / "scrfd_10g_bnkps.onnx")
    save_recogniser(folder / "glintr100.onnx", small_recogniser(num_features=512))
    person = torch.from_numpy(marker_picture(640, 640, [(320, 320)])).float()[None] / 255
    identity = execute(pack.nodes[ENCODE], images=person)[0]
    both = torch.cat([person, torch.zeros_like(person)])
    result = execute(pack.nodes[METRICS], images=both, identity=identity).result
    assert result[CSIM] == pytest.approx(1, abs=1e-3)
    assert math.isnan(result[PSNR])
    csim = json.loads(result[0])["clips"][0]["metrics"]["csim"]
    assert csim["frames_without_face"] == 1
    nobody = execute(pack.nodes[METRICS], images=both[1:], identity=identity).result
    assert math.isnan(nobody[CSIM])
    assert "none of 1 frames" in json.loads(nobody[0])["not_computed"]["csim"]


def test_poses(pack):
    poses = to_pose_keypoint(dance_motion(Character(), 3, 8, width=32, height=32, seed=1))
    inputs = {"images": frames(), "driven_poses": poses}
    result = execute(pack.nodes[METRICS], **inputs, generated_poses=poses).result
    assert result[POSE] == 0
    with pytest.raises(pack.errors.ConfigError, match="needs both"):
        execute(pack.nodes[METRICS], **inputs)
    with pytest.raises(pack.errors.ShapeError, match="2 frames for a clip of 3"):
        execute(pack.nodes[METRICS], **inputs, generated_poses=poses[:2])


def test_what_does_not_fit(pack):
    target = frames()
    with pytest.raises(pack.errors.ConfigError, match="nothing to compare"):
        execute(pack.nodes[METRICS], images=target)
    with pytest.raises(pack.errors.ShapeError, match="2 generated frames but 3 target"):
        execute(pack.nodes[METRICS], images=target[:2], target=target)
    with pytest.raises(pack.errors.ShapeError, match="16x16 px but its target has 32x32"):
        execute(pack.nodes[METRICS], images=frames(side=16), target=target)
    larger = target.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    settings = {"images": larger[:2], "target": target, "resize": True, "trim": True}
    result = execute(pack.nodes[METRICS], **settings).result
    report = json.loads(result[0])
    assert (report["clips"][0]["frames"], report["clips"][0]["width"]) == (2, 32)
    assert result[PSNR] > 20


def test_cancel(pack, mm):
    mm.interrupt_current_processing(True)
    with pytest.raises(mm.InterruptProcessingException):
        execute(pack.nodes[METRICS], images=frames(), target=frames())
