from __future__ import annotations

import onnx
import pytest
import torch
from faces.onnx_faces import save_detector, save_recogniser, small_recogniser
from golden_files import golden_cases, load_case
from recipes import assert_golden, fill

from animator_core.errors import CheckpointError, ConfigError, ShapeError
from animator_core.models.face_recognition import IResNet, build_recogniser, iresnet_config
from animator_core.models.face_recognition_onnx import recogniser_state_from_onnx

CASES = [name for name in golden_cases("07_") if "_keys_" not in name]
KEY_LISTS = [name for name in golden_cases("07_") if "_keys_" in name]


@pytest.mark.parity
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("checkpointed", [False, True])
def test_embeddings_equal_the_reference(name, checkpointed):
    case, t = load_case(name)
    if checkpointed and "recipe" in case:
        pytest.skip("the real size once is enough")
    net = fill(IResNet(**case["config"], checkpoint_blocks=checkpointed), case, t, "w.")
    with torch.set_grad_enabled(checkpointed):
        features = net(t["in.faces"].float() / 127.5 - 1)
    assert_golden(case, t, "out.features", features.detach())


@pytest.mark.parity
@pytest.mark.parametrize("name", KEY_LISTS)
def test_names_shapes_and_types_equal_the_published_file(name):
    case, _ = load_case(name)
    with torch.device("meta"):
        net = IResNet(**case["config"])
    found = {
        k: [list(v.shape), str(v.dtype).removeprefix("torch.")] for k, v in net.state_dict().items()
    }
    assert found == case["keys"]
    assert list(found) == list(case["keys"])
    assert iresnet_config(net.state_dict())["layers"] == tuple(case["config"]["layers"])


def random_faces(n=3):
    return torch.rand(n, 3, 112, 112, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("fold", [True, False])
def test_network_built_from_onnx_equals_onnxruntime(tmp_path, fold):
    import onnxruntime

    path = save_recogniser(tmp_path / "glintr100.onnx", small_recogniser(), fold=fold)
    net = build_recogniser(recogniser_state_from_onnx(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for face in random_faces().split(1):
        (expected,) = session.run(None, {"input.1": face.numpy()})
        assert (net(face) - torch.from_numpy(expected)).abs().max() <= 1e-4
        assert (small_recogniser()(face) - net(face)).abs().max() <= 1e-4


@pytest.mark.parametrize("part", ["conv", "slope", "norm", "fc"])
def test_a_changed_graph_gives_another_network(tmp_path, part):
    path = save_recogniser(tmp_path / "a.onnx", small_recogniser())
    model = onnx.load(str(path))
    names = {"conv": "600", "slope": "slope", "norm": "layer2.0.bn1.running_mean", "fc": "fc.bias"}
    (changed,) = [t for t in model.graph.initializer if t.name == names[part]]
    values = onnx.numpy_helper.to_array(changed) + 0.3
    changed.CopyFrom(onnx.numpy_helper.from_array(values, changed.name))
    onnx.save(model, str(path))
    net = build_recogniser(recogniser_state_from_onnx(path))
    face = random_faces(1)
    assert (net(face) - small_recogniser()(face)).abs().max() > 1e-3


def test_other_graphs_are_refused_with_the_place(tmp_path):
    detector = save_detector(tmp_path / "scrfd_10g_bnkps.onnx")
    with pytest.raises(CheckpointError, match=r"not a face recogniser .* glintr100"):
        recogniser_state_from_onnx(detector)
    (tmp_path / "broken.onnx").write_bytes(b"<html>not found</html>")
    with pytest.raises(CheckpointError, match="download it again"):
        recogniser_state_from_onnx(tmp_path / "broken.onnx")
    with pytest.raises(CheckpointError, match="There is no face recogniser"):
        recogniser_state_from_onnx(tmp_path / "none.onnx")


def test_a_wrong_shortcut_is_noticed(tmp_path):
    path = save_recogniser(tmp_path / "a.onnx", small_recogniser())
    model = onnx.load(str(path))
    adds = [n for n in model.graph.node if n.op_type == "Add"]
    adds[1].input[1] = adds[1].input[0]
    onnx.save(model, str(path))
    with pytest.raises(CheckpointError, match="adds something else"):
        recogniser_state_from_onnx(path)


def test_weights_load_strictly():
    state = small_recogniser().state_dict()
    assert build_recogniser(state)(random_faces(1)).shape == (1, 32)
    short = {k: v for k, v in state.items() if k != "layer3.1.bn3.weight"}
    with pytest.raises(CheckpointError, match=r"Missing: \['layer3.1.bn3.weight'\]"):
        build_recogniser(short)
    with pytest.raises(CheckpointError, match=r"unexpected: \['extra'\]"):
        build_recogniser({**state, "extra": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"wrong shape.*bn2.weight"):
        build_recogniser({**state, "bn2.weight": torch.zeros(3)})
    with pytest.raises(CheckpointError, match="not a face recogniser of the IResNet family"):
        build_recogniser({"unet.conv_in.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="112 px"):
        build_recogniser({**state, "fc.weight": torch.zeros(32, 16 * 16)})
    with pytest.raises(ConfigError, match="overflow"):
        build_recogniser(state, dtype=torch.float16)


def test_bfloat16_embeddings_point_the_same_way():
    state = small_recogniser().state_dict()
    exact, rounded = build_recogniser(state), build_recogniser(state, dtype=torch.bfloat16)
    faces = random_faces()
    cosine = torch.cosine_similarity(exact(faces), rounded(faces.bfloat16()).float())
    assert cosine.min() > 0.99


def test_recomputing_gives_the_same_gradient():
    state = small_recogniser().state_dict()
    gradients = []
    for again in (False, True):
        faces = random_faces().requires_grad_()
        build_recogniser(state, checkpoint_blocks=again)(faces).square().sum().backward()
        gradients.append(faces.grad)
    torch.testing.assert_close(*gradients)


def test_faces_of_another_size_are_refused():
    with pytest.raises(ShapeError, match="112"):
        small_recogniser()(torch.zeros(1, 3, 96, 96))
    with pytest.raises(ConfigError, match="4 stages"):
        IResNet(layers=(1, 1, 1))
    with pytest.raises(ConfigError, match="at least 1"):
        IResNet(layers=(1, 1, 0, 1))
