from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch

from animator_core.errors import ConfigError
from animator_core.faces.analysis import _open
from animator_core.pose.detector import PersonDetector as PersonReader
from animator_core.pose.detector import decode_boxes
from animator_core.pose.wholebody import WholebodyNetwork, to_openpose
from animator_core.training import detectors_face as face
from animator_core.training import detectors_person as person
from animator_core.training import detectors_pose as pose
from animator_core.training.detector_data import (
    NUM_JOINTS,
    DetectorDataConfig,
    PicturePool,
    Scenery,
    compose,
    draw_pictures,
)
from animator_core.training.detectors import (
    IGNORED,
    NOTHING,
    AnchorGrid,
    assign,
    focal_loss,
    generalized_iou,
    overlaps,
)
from animator_core.training.drawn_clips import DrawnClipConfig
from animator_core.training.loop import LoopConfig, train

WIDTHS = (8, 8, 8, 8, 8)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> DetectorDataConfig:
    return DetectorDataConfig(
        folder=str(tmp_path_factory.mktemp("detectors") / "pictures"),
        clips=3,
        held_out=2,
        workers=0,
        drawn=DrawnClipConfig(width=96, height=96, frames=1, pairs=0.5),
    )


def loop(folder, steps: int = 15) -> LoopConfig:
    return LoopConfig(
        output=str(folder),
        steps=steps,
        learning_rate=5e-3,
        warmup_steps=0,
        ema=0.5,
        checkpoint_every=steps,
        validate_every=steps,
        workers=0,
    )


def losses_before_and_after(objective, source, config) -> tuple[float, float]:
    batch = source(0, 1)

    def loss() -> float:
        with torch.no_grad():
            return float(objective.train()(batch, torch.Generator())["loss"])

    before = loss()
    train(objective, source, config)
    return before, loss()


def outputs(path, picture: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: picture.astype(np.float32)})


class TestData:
    def test_pictures_come_with_their_people(self, data):
        pool = PicturePool(draw_pictures(data, "train"))
        assert len(pool) == 6
        for index in range(len(pool)):
            picture, people = pool.picture(index)
            assert picture.shape == (96, 96, 3)
            assert people
            for one in people:
                assert one.joints.shape == (NUM_JOINTS, 2)
                inside = one.joints[one.seen]
                assert (inside >= one.box[:2] - 1e-3).all()
                assert (inside <= one.box[2:] + 1e-3).all()

    def test_a_picture_that_fills_the_canvas_only_grows(self, data):
        pool = PicturePool(draw_pictures(data, "train"))
        config = replace(data, as_is=1.0, four=0.0, empty=0.0)
        scenery = Scenery(height=192, width=192, padding=0)
        _, people = compose(np.random.default_rng(0), pool, scenery, config)
        heights = [float(np.ptp(p.joints[:, 1])) for i in range(6) for p in pool.picture(i)[1]]
        assert any(float(np.ptp(people[0].joints[:, 1])) == pytest.approx(2 * h) for h in heights)

    def test_samples_follow_from_their_generator(self, data):
        pool = PicturePool(draw_pictures(data, "train"))
        scenery = Scenery(height=64, width=96, padding=114)
        for seed in range(8):
            first, again = (
                compose(np.random.default_rng(seed), pool, scenery, data) for _ in range(2)
            )
            np.testing.assert_array_equal(first[0], again[0])
            assert first[0].shape == (64, 96, 3)
            for shown in first[1]:
                assert (shown.box[:2] >= 0).all()
                assert (shown.box[2:] <= (95, 63)).all()

    def test_pictures_without_people(self, data):
        pool = PicturePool(draw_pictures(data, "train"))
        config = replace(data, as_is=0.0, four=0.0, empty=1.0)
        scenery = Scenery(height=96, width=96, padding=0)
        for seed in range(6):
            assert not compose(np.random.default_rng(seed), pool, scenery, config)[1]

    def test_bad_shares(self):
        with pytest.raises(ConfigError, match="together at most 1"):
            DetectorDataConfig(folder="x", as_is=0.9, four=0.2)


