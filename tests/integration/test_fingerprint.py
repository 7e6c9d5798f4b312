"""What a daemon looks like when nobody uses it, whatever it tells of itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection

from harness.address import Address
from harness.daemons.running import Running
from harness.dialects.plain import Plain
from harness.environment.attached import AttachedDaemon
from harness.environment.fingerprint import changes, settled
from harness.errors import EnvironmentFailed
from tests.integration.daemons import Frame, bare, say, speaking


def at(url: str, **options: Any) -> AttachedDaemon:
    """A daemon that runs already."""
    return AttachedDaemon(Running.at(url, **options))


async def reports(connection: ServerConnection, frame: Frame, **health: Any) -> None:
    """Answer a question for its health."""
    answer = {"op": "health_res", "request_id": frame["request_id"], "ok": True}
    await say(connection, {**answer, "health": health})


@asynccontextmanager
async def forgetful() -> AsyncIterator[AttachedDaemon]:
    """A daemon that counts two connections too many, and one fewer at each look."""
    counts = iter([3, 2])

    async def behave(connection: ServerConnection, frame: Frame) -> None:
        await reports(connection, frame, connections=next(counts, 1))

    async with speaking(behave) as url:
        yield at(url)


async def test_what_came_before_is_waited_for() -> None:
    """A daemon that forgets slowly is looked at until it shows nobody but the one who looks."""
    async with forgetful() as site:
        assert await settled(site) == {"connections": 1}


async def test_a_change_that_goes_away_is_none() -> None:
    """It is given time to forget."""
    async with forgetful() as site:
        assert await changes({"connections": 1}, site) == {}


async def test_a_change_that_stays_is_told() -> None:
    """With what was before and what is now."""

    async def behave(connection: ServerConnection, frame: Frame) -> None:
        await reports(connection, frame, sessions=3, connections=1)

    async with speaking(behave) as url:
        found = await changes({"sessions": 2, "connections": 1}, at(url))

    assert found == {"sessions": (2, 3)}


async def test_where_health_is_refused_the_kernel_tells() -> None:
    """A daemon whose language has the question, and which has no answer, can be shared, too."""

    async def behave(connection: ServerConnection, frame: Frame) -> None:
        error = {"code": "NOT_FOUND", "message": "no such op"}
        await say(connection, {"op": "error", "request_id": frame["request_id"], "error": error})

    async with speaking(behave) as url:
        before = await settled(at(url))
        async with connect(url):
            found = await changes(before, at(url))

    assert before == {"health": "NOT_FOUND", "tcp_connections": 0}
    assert found == {"tcp_connections": (0, 1)}


async def test_a_daemon_that_does_not_say_how_it_is() -> None:
    """It cannot be shared; the error says so before any test is blamed."""

    async def behave(connection: ServerConnection, frame: Frame) -> None:
        await connection.close()

    async with speaking(behave) as url:
        with pytest.raises(EnvironmentFailed, match="does not say how it is") as caught:
            await settled(at(url))

    assert 'isolation "daemon"' in str(caught.value)


async def test_a_daemon_that_is_gone_is_in_trouble() -> None:
    """Nothing else is told of it."""
    async with speaking(reports) as url:
        site = at(url)

    found = await changes({"connections": 1}, site)

    assert found["trouble"] == (None, "no session: nobody listens there")


async def test_a_plain_daemon_must_still_take_us_in() -> None:
    """One that tells nothing is at least asked in."""

    async def behave(connection: ServerConnection, message: str | bytes) -> None:
        """Say nothing."""

    async with bare(behave) as url:
        site = at(url, dialect=Plain())
        assert await settled(site) == {"tcp_connections": 0}

    assert "trouble" in await changes({"tcp_connections": 0}, site)


async def test_of_another_machines_connections_nobody_knows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """This machine's table tells of a port of its own of the same number."""

    async def behave(connection: ServerConnection, message: str | bytes) -> None:
        """Say nothing."""

    async with bare(behave) as url:
        site = at(url, dialect=Plain(), allow_remote=True)
        monkeypatch.setattr(Address, "is_loopback", property(lambda _: False))
        assert await settled(site) == {}
