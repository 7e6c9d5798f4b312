"""
Many requests at once over one connection, each matched with its own answer.

Rule: an answer reaches the request it names or nobody, and an exception out of a
`send` that was entered proves nothing. Where answers name no request, one request
is under way at a time, and after one that nobody waits for any more there is no next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from harness.client.endings import OPEN, Ending, ending_of
from harness.client.silence import Silence
from harness.dialects.base import Answer, Dialect, Incoming, Kind, Progress

__all__ = ["Exchange", "Request"]


@dataclass(kw_only=True)
class Request:
    """
    A request, and who waits for it. Made inside a running loop.

    Attributes:
        kind: What is asked.
        request_id: Its id.
        frame: The frame that asks it.
        binary: Whether it goes out as a binary message.
        on_progress: Told of each progress frame.
        progress: How many there were.
        sent: Whether its frame was handed over, or is being.
        end: Its answer, or how the connection ended first.
    """

    kind: Kind
    request_id: str
    frame: bytes | str
    binary: bool = False
    on_progress: Callable[[Progress], None] | None = None
    progress: int = 0
    sent: bool = False
    end: asyncio.Future[Answer | Ending] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


# A cancel shares its id with the call it is about, and comes first: to take the refusal of
# a cancel for that of a running call would prove what is not so.
_KINDS: Final[tuple[Kind, ...]] = ("cancel", "call", "tools", "health", "pong")

_END_S: Final = 0.1


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
        self._over = asyncio.Event()
        self.strays = 0
        self.junk = 0
        self._waiting: dict[tuple[Kind, str], Request] = {}
        # Requests that nobody waits for any more although they were never answered.
        self._given_up: set[tuple[Kind, str]] = set()

    @property
    def is_open(self) -> bool:
        """Whether a request can be sent."""
        return self.ending == OPEN and self._connection.state is State.OPEN

    @property
    def in_step(self) -> bool:
        """Whether no answer is due to a request that was given up, where that would matter."""
        return self._out_of_step() is None

    @property
    def under_way(self) -> tuple[str, ...]:
        """The ids of the calls that somebody waits for."""
        return tuple(request_id for kind, request_id in self._waiting if kind == "call")

    @property
    def in_the_way(self) -> str | None:
        """The request that must end before another may begin, None where none must."""
        if not self._dialect.one_at_a_time:
            return None
        return next((each.request_id for each in self._pending()), None)

    def _pending(self) -> Iterator[Request]:
        return (request for request in self._waiting.values() if not request.end.done())

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
            self._over.set()
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
                    if incoming.request_id is None:
                        incoming = replace(incoming, request_id=request.request_id)
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
            return self._only_one(answer.kind)
        for kind in _KINDS if answer.kind is None else (answer.kind,):
            request = self._waiting.get((kind, answer.request_id))
            if request is not None:
                return request
            if (kind, answer.request_id) in self._given_up:
                return None
        return None

    def _only_one(self, kind: Kind | None) -> Request | None:
        """Who gets an answer that names no request."""
        if self._dialect.one_at_a_time:
            for request in self._pending():
                if request.sent and kind in (None, request.kind):
                    return request
        return None

    def _stray(self, answer: Answer) -> None:
        self.strays += 1
        late = any((kind, answer.request_id) in self._given_up for kind in _KINDS)
        if answer.request_id is None and self._dialect.one_at_a_time:
            late = self._unanswered() is not None
        self._note("stray", {"request_id": answer.request_id, "kind": answer.kind, "late": late})

    async def ask(self, request: Request, *, timeout_s: float) -> Answer | Silence:
        """Send a request and wait for its answer, both together for so many seconds."""
        if not self.is_open:
            return await self._not_connected()
        if (refusal := self._out_of_step()) is not None:
            return refusal
        end: Answer | Ending | None = None
        self._waiting[request.kind, request.request_id] = request
        try:
            async with asyncio.timeout(timeout_s):
                if self._dialect.one_at_a_time:
                    # What has arrived by now answers nothing that is sent later. The reader
                    # takes it first, and may find the connection's end.
                    await asyncio.sleep(0)
                    if not self.is_open:
                        return await self._not_connected()
                request.sent = True
                try:
                    await self._connection.send(request.frame, text=not request.binary)
                # Whatever it was: bytes may have left.
                except Exception as error:  # noqa: BLE001
                    await self._see_the_end()
                    return _send_broke(error)
                end = await request.end
        except TimeoutError:
            # The answer may have come together with the limit.
            if not request.end.done() or request.end.cancelled():
                return Silence(kind="time_limit", how=f"no answer within {timeout_s:g} s")
            end = request.end.result()
        finally:
            del self._waiting[request.kind, request.request_id]
            if request.sent and not _answered(request):
                self._given_up.add((request.kind, request.request_id))
        if isinstance(end, Ending):
            return Silence(kind="connection_lost", how=f"{end} before the answer came")
        return end

    def _out_of_step(self) -> Silence | None:
        """Why no request can be sent on a connection that is open."""
        if not self._dialect.one_at_a_time or (unanswered := self._unanswered()) is None:
            return None
        return Silence(
            kind="out_of_step",
            how=f"nothing was sent: {unanswered} was given up, and its reply may still come",
            next="open a new session",
        )

    async def _see_the_end(self) -> None:
        """Wait a moment for an end that is on its way: then `ending` says which it was."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), _END_S)

    def _unanswered(self) -> str | None:
        """A request that was sent and given up, None if there is none."""
        # Between the cancellation and its arrival in `ask`, nobody waits for the request either.
        leaving = (key for key, each in self._waiting.items() if each.sent and each.end.cancelled())
        return next((request_id for _, request_id in (*self._given_up, *leaving)), None)

    async def _not_connected(self) -> Silence:
        await self._see_the_end()
        # Closed or closing: the library would not hand over a byte.
        ended = self.ending if self.ending != OPEN else "the connection is closing"
        return Silence(kind="not_connected", how=f"nothing was sent: {ended}")


def _answered(request: Request) -> bool:
    end = request.end
    return end.done() and not end.cancelled() and isinstance(end.result(), Answer)


def _send_broke(error: Exception) -> Silence:
    ended = ending_of(error) if isinstance(error, ConnectionClosed) else None
    how = str(ended or f"{type(error).__name__}: {error}")
    return Silence(kind="connection_lost", how=f"{how} while the request was being sent")
