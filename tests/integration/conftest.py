"""Real sockets and real processes: a proxy server of one's own, and what stands behind it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest

from harness.environment import local
from harness.proxy.control import Control
from tests.integration.wire import Upstream

BOUND_S = 10.0


@dataclass(frozen=True)
class ProxyServer:
    """A proxy process."""

    control: Control
    process: subprocess.Popen[str]


@pytest.fixture
def proxy_server() -> Iterator[ProxyServer]:
    """`harness proxy` on a port of its own, seed 7."""
    process = subprocess.Popen(
        [*local.PROXY_COMMAND, "--port", "0", "--seed", "7"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "LOG_LEVEL": "warning"},
    )
    assert process.stdout is not None
    try:
        yield ProxyServer(Control(json.loads(process.stdout.readline())["listening"]), process)
        # A proxy that died under the test must not go unnoticed.
        assert process.poll() is None
    finally:
        process.terminate()
        process.wait(BOUND_S)
        process.stdout.close()


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    """A TCP server in this process that keeps what it received and answers as it is told."""
    async with Upstream() as server, asyncio.timeout(BOUND_S * 4):
        yield server
