"""A daemon that keeps what it promises: each key runs once, and a session is known again."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tests.integration.daemons import QUIET, Frame, answer, say

__all__ = ["Keeper", "keeping"]


class Keeper:
    """
    What a daemon remembers beyond its connections.

    Attributes:
        promises: What it says in its hello_ack.
        resumed: Whether it says that it knows the session; None: it does not say.
        ran: How often each key was run, by (session, key).
        hellos: The session ids that were asked for, in order.
        refuse: Answers a call with this error code instead of running it, while it is set.
        before_answer: Called after a call ran, before its answer leaves.
    """

    def __init__(self, *promises: str) -> None:
        self.promises = list(promises)
        self.resumed: bool | None = None
        self.ran: Counter[tuple[str, str]] = Counter()
        self.hellos: list[str | None] = []
        self.refuse = ""
        self.before_answer: Callable[[ServerConnection], None] | None = None
        self._answers: dict[tuple[str, str], str] = {}

    async def serve(self, connection: ServerConnection) -> None:
        hello = json.loads(await connection.recv())
        asked = hello.get("session_id")
        self.hellos.append(asked)
        session = asked or f"session-{len(self.hellos)}"
        welcome = {"op": "hello_ack", "ok": True, "session_id": session}
        said = {} if self.resumed is None else {"resumed": self.resumed}
        await say(connection, welcome | {"promises": self.promises} | said)
        async for message in connection:
            await self._call(connection, session, json.loads(message))

    async def _call(self, connection: ServerConnection, session: str, frame: Frame) -> None:
        if self.refuse:
            error = {"code": self.refuse, "message": "not now"}
            reply = {"op": "call_tool_res", "request_id": frame["request_id"], "ok": False}
            await say(connection, reply | {"error": error})
            return
        key = (session, frame["key"])
        if key not in self._answers or "keys" not in self.promises:
            self.ran[key] += 1
            self._answers[key] = frame["arguments"].get("text", "")
        if self.before_answer is not None:
            self.before_answer(connection)
        await answer(connection, frame, self._answers[key])


@asynccontextmanager
async def keeping(keeper: Keeper, *, port: int = 0) -> AsyncIterator[str]:
    """
    Serve it on loopback.

    Yields:
        Its URL.
    """

    async def handle(connection: ServerConnection) -> None:
        try:
            await keeper.serve(connection)
        except ConnectionClosed:
            pass

    async with serve(
        handle, "127.0.0.1", port, compression=None, logger=QUIET, ping_interval=None
    ) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield f"ws://127.0.0.1:{port}"
        for connection in list(server.connections):
            connection.transport.abort()
        await asyncio.sleep(0)
