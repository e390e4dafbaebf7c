"""A hub on 127.0.0.1: the two routes of the real one that downloads use, with faults to order."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from animator_core.checkpoints.manifest import ADAPTER_REPOSITORY

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_API = f"/api/models/{ADAPTER_REPOSITORY}/revision/"
_RESOLVE = f"/{ADAPTER_REPOSITORY}/resolve/{COMMIT}/"


@dataclass
class Hub:
    files: dict[str, bytes]
    small: set[str] = field(default_factory=set)  # not in LFS
    lies: dict[str, bytes] = field(default_factory=dict)  # sent instead of the content
    drop_after: int = 0  # bytes per dropped connection
    drops: int = 0  # connections that are still dropped
    ranges: bool = True
    no_hash: bool = False
    status: int | None = None
    redirect_to: str | None = None
    url: str = ""
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def info(self) -> dict[str, Any]:
        siblings = []
        for name, content in self.files.items():
            entry: dict[str, Any] = {"rfilename": name, "size": len(content)}
            if name in self.small:
                blob = b"blob %d\0" % len(content) + content
                entry["blobId"] = hashlib.sha1(blob).hexdigest()
            elif not self.no_hash:
                sha256 = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"size": len(content), "sha256": sha256, "pointerSize": 130}
            siblings.append(entry)
        return {"id": ADAPTER_REPOSITORY, "sha": COMMIT, "siblings": siblings}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    hub: Hub

    def handle_error(self, *_):  # dropped connections are on purpose
        pass


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_):
        pass

    def do_GET(self):
        hub = self.server.hub
        path = unquote(urlsplit(self.path).path)
        hub.requests.append((path, dict(self.headers)))
        if path.startswith(_API):
            self._answer_info(path.removeprefix(_API))
            return
        name = path.removeprefix(_RESOLVE)
        if hub.redirect_to:
            self._answer(302, b"", {"Location": hub.redirect_to + self.path})
        elif hub.status or name not in hub.files:
            self._answer(hub.status or 404, b"")
        else:
            self._send_file(hub, hub.lies.get(name, hub.files[name]))

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None):
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _answer_info(self, revision: str):
        headers = {"Content-Type": "application/json"}
        if revision in (COMMIT, "main"):
            self._answer(200, json.dumps(self.server.hub.info()).encode(), headers)
        else:
            self._answer(404, b"{}", {**headers, "X-Error-Code": "RevisionNotFound"})

    def _send_file(self, hub: Hub, content: bytes):
        asked = self.headers.get("Range") if hub.ranges else None
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            last = len(content) - 1
            self.send_header("Content-Range", f"bytes {start}-{last}/{len(content)}")
        self.end_headers()
        if hub.drops > 0:
            hub.drops -= 1
            self.wfile.write(content[start : start + hub.drop_after])
            self.close_connection = True
        else:
            self.wfile.write(content[start:])


@contextmanager
def running(hub: Hub) -> Iterator[Hub]:
    """Serve for the length of a `with` block; `hub.url` is the address."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.hub = hub
        hub.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join(timeout=10)
