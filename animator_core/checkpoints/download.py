"""Downloads the published weights when the user asks: pinned, checked, resumable.

Every file is checked against the hash that the hub records for the pinned commit, and, where the
manifest knows one, against that. What was fetched is recorded in a lock file.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, ConfigError, DependencyError
from ..interfaces import Monitor, SilentMonitor
from .http import RemoteFile, fetch
from .lock import LOCK_NAME, Lock, LockedFile, file_hash, read_lock, write_lock
from .manifest import ADAPTER_REPOSITORY, GROUPS, Group, PublishedFile

__all__ = ["DownloadRequest", "download", "licence_text"]

_LOGGER = logging.getLogger(__name__)
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, kw_only=True)
class DownloadRequest:
    """What to download, from where.

    Attributes:
        destination: The models folder.
        groups: Names of groups in the manifest.
        revision: Full commit hash of the hub repository; None takes that of the lock file.
        accept_licences: Whether the user accepts the licences that `licence_text` shows.
        endpoint: Address of the hub; None for the usual one.
        token: Log-in for the hub; None for the saved one, if any.
        wait_seconds: Pause before the first retry.
    """

    destination: Path
    groups: tuple[str, ...] = tuple(group.name for group in GROUPS)
    revision: str | None = None
    accept_licences: bool = False
    endpoint: str | None = None
    token: str | None = None
    wait_seconds: float = 1.0


@dataclass(frozen=True, kw_only=True)
class _HubFile:
    """The hub's record of a file: SHA-256 for large files, git's hash for small ones."""

    size: int
    sha256: str | None
    git_hash: str | None


def _chosen(names: tuple[str, ...]) -> list[Group]:
    known = {group.name: group for group in GROUPS}
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise ConfigError(
            f"Unknown groups of weights: {', '.join(unknown) or 'none given'}; "
            f"choose from {', '.join(known)}."
        )
    return [known[name] for name in names]


def licence_text(names: tuple[str, ...] = tuple(group.name for group in GROUPS)) -> str:
    """What the user has to accept, one line per group.

    Raises:
        ConfigError: If a group is unknown.
    """
    lines = [f"{g.name}: {g.title}. Licence: {g.licence}. {g.licence_url}" for g in _chosen(names)]
    return "\n".join(lines)


def download(request: DownloadRequest, monitor: Monitor | None = None) -> list[Path]:
    """Fetch the chosen groups, or what is missing of them.

    Args:
        request: What to fetch.
        monitor: Receives progress, and may cancel; half files are kept and continued next time.

    Returns:
        All files of the chosen groups, those that were there before included.

    Raises:
        ConfigError: If the licences are not accepted, or there is no pinned revision.
        CheckpointError: If a file is refused, has another hash than it should, or is in the way.
    """
    monitor = monitor or SilentMonitor()
    groups = _chosen(request.groups)
    if not request.accept_licences:
        raise ConfigError(
            "The licences of these weights have to be accepted first:\n"
            f"{licence_text(request.groups)}\nRead them, then repeat with --accept-licences."
        )
    lock = read_lock(request.destination, ADAPTER_REPOSITORY)
    revision = _pinned(request, lock)
    published = [file for group in groups for file in group.files]
    hub = _hub_files(request, revision)
    wanted = {file: _record(file, hub, revision) for file in published}
    _raise_if_changed(wanted, lock, revision)
    _raise_if_disk_full(request.destination, wanted)
    paths: list[Path] = []
    for file, record in wanted.items():
        path = request.destination / file.local
        if not _is_there(path, file, record, lock, monitor):
            _fetch(request, file, record, revision, monitor)
        sha256 = record.sha256 or file_hash(path, monitor)
        entry = LockedFile(sha256=sha256, size=record.size, revision=revision)
        if lock.files.get(file.local) != entry:
            lock = lock.with_file(file.local, entry)
            write_lock(request.destination, lock)
        paths.append(path)
    return paths


def _pinned(request: DownloadRequest, lock: Lock) -> str:
    revision = request.revision or lock.revision
    if revision is not None and _COMMIT.fullmatch(revision):
        return revision
    newest = _model_info(request, "main").sha
    found = "no revision" if revision is None else f"the revision {revision!r}"
    raise ConfigError(
        f"Expected the full hash of a commit of {ADAPTER_REPOSITORY}, found {found}. A name like "
        f"main can mean other files tomorrow. At this moment main is --revision {newest}"
    )


def _model_info(request: DownloadRequest, revision: str) -> Any:
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise DependencyError(
            "huggingface_hub is needed for downloads: pip install huggingface_hub"
        ) from error
    api = HfApi(endpoint=request.endpoint, token=request.token)
    try:
        return api.model_info(ADAPTER_REPOSITORY, revision=revision, files_metadata=True)
    except Exception as error:  # the HTTP library's own, which differs between versions
        raise CheckpointError(
            f"The hub's record of {ADAPTER_REPOSITORY} at {revision} cannot be had: "
            f"{str(error).splitlines()[0] if str(error) else type(error).__name__}. Check the "
            "revision and the connection."
        ) from error


def _hub_files(request: DownloadRequest, revision: str) -> Mapping[str, _HubFile]:
    siblings = _model_info(request, revision).siblings or []
    return {
        sibling.rfilename: _HubFile(
            size=sibling.size or 0,
            sha256=sibling.lfs.sha256 if sibling.lfs else None,
            git_hash=None if sibling.lfs else sibling.blob_id,
        )
        for sibling in siblings
    }


def _record(file: PublishedFile, hub: Mapping[str, _HubFile], revision: str) -> _HubFile:
    record = hub.get(file.remote)
    if record is None:
        raise CheckpointError(
            f"{file.remote} is not in {ADAPTER_REPOSITORY} at revision {revision}. Choose another "
            "revision, or fetch the file by hand."
        )
    if record.sha256 is None and record.git_hash is None:
        raise CheckpointError(
            f"The hub gives no hash for {file.remote} at {revision}, so it cannot be checked and "
            "is not fetched. Try again later."
        )
    if file.sha256 is not None and record.sha256 != file.sha256:
        raise CheckpointError(
            f"{file.remote} at revision {revision} has SHA-256 {record.sha256}, but the published "
            f"file is known to have {file.sha256}. It is not fetched; choose another revision."
        )
    return record


def _raise_if_changed(wanted: Mapping[PublishedFile, _HubFile], lock: Lock, revision: str) -> None:
    for file, record in wanted.items():
        locked = lock.files.get(file.local)
        if locked is None or locked.revision != revision or record.sha256 is None:
            continue
        if locked.sha256 != record.sha256:
            raise CheckpointError(
                f"The hub gives SHA-256 {record.sha256} for {file.remote}, but {LOCK_NAME} "
                f"recorded {locked.sha256} for the same revision. A pinned file must not change: "
                "do not trust it, and report this to its publisher."
            )


def _raise_if_disk_full(destination: Path, wanted: Mapping[PublishedFile, _HubFile]) -> None:
    needed = sum(r.size for f, r in wanted.items() if not (destination / f.local).exists())
    places = (destination, *destination.absolute().parents)
    free = shutil.disk_usage(next(folder for folder in places if folder.exists())).free
    if needed > free:
        raise CheckpointError(
            f"The download needs {needed / 1e9:.1f} GB, but the disk of {destination} has "
            f"{free / 1e9:.1f} GB free. Free some space or choose another folder."
        )


def _matches(path: Path, record: _HubFile, monitor: Monitor) -> bool:
    if path.stat().st_size != record.size:
        return False
    by_git = record.sha256 is None
    return file_hash(path, monitor, git_blob=by_git) == (
        record.git_hash if by_git else record.sha256
    )


def _is_there(
    path: Path, file: PublishedFile, record: _HubFile, lock: Lock, monitor: Monitor
) -> bool:
    if not path.exists():
        return False
    if _matches(path, record, monitor):
        return True
    if file.local not in lock.files:
        raise CheckpointError(
            f"{path} exists, but is not the published file, and is not overwritten. Move it away, "
            "or choose another folder."
        )
    _LOGGER.warning("%s was changed since it was downloaded; fetching it again", path)
    return False


def _fetch(
    request: DownloadRequest,
    file: PublishedFile,
    record: _HubFile,
    revision: str,
    monitor: Monitor,
) -> None:
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    path = request.destination / file.local
    # The hash in the name keeps bytes of different revisions apart.
    part = path.with_name(f"{path.name}.{(record.sha256 or record.git_hash or '')[:8]}.part")
    url = hf_hub_url(ADAPTER_REPOSITORY, file.remote, revision=revision, endpoint=request.endpoint)
    headers = build_hf_headers(token=request.token)
    remote = RemoteFile(
        url=url, size=record.size, headers=headers, wait_seconds=request.wait_seconds
    )
    fetch(remote, part, monitor)
    if not _matches(part, record, monitor):
        part.unlink()
        raise CheckpointError(
            f"{url} was fetched, but its content does not have the hash that the hub records for "
            "it. It was deleted; try again, and if it stays so, do not trust the connection."
        )
    os.replace(part, path)
