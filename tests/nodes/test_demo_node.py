"""Demo Character: pictures and poses for a first run."""

from __future__ import annotations

import numpy as np
import torch
from comfy_host import execute

from animator_core.pose.keypoints import from_pose_keypoint, part_array

DEMO, ALIGN = "StableAnimatorDemoCharacter", "StableAnimatorAlignPose"


def drawn(pack, **inputs):
    return execute(pack.nodes[DEMO], **{"frames": 3, **inputs}).result


def bodies(poses) -> np.ndarray:
    return part_array(from_pose_keypoint(poses), "body", 0)[..., :2]


def test_everything_that_a_first_run_needs(pack):
    reference, pose, motion, truth = drawn(pack, misaligned=False)
    assert reference.shape == (1, 192, 192, 3)
    assert truth.shape == (3, 192, 192, 3)
    assert 0 <= truth.min() < truth.max() <= 1
    assert (len(pose), len(motion)) == (1, 3)
    assert (pose[0]["canvas_width"], pose[0]["canvas_height"]) == (192, 192)
    assert [len(frame["people"]) for frame in motion] == [1, 1, 1]
    distance = np.linalg.norm(bodies(motion) - bodies(pose), axis=-1).mean()
    assert distance < 60  # px


def test_character_and_motion_are_chosen_apart(pack):
    first, again = drawn(pack), drawn(pack)
    assert all(torch.equal(first[i], again[i]) for i in (0, 3))
    assert first[2] == again[2]
    moved, other = drawn(pack, motion=5), drawn(pack, character=5)
    corner = (slice(0, 4), slice(0, 4))  # of the character's own scene
    assert torch.allclose(moved[0][0][corner], first[0][0][corner])
    assert not torch.allclose(other[0][0][corner], first[0][0][corner])
    assert not np.allclose(bodies(moved[1]), bodies(first[1]))
    last = drawn(pack, character=2**20 - 1, motion=2**20 - 1, frames=1)
    assert last[0].shape == (1, 192, 192, 3)


def test_framing_and_a_second_person(pack):
    def height(framing):
        points = bodies(drawn(pack, framing=framing)[1])[0]
        return np.ptp(points[:, 1])

    assert height("whole body") < height("half body") < height("close-up")
    _, pose, motion, _ = drawn(pack, people=2)
    assert [len(frame["people"]) for frame in [*pose, *motion]] == [2] * 4
    noses = [p["pose_keypoints_2d"][0] for p in pose[0]["people"]]
    assert noses[0] < noses[1]


def test_align_pose_brings_a_misaligned_motion_back(pack):
    for number in (0, 1, 2):
        chosen = {"character": number, "motion": number, "frames": 16}
        _, pose, motion, truth = drawn(pack, **chosen)
        _, _, straight, same = drawn(pack, misaligned=False, **chosen)
        assert torch.equal(truth, same)  # the goal does not change
        aligned = execute(pack.nodes[ALIGN], driving=motion, reference=pose)[0]
        before = np.abs(bodies(motion) - bodies(straight)).mean()
        after = np.abs(bodies(aligned) - bodies(straight)).mean()
        assert after < 0.5 * before
