"""The record of what was downloaded: commit, sizes and hashes, beside the weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ..errors import CheckpointError
from ..interfaces import Monitor, Progress
from .writing import write_json

__all__ = ["LOCK_NAME", "Lock", "LockedFile", "file_hash", "read_lock", "write_lock"]

LOCK_NAME = "stableanimator.lock.json"
_CHUNK_BYTES = 1 << 22


@dataclass(frozen=True, kw_only=True)
class LockedFile:
    """One downloaded file.

    Attributes:
        sha256: Hash of its content.
        size: Size [bytes].
        revision: Commit of the repository that it came from.
    """

    sha256: str
    size: int
    revision: str


@dataclass(frozen=True, kw_only=True)
class Lock:
    """All downloaded files of a models folder.

    Attributes:
        repository: Where they came from.
        revision: The newest commit that files were taken from; None before the first.
        files: Path below the models folder, with slashes → record.
    """

    repository: str
    revision: str | None = None
    files: Mapping[str, LockedFile] = field(default_factory=dict)

    def with_file(self, local: str, file: LockedFile) -> Lock:
        """A copy with one more file."""
        files = {**self.files, local: file}
        return Lock(repository=self.repository, revision=file.revision, files=files)


def read_lock(folder: Path, repository: str) -> Lock:
    """The record in a models folder; an empty one where there is none.

    Raises:
        CheckpointError: If the record cannot be read.
    """
    path = folder / LOCK_NAME
    if not path.exists():
        return Lock(repository=repository)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        files = {name: LockedFile(**record) for name, record in content["files"].items()}
        return Lock(repository=content["repository"], revision=content["revision"], files=files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path}, the record of downloaded weights, cannot be read: {error!r}. Remove it; the "
            "next download checks all files and writes it anew."
        ) from error


def write_lock(folder: Path, lock: Lock) -> None:
    """Write the record, atomically."""
    write_json(folder / LOCK_NAME, asdict(lock), overwrite=True)


def file_hash(path: Path, monitor: Monitor, *, git_blob: bool = False) -> str:
    """Hash of a file's content.

    Args:
        path: The file.
        monitor: Receives progress, and may cancel.
        git_blob: The SHA-1 that git names a file by, instead of SHA-256.
    """
    total, done = path.stat().st_size, 0
    digest = hashlib.sha256()
    if git_blob:
        digest = hashlib.sha1(b"blob %d\0" % total, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            monitor.raise_if_cancelled()
            digest.update(chunk)
            done += len(chunk)
            monitor.update(Progress(stage=f"checking {path.name}", done=done, total=total))
    return digest.hexdigest()
