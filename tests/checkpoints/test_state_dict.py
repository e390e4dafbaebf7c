"""Weight files that are fine, broken, dangerous, or another network's."""

from __future__ import annotations

import os
import pickle

import pytest
import torch
from factory import SMALL, small_models
from safetensors.torch import save_file

from animator_core.checkpoints.build import empty_network
from animator_core.checkpoints.state_dict import load_strict, read_metadata, read_state_dict
from animator_core.errors import CheckpointError

WEIGHTS = {"a.weight": torch.randn(8, 4), "a.bias": torch.randn(8).half()}


@pytest.fixture(scope="module")
def models():
    return small_models()


def save(path, content, legacy=False):
    if path.suffix == ".safetensors":
        save_file(content, path)
    else:
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt", ".bin"])
@pytest.mark.parametrize("legacy", [False, True])
def test_formats(tmp_path, suffix, legacy):
    path = save(tmp_path / f"w{suffix}", WEIGHTS, legacy)
    found = read_state_dict(path)
    assert found.keys() == WEIGHTS.keys()
    for name, value in WEIGHTS.items():
        assert torch.equal(found[name], value)
        assert found[name].dtype == value.dtype


def test_the_content_decides_and_not_the_suffix(tmp_path):
    path = save(tmp_path / "w.safetensors", WEIGHTS)
    assert read_state_dict(path.rename(tmp_path / "w.pth")).keys() == WEIGHTS.keys()


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": WEIGHTS, "epoch": 3},
        {f"module.{k}": v for k, v in WEIGHTS.items()},
        {"state_dict": {f"module.{k}": v for k, v in WEIGHTS.items()}},
    ],
)
def test_wrappers_of_training_code(tmp_path, content):
    assert read_state_dict(save(tmp_path / "w.pth", content)).keys() == WEIGHTS.keys()


def test_a_prefix_of_some_names_is_no_prefix(tmp_path):
    content = {"module.a": torch.zeros(1), "b": torch.zeros(1)}
    assert read_state_dict(save(tmp_path / "w.pth", content)).keys() == content.keys()


def test_metadata(tmp_path):
    save_file(WEIGHTS, tmp_path / "w.safetensors", metadata={"trained": "false"})
    assert read_metadata(tmp_path / "w.safetensors") == {"trained": "false"}
    assert read_metadata(save(tmp_path / "w.pth", WEIGHTS)) == {}
    (tmp_path / "w.safetensors").write_bytes((50).to_bytes(8, "little") + b'{"a":')
    with pytest.raises(CheckpointError, match="damaged or cut off"):
        read_metadata(tmp_path / "w.safetensors")


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 3128\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (LFS, "git-lfs pointer.*git lfs pull"),
        (b"<!DOCTYPE html><html>Login</html>", "web page.*accept the licence"),
        (b"\n<HTML><body>404", "web page"),
        (b"hello, world, this is text", "is no weight file.*hello"),
        (b"\x80\x02garbage", "damaged or cut off|named .safetensors but is a pickle"),
        (b"PK\x03\x04garbage", "damaged or cut off|named .safetensors but is a pickle"),
        ((10**7).to_bytes(8, "little") + b'{"a":', "damaged or cut off"),
        ((10**9).to_bytes(8, "little") + b'{"a":', "no weight file"),
    ],
)
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_files_that_hold_no_weights(tmp_path, content, message, suffix):
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as error:
        read_state_dict(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
def test_half_a_file(tmp_path, suffix, legacy, share):
    path = save(tmp_path / f"w{suffix}", {"a": torch.randn(100, 100)}, legacy)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CheckpointError, match=r"damaged or cut off \([\d,]+ bytes\)"):
        read_state_dict(path)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(CheckpointError, match="found nothing"):
        read_state_dict(tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="found a folder"):
        read_state_dict(tmp_path)


class Attack:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


def test_headers_that_begin_like_a_pickle(tmp_path):
    path = save(tmp_path / "w.safetensors", {"a": torch.zeros(1)})
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + length].ljust(0x80)
    path.write_bytes((0x80).to_bytes(8, "little") + header + content[8 + length :])
    assert read_state_dict(path).keys() == {"a"}


@pytest.mark.parametrize("style", ["zip", "legacy", "protocol 0", "bare", "wrapped"])
def test_code_in_a_pickle_is_refused_and_never_run(tmp_path, style):
    path, target = tmp_path / "w.pth", tmp_path / "pwned"
    content = {"a.weight": torch.zeros(2), "b": Attack(target)}
    if style in ("bare", "protocol 0"):
        protocol = 0 if style == "protocol 0" else pickle.DEFAULT_PROTOCOL
        path.write_bytes(pickle.dumps(content["b"], protocol=protocol))
    else:
        content = {"state_dict": content} if style == "wrapped" else content
        save(path, content, style == "legacy")
    named = r"refused.*system.*[Nn]othing of it was run"
    unnamed = r"holds more than plain weights.*Nothing of it was run|no weight file"
    with pytest.raises(
        CheckpointError, match=unnamed if "bare" in style or "0" in style else named
    ):
        read_state_dict(path)
    assert not target.exists()
    pickle.loads(pickle.dumps(Attack(target)))  # the attack is a real one
    assert target.exists()


