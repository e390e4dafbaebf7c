from __future__ import annotations

import numpy as np
import pytest
import torch

from animator_core.errors import ConfigError
from animator_core.faces.masks import PartBox, part_boxes, soft_masks


def facing(x=60.0, y=40.0):
    body = np.zeros((1, 18, 3))
    for joint, (dx, dy) in {0: (0, 4), 14: (-8, -4), 15: (8, -4), 1: (0, 30)}.items():
        body[0, joint] = (x + dx, y + dy, 1)
    body[0, 2], body[0, 5], body[0, 10] = (x - 20, y + 30, 1), (x + 20, y + 30, 1), (x, 110, 1)
    return body


NO_LANDMARKS = np.zeros((1, 68, 3))


def test_the_parts_lie_in_each_other():
    face, head, body = (
        part_boxes(facing(), NO_LANDMARKS, part, 120, 120)[0] for part in ("face", "head", "body")
    )
    assert head.left < face.left < 60 < face.right < head.right
    assert head.top < face.top < 40 < face.bottom < head.bottom
    assert (body.left, body.top, body.right) == (head.left, head.top, head.right)
    assert body.bottom == 110


def test_a_head_from_behind_has_a_place_but_no_face():
    body = facing()
    body[0, [0, 14, 15]] = 0
    body[0, 16], body[0, 17] = (52, 38, 1), (68, 38, 1)
    assert part_boxes(body, NO_LANDMARKS, "face", 120, 120) == [None]
    head = part_boxes(body, NO_LANDMARKS, "head", 120, 120)[0]
    assert head.left < 52
    assert head.right > 68
    assert head.bottom < 75
    body[0, 1] = 0
    assert part_boxes(body, NO_LANDMARKS, "head", 120, 120) == [None]


def test_a_head_without_joints_sits_on_the_neck():
    body = np.zeros((2, 18, 3))
    body[:, 1] = (60, 50, 1)
    body[0, 8], body[0, 11] = (50, 110, 1), (70, 110, 1)
    body[1, 2], body[1, 5] = (39, 50, 1), (81, 50, 1)
    landmarks = np.zeros((2, 68, 3))
    from_hips, from_shoulders = part_boxes(body, landmarks, "head", 120, 120)
    for head in (from_hips, from_shoulders):
        assert (head.left + head.right) / 2 == 60
        assert head.top > 0
        assert 40 < head.bottom < 50
    leaning = body.copy()
    leaning[0, 8], leaning[0, 11] = (0, 50, 1), (0, 50, 1)
    assert part_boxes(leaning, landmarks, "head", 120, 120)[0].left > 60
    assert part_boxes(body, landmarks, "face", 120, 120) == [None, None]
    body[1, 5] = 0
    assert part_boxes(body, landmarks, "head", 120, 120)[1] is None


def test_nobody_and_an_unknown_part():
    nobody = np.zeros((1, 18, 3))
    for part in ("face", "head", "body"):
        assert part_boxes(nobody, NO_LANDMARKS, part, 120, 120) == [None]
    with pytest.raises(ConfigError, match="'face', 'head' or 'body'"):
        part_boxes(nobody, NO_LANDMARKS, "foot", 120, 120)


def test_masks_are_the_share_that_a_box_covers():
    boxes = [PartBox(left=2, top=1, right=4.5, bottom=3), None]
    masks = soft_masks(boxes, 5, 6)
    expected = torch.zeros(5, 6)
    expected[1:3, 2:4] = 1
    expected[1:3, 4] = 0.5
    torch.testing.assert_close(masks[0], expected)
    assert not masks[1].any()


def test_a_feather_slopes_across_the_edge_and_scales_with_the_map():
    box = PartBox(left=16, top=16, right=48, bottom=48)
    mask = soft_masks([box], 64, 64, feather=0.5)[0]
    assert mask[32, 32] == 1
    assert 0.4 < mask[32, 16] < 0.6
    assert 0 < mask[32, 10] < mask[32, 20] < 1
    assert mask[32, 2] == 0
    small = soft_masks([box], 8, 8, feather=0.5, scale=1 / 8)[0]
    pooled = torch.nn.functional.avg_pool2d(mask[None], 8)[0]
    assert (small - pooled).abs().max() < 0.1


def test_growing_and_a_box_beyond_the_frame():
    box = PartBox(left=-10, top=0, right=10, bottom=10).grown(0.5)
    assert (box.left, box.top, box.right, box.bottom) == (-20, -5, 20, 15)
    assert soft_masks([box], 20, 20)[0][:14, :19].min() == 1
    outside = PartBox(left=100, top=100, right=120, bottom=120)
    assert not soft_masks([outside], 20, 20).any()
