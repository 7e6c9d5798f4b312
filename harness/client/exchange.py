"""
Many requests at once over one connection, each matched with its own answer.

Rule: an answer reaches the request it names or nobody, and an exception out of a
`send` that was entered proves nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from harness.client.endings import OPEN, Ending, ending_of
from harness.dialects.base import Answer, Dialect, Incoming, Kind, Progress

__all__ = ["Exchange", "Request", "Silence"]


@dataclass(kw_only=True)
class Request:
    """
    A request, and who waits for it. Made inside a running loop.

    Attributes:
        kind: What is asked.
        request_id: Its id.
        frame: The frame that asks it.
        on_progress: Told of each progress frame.
        progress: How many there were.
        end: Its answer, or how the connection ended first.
    """

    kind: Kind
    request_id: str
    frame: bytes
    on_progress: Callable[[Progress], None] | None = None
    progress: int = 0
    end: asyncio.Future[Answer | Ending] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


@dataclass(frozen=True, kw_only=True)
class Silence:
    """No answer: a kind of `errors.OUTCOMES`, and what happened in words."""

    kind: str
    how: str


# A cancel shares its id with the call it is about, and comes first: to take the refusal of
# a cancel for that of a running call would prove what is not so.
_KINDS: Final[tuple[Kind, ...]] = ("cancel", "call", "tools", "health", "pong")


class Exchange:
    """
    The requests under way on one connection.

    Args:
        connection: An open connection, past hello.
        dialect: Its message language.
        note: Told of what nobody asked for: `f` and a value.
        hide: Takes secrets out of what the daemon said when it closed.

    Attributes:
        ending: How the connection ended, `OPEN` until it has.
        strays: Answers that nobody waited for: late, repeated, or to no request of ours.
        junk: Frames that mean nothing here.
    """

    def __init__(
        self,
        connection: ClientConnection,
        dialect: Dialect,
        *,
        note: Callable[[str, Mapping[str, Any]], None],
        hide: Callable[[str], str],
    ) -> None:
        self._connection = connection
        self._dialect = dialect
        self._note = note
        self._hide = hide
        self.ending: Ending = OPEN
        self.strays = 0
        self.junk = 0
        self._waiting: dict[tuple[Kind, str], Request] = {}
        # Requests that nobody waits for any more although they were never answered.
        self._given_up: set[tuple[Kind, str]] = set()

    def waits(self, kind: Kind, request_id: str) -> bool:
        """Whether such a request is under way."""
        return (kind, request_id) in self._waiting

    async def listen(self) -> None:
        """Read until the connection ends. One task runs this for as long as there are requests."""
        ending = Ending(kind="lost", detail="the session stopped reading")
        try:
            while True:
                self._receive(self._dialect.receive(await self._connection.recv(decode=False)))
        except ConnectionClosed as closed:
            found = ending_of(closed)
            ending = replace(
                found, reason=self._hide(found.reason), detail=self._hide(found.detail)
            )
        finally:
            self.ending = ending
            for request in self._waiting.values():
                if not request.end.done():
                    request.end.set_result(ending)
            # Those who wait run later, so this is noted before their own ends.
            self._note("close", {"ending": ending.settings(), "how": str(ending)})

    def _receive(self, incoming: Incoming) -> None:
        match incoming:
            case Answer():
                request = self._who_asked(incoming)
                if request is None or request.end.done():
                    self._stray(incoming)
                else:
                    request.end.set_result(incoming)
            case Progress():
                request = self._waiting.get(("call", incoming.request_id))
                if request is not None:
                    request.progress += 1
                    if request.on_progress is not None:
                        # Through the loop, so that what it raises does not end this reader.
                        asyncio.get_running_loop().call_soon(request.on_progress, incoming)
            case _:
                # Junk; or a welcome or refusal after we were taken in.
                self.junk += 1

    def _who_asked(self, answer: Answer) -> Request | None:
        if answer.request_id is None:
            return None
        for kind in _KINDS if answer.kind is None else (answer.kind,):
            request = self._waiting.get((kind, answer.request_id))
            if request is not None:
                return request
            if (kind, answer.request_id) in self._given_up:
                return None
        return None

    def _stray(self, answer: Answer) -> None:
        self.strays += 1
        late = any((kind, answer.request_id) in self._given_up for kind in _KINDS)
        self._note("stray", {"request_id": answer.request_id, "kind": answer.kind, "late": late})

    async def ask(self, request: Request, *, timeout_s: float) -> Answer | Silence:
        """Send a request and wait for its answer, both together for so many seconds."""
        # Closed or closing: the library would not hand over a byte.
        if self.ending != OPEN or self._connection.state is not State.OPEN:
            ended = self.ending if self.ending != OPEN else "the connection is closing"
            return Silence(kind="not_connected", how=f"nothing was sent: {ended}")
        end: Answer | Ending | None = None
        self._waiting[request.kind, request.request_id] = request
        try:
            async with asyncio.timeout(timeout_s):
                try:
                    await self._connection.send(request.frame, text=True)
                # Whatever it was: bytes may have left.
                except Exception as error:  # noqa: BLE001
                    return _send_broke(error)
                end = await request.end
        except TimeoutError:
            # The answer may have come together with the limit.
            if not request.end.done() or request.end.cancelled():
                return Silence(kind="time_limit", how=f"no answer within {timeout_s:g} s")
            end = request.end.result()
        finally:
            del self._waiting[request.kind, request.request_id]
            if not isinstance(end, Answer):
                self._given_up.add((request.kind, request.request_id))
        if isinstance(end, Ending):
            return Silence(kind="connection_lost", how=f"{end} before the answer came")
        return end


def _send_broke(error: Exception) -> Silence:
    ended = ending_of(error) if isinstance(error, ConnectionClosed) else None
    how = str(ended or f"{type(error).__name__}: {error}")
    return Silence(kind="connection_lost", how=f"{how} while the request was being sent")