def test_torchscript_is_refused(tmp_path):
    path = tmp_path / "w.pth"
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)
    with pytest.raises(CheckpointError, match="TorchScript"):
        read_state_dict(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.zeros(3), "holds a Tensor"),
        ([torch.zeros(3)], "holds a list"),
        ({}, "found nothing"),
        ({"a": torch.zeros(1), "step": 7, "lr": 0.1}, r"other entries \(step, lr\)"),
    ],
)
def test_other_content(tmp_path, content, message):
    with pytest.raises(CheckpointError, match=message):
        read_state_dict(save(tmp_path / "w.pth", content))


def arguments(part):
    return SMALL.arguments(part)


def load(part, weights):
    load_strict(
        empty_network(part, arguments(part)), weights, source="file.pth", dtype=torch.float32
    )


def test_a_unet_without_the_adapter_is_refused(models):
    weights = models.unet.state_dict()
    plain = {k: v for k, v in weights.items() if ".id_to_" not in k}
    removed = len(weights) - len(plain)
    assert removed > 0
    with pytest.raises(CheckpointError, match=f"without the ID adapter.*{removed} missing") as e:
        load("unet", plain)
    assert "id_to_k and id_to_v weights are missing" in str(e.value)


def test_misnamed_adapter_keys_are_refused(models):
    renamed = {
        k.replace("id_to_k", "to_k_ip").replace("id_to_v", "to_v_ip"): v
        for k, v in models.unet.state_dict().items()
    }
    with pytest.raises(CheckpointError, match=r"missing: .*id_to_k.*unexpected: .*to_k_ip"):
        load("unet", renamed)


@pytest.mark.parametrize(
    ("part", "given", "looks"),
    [
        ("pose_net", "face_encoder", "a face encoder"),
        ("face_encoder", "pose_net", "a PoseNet"),
        ("unet", "vae", "a VAE with the temporal decoder"),
        ("vae", "image_encoder", "a CLIP image encoder"),
        ("image_encoder", "unet", "a video UNet with the ID adapter"),
    ],
)
def test_another_networks_file(models, part, given, looks):
    with pytest.raises(CheckpointError, match=f"It looks like {looks}"):
        load(part, getattr(models, given).state_dict())


@pytest.mark.parametrize(
    ("names", "looks"),
    [
        (["model.diffusion_model.x"], "single-file checkpoint"),
        (["a.lora_up.weight"], "a LoRA"),
        (["layer1.0.bn1.weight", "layer1.0.prelu.weight", "features.weight"], "ArcFace"),
        (["quant_conv.weight", "decoder.conv_in.weight"], "VAE without the temporal decoder"),
        (["conv_in.weight", "down_blocks.0.x", "up_blocks.0.x"], "UNet for single images"),
        (["something.else"], "no network known here"),
    ],
)
def test_files_of_other_programs(names, looks):
    with pytest.raises(CheckpointError, match=looks):
        load("pose_net", {name: torch.zeros(1) for name in names})


def test_every_single_dropped_or_added_key_raises(models):
    weights = models.pose_net.state_dict()
    for name in weights:
        with pytest.raises(CheckpointError, match=f"1 missing: {name}"):
            load("pose_net", {k: v for k, v in weights.items() if k != name})
        wrong = {**weights, name: torch.zeros(5, 5)}
        with pytest.raises(CheckpointError, match=f"1 of another shape: {name}"):
            load("pose_net", wrong)
    with pytest.raises(CheckpointError, match="1 unexpected: extra"):
        load("pose_net", {**weights, "extra": torch.zeros(1)})


def test_long_lists_are_cut(models):
    weights = models.unet.state_dict()
    with pytest.raises(CheckpointError, match=rf"and {len(weights) - 1 - 10} more") as error:
        load("unet", {"conv_in.weight": weights["conv_in.weight"]})
    assert len(str(error.value)) < 2500


def test_integer_entries_keep_their_dtype():
    net = torch.nn.BatchNorm2d(3)
    weights = {k: v.clone() for k, v in torch.nn.BatchNorm2d(3).state_dict().items()}
    load_strict(net, weights, source="x", dtype=torch.float16)
    assert net.num_batches_tracked.dtype == torch.int64
    assert net.weight.dtype == torch.float16


def test_a_buffer_without_values_is_noticed():
    net = torch.nn.Linear(2, 2)
    net.register_buffer("table", torch.empty(2, device="meta"), persistent=False)
    with pytest.raises(CheckpointError, match="left table of Linear without values"):
        load_strict(net, torch.nn.Linear(2, 2).state_dict(), source="x", dtype=torch.float32)