class TestParts:
    def test_cells_are_responsible_for_things_near_them_and_of_their_size(self):
        sizes = (((0.0, 30.0),), ((30.0, 60.0),), ((60.0, 1e9),))
        grid = AnchorGrid(height=64, width=64, sizes_px=sizes)
        owner = assign(grid, np.array([[10.0, 10.0, 30.0, 30.0]]))  # 20 px around (20, 20)
        points, strides = grid.points()
        mine = np.flatnonzero(owner == 0)
        assert len(mine) > 0
        assert (strides[mine] == 8).all()
        assert np.abs(points[mine] + 4 - 20).max() <= 0.8 * 8
        assert (owner == IGNORED).any()
        assert (owner[strides == 32] == NOTHING).all()
        assert (assign(grid, np.zeros((0, 4))) == NOTHING).all()

    def test_the_nearest_of_two_things_gets_the_cell(self):
        sizes = (((0.0, 1e9),), ((1e9, 2e9),), ((1e9, 2e9),))
        grid = AnchorGrid(height=32, width=64, sizes_px=sizes)
        owner = assign(grid, np.array([[0.0, 0, 24, 24], [10, 0, 34, 24]]))
        assert {0, 1} <= set(owner.tolist())

    def test_grid_sides(self):
        with pytest.raises(ConfigError, match="multiples of 32"):
            AnchorGrid(height=100, width=64, sizes_px=((), (), ()))

    def test_overlap_of_boxes(self):
        a = torch.tensor([[0.0, 0, 2, 2], [0, 0, 1, 1]])
        b = torch.tensor([[1.0, 0, 3, 2], [3, 0, 4, 1]])
        torch.testing.assert_close(generalized_iou(a, b), torch.tensor([1 / 3, -0.5]))
        assert float(overlaps(a[:1], b[:1])[0, 0]) == pytest.approx(1 / 3)

    def test_focal_loss_weighs_by_the_squared_error(self):
        loss = focal_loss(torch.tensor([0.0]), torch.tensor([1.0]))
        assert float(loss) == pytest.approx(0.25 * math.log(2))


class TestFaceDetector:
    def config(self, data, folder) -> face.FaceDetectorConfig:
        return face.FaceDetectorConfig(
            loop=loop(folder), data=data, size=96, widths=WIDTHS, channels=8, batch=4
        )

    def test_learns_and_insightface_reads_it(self, data, tmp_path):
        config = self.config(data, tmp_path)
        objective = face.FaceDetectorObjective(config)
        source = face.TASK.batches(config)
        before, after = losses_before_and_after(objective, source, config.loop)
        assert after < 0.9 * before
        path = tmp_path / "antelopev2" / "scrfd_10g_bnkps.onnx"
        objective.export(tmp_path)
        reader = _open(path, "detection", ["CPUExecutionProvider"])
        reader.prepare(ctx_id=0, det_thresh=0.0)
        picture = source(0, 1)["pictures"][0].permute(1, 2, 0).numpy()
        boxes, points = reader.detect(np.ascontiguousarray(picture[..., ::-1]))
        best = boxes[:, 4].argmax()

        shown = torch.from_numpy(picture.transpose(2, 0, 1).copy())[None]
        with torch.no_grad():
            logits, mine, five = objective.eval().predict(shown)
        index = logits[0].argmax()
        assert boxes[best, 4] == pytest.approx(float(logits[0, index].sigmoid()), abs=1e-4)
        np.testing.assert_allclose(boxes[best, :4], mine[0, index].numpy(), atol=1e-2)
        np.testing.assert_allclose(points[best], five[0, index].numpy(), atol=1e-2)

    def test_targets_agree_with_what_the_network_says(self, data, tmp_path):
        """A network that says the truth has no box and no point loss."""
        config = self.config(data, tmp_path)
        objective = face.FaceDetectorObjective(config)
        batch = face.FaceSource(draw_pictures(data, "train"), config)(0, 3)
        owner = batch["owner"].clamp(min=0)
        rows = torch.arange(len(owner))[:, None]
        truth = (
            torch.where(batch["owner"] >= 0, 9.0, -9.0),
            batch["boxes"][rows, owner],
            batch["points"][rows, owner],
        )
        objective.predict = lambda pictures: truth  # type: ignore[method-assign]
        losses = objective(batch, torch.Generator())
        assert (batch["owner"] >= 0).any()
        assert float(losses["loss"]) < 1e-3


