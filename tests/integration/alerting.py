"""A daemon whose alerts are about one gauge, and where it tells of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import fields
from typing import Any, Final

from harness.resilience.alerts import Readings
from tests.integration.asked import Provider, asking
from tests.integration.following import Following, following
from tests.integration.metered import Client
from tests.integration.proxy_process import eventually
from tests.integration.scraped import Page
from tests.integration.standing import Stand, Standing

__all__ = ["Alert", "alerting", "left", "working"]

_INTERVAL_S: Final = 0.1
_LEVELS: Final = ("warn", "critical")
_NONE: Final = {
    f"alerts.{level}_{gauge.name}": "none" for gauge in fields(Readings) for level in _LEVELS
}
_KINDS: Final = ("alert raised", "alert changed", "alert cleared")


class Alert:
    """
    The alerts about one gauge.

    Attributes:
        daemon: Whose.
        provider: What stands behind it.
    """

    def __init__(self, gauge: str, daemon: Standing, provider: Provider, events: Following) -> None:
        self.daemon = daemon
        self.provider = provider
        self._gauge = gauge
        self._events = events

    async def comes(self, kind: str, level: str | None) -> dict[str, Any]:
        """Wait until the stream tells that it was raised, changed or cleared; all else agrees."""
        event = await self._events.until(f"alert {kind}", gauge=self._gauge, level=level)
        assert (await self.daemon.status())["alerts"].get(self._gauge) == level
        page = Page.read((await self.daemon.ask("GET", "/metrics")).body.decode())
        told = {
            each: page.where("harness_alert", gauge=self._gauge, level=each) for each in _LEVELS
        }
        assert told == {each: [1] if each == level else [] for each in _LEVELS}
        return event

    async def reads(self, reading: float) -> None:
        """Wait until that is what the gauge shows."""
        await eventually(self.daemon.status, lambda it: it["readings"][self._gauge] == reading)

    async def told(self) -> list[tuple[str, str | None]]:
        """All that there was of it: what became of it, and its level then."""
        return [
            (event["kind"].removeprefix("alert "), event["level"])
            for event in await self.daemon.events(*_KINDS)
            if event["gauge"] == self._gauge
        ]


@asynccontextmanager
async def alerting(
    stand: Stand, gauge: str, values: Mapping[str, Any], **thresholds: float
) -> AsyncIterator[Alert]:
    """
    A daemon with a provider.

    Args:
        gauge: What its alerts are about.
        values: More of its configuration.
        thresholds: By level.
    """
    given = {f"alerts.{level}_{gauge}": at for level, at in thresholds.items()}
    usual = {"alerts.interval_s": _INTERVAL_S, "alerts.clear_at": 0.9}
    async with (
        asking(stand, {**usual, **_NONE, **given, **values}) as (daemon, provider),
        following(daemon) as events,
    ):
        yield Alert(gauge, daemon, provider, events)


@asynccontextmanager
async def working(*work: Callable[[], Awaitable[object]]) -> AsyncIterator[None]:
    """Each is done again and again, side by side, until the block is left."""
    over = asyncio.Event()

    async def again(once: Callable[[], Awaitable[object]]) -> None:
        while not over.is_set():
            await once()

    async with asyncio.TaskGroup() as tasks:
        for each in work:
            tasks.create_task(again(each))
        try:
            yield
        finally:
            over.set()


async def left(clients: Iterable[Client]) -> None:
    """They go, one after the other."""
    for client in clients:
        await client.close()
