"""Fetches one file over HTTP: in chunks, with resume, bounded retries and Cancel.

huggingface_hub's own downloads start again from zero after an interruption (since 1.x), which for
6 GB is no option; so its addresses and log-in are used, and the bytes are fetched here.
"""

from __future__ import annotations

import http.client
import logging
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import (
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    Request,
    build_opener,
)

from ..errors import CheckpointError
from ..interfaces import Monitor, Progress

__all__ = ["RemoteFile", "fetch"]

_LOGGER = logging.getLogger(__name__)
_CHUNK_BYTES = 1 << 20
_TIMEOUT_SECONDS = 30.0
_ATTEMPTS_WITHOUT_PROGRESS = 5
_CONNECTION_ERRORS = (
    URLError,
    http.client.HTTPException,
    TimeoutError,
    ConnectionError,
    ssl.SSLError,
)
_NO_USE_TRYING_AGAIN = (400, 401, 403, 404, 410)


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file to fetch.

    Attributes:
        url: Its address.
        size: Its size [bytes].
        headers: Request headers; log-in headers are not sent on to other hosts.
        wait_seconds: Pause before the first retry; doubled each time.
    """

    url: str
    size: int
    headers: Mapping[str, str] = field(default_factory=dict)
    wait_seconds: float = 1.0

    @property
    def name(self) -> str:
        """The file's name, for messages."""
        return urlsplit(self.url).path.rpartition("/")[-1]


class _Redirects(HTTPRedirectHandler):
    """Follows redirects, but shows the log-in only to the host that it is for."""

    def redirect_request(self, req: Request, *args: Any, **kwargs: Any) -> Request | None:
        following = super().redirect_request(req, *args, **kwargs)
        if following is not None and urlsplit(following.full_url).netloc != req.host:
            following.remove_header("Authorization")
        return following


def _opener() -> OpenerDirector:
    context = ssl.create_default_context()
    try:
        import certifi
    except ImportError:
        pass  # the system's own certificates have to do
    else:
        context.load_verify_locations(certifi.where())
    return build_opener(_Redirects, HTTPSHandler(context=context))


def fetch(remote: RemoteFile, part: Path, monitor: Monitor) -> None:
    """Fetch a file, continuing where an earlier attempt stopped.

    Args:
        remote: What to fetch.
        part: Where its bytes go; what is there already is kept.
        monitor: Receives progress, and may cancel after every mebibyte; `part` is kept then.

    Raises:
        CheckpointError: If the server refuses, or the connection breaks again and again.
    """
    part.parent.mkdir(parents=True, exist_ok=True)
    opener = _opener()
    failures = 0
    while (done := part.stat().st_size if part.exists() else 0) != remote.size:
        if done > remote.size:
            part.unlink()
            continue
        try:
            _receive(opener, remote, part, monitor)
            broken: Exception | None = None
        except HTTPError as error:
            error.close()
            if error.code in _NO_USE_TRYING_AGAIN:
                raise _refused(remote, error) from error
            broken = error
        except _CONNECTION_ERRORS as error:
            broken = error
        except OSError as error:
            raise CheckpointError(
                f"{part} cannot be written: {error}. Free some space or choose another folder; "
                "the same command continues from there."
            ) from error
        progressed = part.exists() and part.stat().st_size > done
        failures = 0 if progressed else failures + 1
        if failures >= _ATTEMPTS_WITHOUT_PROGRESS:
            raise CheckpointError(
                f"{remote.url} cannot be fetched: {broken or 'the server sends nothing'}. "
                f"Expected {remote.size:,} bytes, got {done:,}; they are kept, and the same "
                "command continues from there."
            ) from broken
        if broken is not None or not progressed:
            _LOGGER.warning("%s: connection lost (%s), trying again", remote.name, broken)
            time.sleep(remote.wait_seconds * 2**failures)


def _receive(opener: OpenerDirector, remote: RemoteFile, part: Path, monitor: Monitor) -> None:
    done = part.stat().st_size if part.exists() else 0
    headers = {**remote.headers, "Accept-Encoding": "identity"}
    if done:
        headers["Range"] = f"bytes={done}-"
    with opener.open(Request(remote.url, headers=headers), timeout=_TIMEOUT_SECONDS) as response:
        resumed = response.status == http.client.PARTIAL_CONTENT
        if not resumed:
            done = 0  # the server sends the file from its beginning
        with part.open("ab" if resumed else "wb") as file:
            while done < remote.size and (chunk := response.read(_CHUNK_BYTES)):
                file.write(chunk)
                done += len(chunk)
                monitor.update(
                    Progress(stage=f"downloading {remote.name}", done=done, total=remote.size)
                )
                monitor.raise_if_cancelled()


def _refused(remote: RemoteFile, error: HTTPError) -> CheckpointError:
    remedies = {
        401: "It asks for a log-in: run `hf auth login`, accept its licence on its page",
        403: "Accept its licence on its page, then log in with `hf auth login`",
        404: "There is no such file at this revision; choose another revision",
    }
    remedy = remedies.get(error.code, "Try again later")
    return CheckpointError(f"{remote.url} is refused by the server (HTTP {error.code}). {remedy}.")
