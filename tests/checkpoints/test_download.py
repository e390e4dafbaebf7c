"""Downloads from an imitation of the hub on this machine."""

from __future__ import annotations

import errno
import hashlib
import json
import random
import re
import sys
from collections import namedtuple
from dataclasses import replace

import pytest
from local_hub import COMMIT, Hub, running

from animator_core.checkpoints import download as download_module
from animator_core.checkpoints.download import DownloadRequest, download, licence_text
from animator_core.checkpoints.lock import LOCK_NAME
from animator_core.checkpoints.manifest import GROUPS, Group, PublishedFile
from animator_core.errors import CancelledError, CheckpointError, ConfigError, DependencyError
from animator_core.interfaces import SilentMonitor

BIG = random.Random(0).randbytes(5 << 20)
TEXT = b'{"a": 1}'
LICENCE = {"licence": "some licence", "licence_url": "https://example.com"}


def known(name, content):
    return PublishedFile(remote=f"models/{name}", local=name, size=len(content),
                         sha256=hashlib.sha256(content).hexdigest())  # fmt: skip


@pytest.fixture(autouse=True)
def manifest(monkeypatch):
    """Two small groups in place of gigabytes; the real tables have their own tests."""
    adapter = (
        PublishedFile(remote="Animation/unet.pth", local="Animation/unet.pth"),
        PublishedFile(remote="svd/config.json", local="SVD/unet/config.json"),
    )
    groups = (
        Group(name="adapter", title="the adapter", files=adapter, **LICENCE),
        Group(name="faces", title="faces", files=(known("face.onnx", b"face" * 9),), **LICENCE),
    )
    monkeypatch.setattr(download_module, "GROUPS", groups)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


@pytest.fixture
def hub():
    files = {
        "Animation/unet.pth": BIG,
        "svd/config.json": TEXT,
        "models/face.onnx": b"face" * 9,
        "README.md": b"hello",
    }
    with running(Hub(files=files, small={"svd/config.json", "README.md"})) as server:
        yield server


@pytest.fixture
def request_(hub, tmp_path):
    return DownloadRequest(
        destination=tmp_path / "models",
        groups=("adapter", "faces"),
        revision=COMMIT,
        accept_licences=True,
        endpoint=hub.url,
        token="hf_secret",
        wait_seconds=0.001,
    )


def resolved(hub):
    return [(path, headers) for path, headers in hub.requests if "/resolve/" in path]


def test_download_writes_checked_files_and_a_lock(hub, request_):
    paths = download(request_)
    models = request_.destination
    assert [str(path.relative_to(models).as_posix()) for path in paths] == [
        "Animation/unet.pth",
        "SVD/unet/config.json",
        "face.onnx",
    ]
    assert paths[0].read_bytes() == BIG
    lock = json.loads((models / LOCK_NAME).read_text())
    assert lock["revision"] == COMMIT
    assert lock["files"]["SVD/unet/config.json"]["sha256"] == hashlib.sha256(TEXT).hexdigest()
    assert not list(models.rglob("*.part"))
    # again: everything is there, and the revision is known from the lock
    hub.requests.clear()
    assert download(replace(request_, revision=None)) == paths
    assert resolved(hub) == []


def test_only_the_chosen_group(hub, request_):
    download(replace(request_, groups=("faces",)))
    assert [path.split("/")[-1] for path, _ in resolved(hub)] == ["face.onnx"]


def test_nothing_is_asked_before_the_licences_are_accepted(hub, request_):
    with pytest.raises(ConfigError, match=r"(?s)adapter: the adapter. Licence: some licence"):
        download(replace(request_, accept_licences=False))
    assert hub.requests == []
    assert not request_.destination.exists()


@pytest.mark.parametrize("revision", [None, "main", COMMIT[:7]])
def test_a_full_commit_is_asked_for_and_suggested(hub, request_, revision):
    with pytest.raises(ConfigError, match=f"full hash of a commit.*--revision {COMMIT}"):
        download(replace(request_, revision=revision))
    assert resolved(hub) == []


@pytest.mark.parametrize("group", ["nonsense", None])
def test_unknown_groups(request_, group):
    with pytest.raises(ConfigError, match="choose from adapter, faces"):
        download(replace(request_, groups=(group,) if group else ()))


def test_interrupted_downloads_continue(hub, request_):
    hub.drop_after, hub.drops = 1 << 20, 3
    download(request_)
    asked = [headers.get("Range") for path, headers in resolved(hub) if path.endswith("unet.pth")]
    assert asked == [None, "bytes=1048576-", "bytes=2097152-", "bytes=3145728-"]
    assert (request_.destination / "Animation/unet.pth").read_bytes() == BIG


def test_a_dead_connection_ends_in_an_error_and_the_next_run_continues(hub, request_):
    hub.drop_after, hub.drops = 1 << 20, 1

    class Monitor(SilentMonitor):
        def update(self, progress):
            hub.drop_after, hub.drops = 0, 10**9

    with pytest.raises(CheckpointError, match=r"Expected 5,242,880 bytes, got 1,048,576"):
        download(request_, Monitor())
    assert len(resolved(hub)) < 10
    hub.drops = 0
    hub.requests.clear()
    download(request_)
    assert resolved(hub)[0][1]["Range"] == "bytes=1048576-"


def test_cancel_keeps_what_was_received(hub, request_):
    class Cancelling(SilentMonitor):
        done = 0

        def update(self, progress):
            assert progress.stage == "downloading unet.pth"
            assert progress.total == len(BIG)
            self.done = progress.done

        def raise_if_cancelled(self):
            if self.done >= 2 << 20:
                raise CancelledError("stopped")

    with pytest.raises(CancelledError):
        download(request_, Cancelling())
    (part,) = request_.destination.rglob("*.part")
    assert 2 << 20 <= part.stat().st_size < len(BIG)
    assert not (request_.destination / "Animation/unet.pth").exists()
    download(request_)
    assert resolved(hub)[1][1]["Range"] == f"bytes={2 << 20}-"


