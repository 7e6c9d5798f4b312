"""Real sockets and real processes: a proxy server of one's own, and what stands behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from harness.environment.backends import DOCKER, LOCAL, TOXIPROXY
from harness.environment.processes import Reaper
from harness.pytest_plugin.servants import Servants
from tests.backends import CHOICES, lacking
from tests.integration import foreign
from tests.integration.proxy_process import BOUND_S, Http, ProxyServer, proxy_process
from tests.integration.refdaemon_process import Serve
from tests.integration.stacks import Place, remains
from tests.integration.standing import Before, Stand, before
from tests.integration.wire import Upstream


@pytest.fixture
def proxy_server() -> Iterator[ProxyServer]:
    """`harness proxy` on a port of its own, seed 7."""
    with proxy_process() as server:
        yield server


@pytest.fixture
def api(proxy_server: ProxyServer) -> Http:
    """The API of that proxy, for a plain HTTP client."""
    return proxy_server.http


@pytest.fixture
def edge(api: Http) -> Http:
    """The same, with a proxy named edge whose upstream is down."""
    body = {"name": "edge", "upstream": "127.0.0.1:1", "listen": "127.0.0.1:0"}
    assert api.call("POST", "/proxies", body).status == 201
    return api


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    """A TCP server in this process that keeps what it received and answers as it is told."""
    async with Upstream() as server, asyncio.timeout(BOUND_S * 4):
        yield server


@pytest.fixture(scope="session")
def servants(backend: str) -> Iterator[Servants | None]:
    """A Toxiproxy and a network for the containers of all tests; None where there are none."""
    if backend != DOCKER:
        yield None
        return
    reaper = Reaper()
    made = Servants(reaper)
    yield made
    asyncio.run(made.dismiss_all())
    reaper.dismiss()


@pytest.fixture
def serve(tmp_path: Path, transport: str, servants: Servants | None) -> Serve:
    """Brings up the reference daemon, on each backend."""
    return Serve(tmp_path, transport, servants)


@pytest.fixture(scope="session")
def proxy(request: pytest.FixtureRequest, backend: str) -> str:
    """What stands before the daemon."""
    name: str = request.param
    # In a container it can stand before a process, too.
    if (backend, name) == (LOCAL, TOXIPROXY) and not foreign.binary() and lacking():
        pytest.skip(foreign.NO_BINARY)
    return name


@pytest.fixture(scope="session")
def ground(backend: str, proxy: str) -> Iterator[Before]:
    """What the daemons of all tests on it need."""
    with before(backend, proxy) as found:
        yield found


@pytest.fixture
def stand(tmp_path: Path, transport: str, ground: Before) -> Stand:
    """Brings up daemons with a monitor, on each ground."""
    return Stand(tmp_path, transport, ground)


@pytest.fixture
async def boxed(containers: None, tmp_path: Path) -> AsyncIterator[Place]:
    """The reference daemon in a container, behind the real Toxiproxy; nothing of it stays."""
    async with Place(tmp_path, choice=CHOICES[DOCKER]) as made:
        yield made
    assert remains(made.stack) == []
