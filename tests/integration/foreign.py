"""
Somebody else's Toxiproxy: ours or the real one, with proxies and toxics that are nobody's to touch.

The real one is started where HARNESS_TEST_TOXIPROXY names its binary. Go makes one:
`GOBIN=FOLDER go install github.com/Shopify/toxiproxy/v2/cmd/server@v2.12.0`.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from harness.clock import now
from harness.proxy.control import Control
from harness.proxy.ports import Reservation
from tests.integration.proxy_process import BOUND_S, Http, proxy_process

__all__ = ["KINDS", "NO_BINARY", "Foreign", "binary", "foreign_server", "real_server"]

KINDS = ("ours", "real")

_BINARY = "HARNESS_TEST_TOXIPROXY"
NO_BINARY = f"{_BINARY} names no Toxiproxy to test with"

_LATE = {"name": "slow", "type": "latency", "attributes": {"latency": 1500, "jitter": 20}}
_HOLE = {"type": "timeout", "stream": "upstream", "toxicity": 0.5, "attributes": {"timeout": 0}}


@dataclass(frozen=True)
class Foreign:
    """
    A server that runs already.

    Attributes:
        tells: Whether it tells what it does, as ours does.
    """

    url: str
    tells: bool

    @property
    def http(self) -> Http:
        """Its API for a plain client."""
        return Http(self.url)

    @property
    def control(self) -> Control:
        """Its API for ours."""
        return Control(self.url)

    def state(self) -> bytes:
        """All its proxies with all that is on them, byte for byte."""
        return self.http.call("GET", "/proxies").body

    def names(self) -> set[str]:
        """The names of its proxies."""
        return set(self.http.call("GET", "/proxies").json)

    def furnish(self) -> None:
        """Two proxies of its owner's, one of them disabled, both with toxics."""
        for body in (
            {"name": "edge", "upstream": "127.0.0.1:1", "listen": "127.0.0.1:0"},
            {"name": "off", "upstream": "localhost:2", "listen": "localhost:0", "enabled": False},
        ):
            assert self.http.call("POST", "/proxies", body).status == 201
            for toxic in (_LATE, _HOLE):
                path = f"/proxies/{body['name']}/toxics"
                assert self.http.call("POST", path, toxic).status == 200


@contextmanager
def foreign_server(kind: str) -> Iterator[Foreign]:
    """A server of that kind, furnished; skips the test where there is none."""
    with _ours() if kind == "ours" else real_server() as server:
        server.furnish()
        yield server


@contextmanager
def _ours() -> Iterator[Foreign]:
    with proxy_process() as server:
        yield Foreign(server.control.url, tells=True)


def binary() -> str:
    """The program that is the real one; "" where there is none."""
    return os.environ.get(_BINARY, "")


@contextmanager
def real_server(*options: str) -> Iterator[Foreign]:
    """The real one, as a process; skips the test where there is none."""
    if not binary():
        pytest.skip(NO_BINARY)
    # It does not say which port it got: one is kept for it.
    port = Reservation("127.0.0.1")
    command = [binary(), "-host", port.address.host, "-port", str(port.address.port), *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    server = Foreign(f"http://{port.address}", tells=False)
    try:
        _await_version(server.http, process)
        yield server
        assert process.poll() is None
    finally:
        process.kill()
        process.wait(BOUND_S)
        port.close()


def _await_version(http: Http, process: subprocess.Popen[Any]) -> None:
    deadline = now() + BOUND_S
    while True:
        try:
            assert http.call("GET", "/version").status == 200
        except ConnectionRefusedError:
            assert process.poll() is None, "it ended"
            assert now() < deadline, f"it did not answer within {BOUND_S:g} s"
            os.sched_yield()
        else:
            return