def test_servers_without_ranges(hub, request_):
    hub.drop_after, hub.drops, hub.ranges = 3 << 20, 2, False
    download(request_)
    assert (request_.destination / "Animation/unet.pth").read_bytes() == BIG


def test_a_wrong_hash_is_never_kept(hub, request_):
    hub.lies["Animation/unet.pth"] = BIG[:-1] + b"x"
    with pytest.raises(CheckpointError, match="does not have the hash"):
        download(request_)
    assert not list(request_.destination.rglob("unet*"))


def test_a_wrong_small_file_is_never_kept(hub, request_):
    hub.lies["svd/config.json"] = b'{"a": 2}'
    with pytest.raises(CheckpointError, match="does not have the hash"):
        download(request_)
    assert not list(request_.destination.rglob("config*"))


def test_a_file_that_is_not_the_known_one_is_not_fetched(hub, request_):
    hub.files["models/face.onnx"] = b"other"
    with pytest.raises(CheckpointError, match=r"models/face.onnx.*is known to have"):
        download(request_)
    assert resolved(hub) == []


def test_no_hash_no_download(hub, request_):
    hub.no_hash = True
    with pytest.raises(CheckpointError, match=r"gives no hash for Animation/unet.pth"):
        download(request_)


def test_a_pinned_file_that_changes_is_reported(hub, request_):
    download(request_)
    hub.files["Animation/unet.pth"] = BIG + b"x"
    with pytest.raises(CheckpointError, match="pinned file must not change"):
        download(request_)


def test_damaged_downloads_are_fetched_again(hub, request_, caplog):
    unet = download(request_)[0]
    unet.write_bytes(b"broken")
    assert download(request_)[0].read_bytes() == BIG
    assert "was changed since it was downloaded" in caplog.text


def test_own_files_are_not_overwritten(hub, request_):
    path = request_.destination / "Animation/unet.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"mine")
    with pytest.raises(CheckpointError, match="is not the published file"):
        download(request_)
    assert path.read_bytes() == b"mine"
    path.write_bytes(BIG)  # fetched by hand: taken as it is
    download(request_)
    assert not [path for path, _ in resolved(hub) if path.endswith("unet.pth")]


@pytest.mark.parametrize(
    ("status", "message"),
    [(401, "asks for a log-in"), (403, "Accept its licence"), (404, "another revision")],
)
def test_refusals(hub, request_, status, message):
    hub.status = status
    with pytest.raises(CheckpointError, match=f"HTTP {status}.*{message}"):
        download(request_)
    assert len(resolved(hub)) == 1


def test_server_errors_are_tried_again_a_few_times(hub, request_):
    hub.status = 503
    with pytest.raises(CheckpointError, match="503"):
        download(request_)
    assert 2 <= len(resolved(hub)) <= 6


def test_unknown_revision_and_missing_file(hub, request_):
    with pytest.raises(CheckpointError, match="cannot be had"):
        download(replace(request_, revision="f" * 40))
    del hub.files["svd/config.json"]
    with pytest.raises(CheckpointError, match=r"svd/config.json is not in"):
        download(request_)


def test_no_server(request_):
    with pytest.raises(CheckpointError, match="cannot be had"):
        download(replace(request_, endpoint="http://127.0.0.1:9"))


def test_the_log_in_is_not_shown_to_other_hosts(hub, request_):
    with running(Hub(files=hub.files, small=hub.small)) as other:
        hub.redirect_to = other.url
        download(request_)
        assert "Authorization" in resolved(hub)[0][1] or "authorization" in resolved(hub)[0][1]
        for _, headers in resolved(other):
            assert "authorization" not in {name.lower() for name in headers}
            assert "hf_secret" not in str(headers)


def test_disk_too_small(hub, request_, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(download_module.shutil, "disk_usage", lambda _: usage(1000))
    with pytest.raises(CheckpointError, match=r"0.0 GB free"):
        download(request_)


def test_unreadable_lock(request_):
    request_.destination.mkdir()
    (request_.destination / LOCK_NAME).write_text("[]")
    with pytest.raises(CheckpointError, match="Remove it"):
        download(request_)


def test_more_bytes_than_there_should_be(hub, request_):
    download(request_)
    unet = request_.destination / "Animation/unet.pth"
    unet.unlink()
    part = unet.with_name(f"unet.pth.{hashlib.sha256(BIG).hexdigest()[:8]}.part")
    part.write_bytes(BIG + b"x")
    assert download(request_)[0].read_bytes() == BIG


def test_unwritable_folder(hub, request_, monkeypatch):
    class Full(SilentMonitor):
        def update(self, progress):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(CheckpointError, match=r"cannot be written: .*No space left"):
        download(request_, Full())


def test_without_the_hubs_library(request_, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(DependencyError, match="pip install huggingface_hub"):
        download(request_)


def test_the_real_manifest():
    names = [file.local for group in GROUPS for file in group.files]
    assert len(set(names)) == len(names)
    for group in GROUPS:
        assert group.licence
        assert group.licence_url.startswith("https://")
        for file in group.files:
            assert file.sha256 is None or re.fullmatch("[0-9a-f]{64}", file.sha256)
    licences = {group.name: group.licence for group in GROUPS}
    assert "Apache-2.0" in licences["adapter"]
    assert "Stability" in licences["stable-video"]
    assert "non-commercial research only" in licences["antelopev2"]


def test_licence_text_names_every_group():
    assert licence_text(("faces",)) == "faces: faces. Licence: some licence. https://example.com"
