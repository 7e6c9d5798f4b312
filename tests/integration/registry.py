"""A registry with one image in it, on loopback, which the engine takes without TLS."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import secrets
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["Registry", "registry"]

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


class Registry:
    """
    What it serves, and how badly.

    Attributes:
        asked: How many requests came.
        refusals: How many more of them are refused, as an overloaded registry does.
        silent: Whether a layer's bytes never come.
        wrong: Whether they are others.
    """

    def __init__(self, port: int) -> None:
        layer = _layer()
        config = _json(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {"Cmd": ["/hello"]},
                "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
            }
        )
        packed = gzip.compress(layer, mtime=0)
        manifest = _json(
            {
                "schemaVersion": 2,
                "mediaType": _MANIFEST,
                "config": _about(_CONFIG, config),
                "layers": [_about(_LAYER, packed)],
            }
        )
        self.blobs = {_digest(blob): blob for blob in (config, packed, manifest)}
        self.name = f"127.0.0.1:{port}/test/thing:1.0@{_digest(manifest)}"
        self.layer = _digest(packed)
        self.asked = 0
        self.refusals = 0
        self.silent = False
        self.wrong = False
        self.ended = threading.Event()


@contextmanager
def registry() -> Iterator[Registry]:
    """A registry that serves, until the block is left."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    served = Registry(server.server_port)
    server.registry = served  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        served.ended.set()
        server.shutdown()
        server.server_close()
        thread.join(10)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        served: Registry = self.server.registry  # type: ignore[attr-defined]
        served.asked += 1
        what = self.path.rpartition("/")[2]
        if served.refusals:
            served.refusals -= 1
            self._answer(503, b'{"errors": [{"code": "TOOMANYREQUESTS", "message": "busy"}]}')
        elif self.path == "/v2/":
            self._answer(200, b"{}")
        elif what in served.blobs:
            kind = _MANIFEST if "/manifests/" in self.path else "application/octet-stream"
            self._answer(200, served.blobs[what], kind=kind, late=what == served.layer)
        else:
            self._answer(404, b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "no such"}]}')

    do_HEAD = do_GET  # noqa: N815

    def _answer(
        self, status: int, body: bytes, *, kind: str = "application/json", late: bool = False
    ) -> None:
        served: Registry = self.server.registry  # type: ignore[attr-defined]
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        self.send_header("Docker-Content-Digest", _digest(body))
        self.end_headers()
        if late and served.silent:
            served.ended.wait()
        elif late and served.wrong:
            self.wfile.write(bytes(len(body)))
        elif self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nobody reads it."""


def _layer() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        member = tarfile.TarInfo("hello")
        # Its own bytes, so that no engine has the layer from another run's registry.
        member.size, member.mode = 16, 0o755
        tar.addfile(member, io.BytesIO(secrets.token_bytes(16)))
    return content.getvalue()


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _about(kind: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": kind, "size": len(content), "digest": _digest(content)}
