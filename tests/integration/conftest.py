"""Real sockets and real processes: a proxy server of one's own, and what stands behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.integration.proxy_process import BOUND_S, ProxyServer, proxy_process
from tests.integration.wire import Upstream


@pytest.fixture
def proxy_server() -> Iterator[ProxyServer]:
    """`harness proxy` on a port of its own, seed 7."""
    with proxy_process() as server:
        yield server


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    """A TCP server in this process that keeps what it received and answers as it is told."""
    async with Upstream() as server, asyncio.timeout(BOUND_S * 4):
        yield server