class TestPersonDetector:
    def test_learns_and_the_pack_reads_it(self, data, tmp_path):
        config = person.PersonDetectorConfig(
            loop=loop(tmp_path), data=data, size=96, widths=WIDTHS, channels=8, batch=4
        )
        objective = person.PersonDetectorObjective(config)
        source = person.TASK.batches(config)
        before, after = losses_before_and_after(objective, source, config.loop)
        assert after < 0.9 * before
        objective.export(tmp_path)
        path = tmp_path / "DWPose" / "yolox_l.onnx"
        reader = PersonReader(path, ["cpu"])
        shown = source(0, 1)["pictures"][:1]
        inputs, ratio = reader.prepare(shown[0].permute(1, 2, 0).numpy())
        assert ratio == 1
        assert isinstance(reader.detect(inputs[None], [ratio]), list)
        (raw,) = outputs(path, inputs[None])
        with torch.no_grad():
            boxes, logits = objective.eval().predict(shown)
        decoded = decode_boxes(raw[0], np.arange(len(raw[0])), 96, 96)
        center = (boxes[0, :, :2] + boxes[0, :, 2:]) / 2
        np.testing.assert_allclose(decoded[:, :2], center.numpy(), atol=1e-2)
        size = (boxes[0, :, 2:] - boxes[0, :, :2]).numpy()
        np.testing.assert_allclose(decoded[:, 2:4], size, rtol=1e-3)
        np.testing.assert_allclose(raw[0, :, 4:], logits[0].sigmoid().numpy(), atol=1e-4)


class TestPoseNetwork:
    def config(self, data, folder) -> pose.PoseDetectorConfig:
        return pose.PoseDetectorConfig(
            loop=loop(folder),
            data=replace(data, as_is=1.0, four=0.0, empty=0.0),
            height=64,
            width=48,
            widths=(8, 8, 8, 8),
            hidden=16,
            batch=4,
            canvas=96,
        )

    def test_learns_and_the_pack_reads_it(self, data, tmp_path):
        config = self.config(data, tmp_path)
        objective = pose.PoseDetectorObjective(config)
        source = pose.TASK.batches(config)
        before, after = losses_before_and_after(objective, source, config.loop)
        assert after < 0.95 * before
        objective.export(tmp_path)
        path = tmp_path / "DWPose" / "dw-ll_ucoco_384.onnx"
        reader = WholebodyNetwork(path, ["cpu"])
        assert reader.network.size == (64, 48)
        assert reader.split_ratio == 2
        people = source(0, 1)["people"]
        with torch.no_grad():
            wanted = objective.eval().network(people)
        for found, expected in zip(outputs(path, people.numpy()), wanted, strict=True):
            np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)

    def test_targets_lead_back_to_the_joints(self, data, tmp_path):
        """What the reader makes of perfect bins is where the joints were drawn."""
        config = self.config(data, tmp_path)
        pool = PicturePool(draw_pictures(data, "train"))
        picture, people = pool.picture(0)
        lot = np.random.default_rng(0)
        crop, joints = pose._cut_out(lot, picture, people[0], replace(config, box_error=0.0))
        assert crop.shape == (3, 64, 48)
        reader = WholebodyNetwork.__new__(WholebodyNetwork)
        reader.split_ratio, reader._x, reader._y = 2, 0, 1

        class Perfect:
            size = (64, 48)

            def run(self, inputs, max_batch):
                places = torch.from_numpy(joints[None, :, :2]).float() * 2
                return [
                    pose.simcc_targets(places[..., axis], bins, 1.0).numpy()
                    for axis, bins in ((0, 96), (1, 128))
                ]

        reader.network = Perfect()
        frame = pose.crop_frame(people[0].box, 48 / 64)
        found = to_openpose(reader.keypoints(crop[None], frame[None], 1))[0]
        seen = joints[:, 2] > 0
        assert seen.sum() > 60
        openpose_seen = to_openpose(np.repeat(seen[None, :, None], 3, axis=2).astype(float))[
            0, :, 0
        ]
        body = [j for j in range(18) if j != 1 and openpose_seen[j] > 0]
        np.testing.assert_allclose(found[body, :2], people[0].joints[body], atol=1.5)

    def test_bad_sizes(self, data):
        with pytest.raises(ConfigError, match="multiples of 16"):
            pose.PoseDetectorConfig(loop=LoopConfig(output="x"), data=data, height=100)
