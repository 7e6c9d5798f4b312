"""What the tests of sessions share: a session to open, behaviours of daemons, the ops on file."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection

from harness.client.session import Session
from harness.dialects.exai import Exai
from harness.errors import ConnectFailed
from harness.history import Op
from harness.run.store import HistoryWriter, load_history
from tests.integration.daemons import Frame, answer

__all__ = ["TOKEN", "Frame", "echo", "ops", "refusal", "session", "silent", "soon", "until"]

TOKEN = "s3cret-t0ken"


def ops(history: HistoryWriter, f: str | None = None) -> list[Op]:
    """The ops on file, one kind of them where that is asked for."""
    return [op for op in load_history(history.path).ops if f in (None, op.f)]


def session(url: str, **options: Any) -> Session:
    return Session(url, **{"dialect": Exai(), **options})


async def echo(connection: ServerConnection, frame: Frame) -> None:
    await answer(connection, frame, frame.get("arguments", {}).get("text", ""))


async def silent(connection: ServerConnection, frame: Frame) -> None:
    """Never answers."""


async def soon(event: asyncio.Event) -> None:
    async with asyncio.timeout(5):
        await event.wait()


async def until(true: Callable[[], bool]) -> None:
    """The event loop goes on until it is true, for what no event tells of."""
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.001)


async def refusal(url: str, **options: Any) -> ConnectFailed:
    with pytest.raises(ConnectFailed) as caught:
        async with session(url, **{"open_timeout_s": 5.0, **options}):
            pass
    return caught.value
