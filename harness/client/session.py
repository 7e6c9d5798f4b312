"""
One session with a daemon: open, call, close, and every call on record.

A session does not retry and does not reconnect; what it raises says exactly what
is known. `CallFailed`: the call certainly did not happen. `CallUnknown`: it may
have. `errors.OUTCOMES` is the only judge of which is which.

Rule: an `invoke` is recorded before the call's first byte is handed to the library.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from harness.address import Address
from harness.client.endings import OPEN, Ending
from harness.client.exchange import Exchange, Request
from harness.client.opening import Door, drop, enter
from harness.client.reply import Recorded, Reply, readable, reply_of, shortened
from harness.client.silence import Silence, silence_in
from harness.clock import clock_id, fresh_id, now_ns
from harness.dialects.base import Answer, Dialect, Kind, Progress, Welcome
from harness.errors import ConnectFailed, InvalidValue
from harness.history import Recorder, Silent

__all__ = ["Ending", "Reply", "Session"]

_SILENT: Final = Silent()
# Characters of a call's tool, which may be a long message: on record, and in an error's headline.
_MESSAGE_SHOWN: Final = 200
_NAME_SHOWN: Final = 60


class Session:
    """
    One session with a daemon. Opened by `async with`, once; bound to no loop before.

    Args:
        url: ws://host:port/path or wss://host:port/path.
        dialect: The daemon's message language.
        process: Who calls, for the history.
        token: Sent in the hello, where the dialect has one; shown nowhere.
        session_id: The session to ask for in the hello; where it is None the daemon picks one.
        headers: Headers of the upgrade request; shown nowhere.
        subprotocols: Subprotocols to offer, in order of preference.
        recorder: Where ops go.
        call_timeout_s: The time limit of a call that brings none of its own, in seconds.
        open_timeout_s: Bounds connecting, upgrade and hello together, in seconds.
        close_timeout_s: Bounds the closing handshake, in seconds; then the socket is closed.
        ping_interval_s: Seconds between the library's own pings; None sends none.
        ping_timeout_s: A peer that does not answer one for so many seconds is gone.
        allow_remote: Leave to talk to a machine that is not this one.
        via: Where the TCP connection goes instead of the URL's host and port. Host header, SNI
            and the check of the certificate stay those of the URL.
        ca_file: The certificates to trust for wss://, in PEM form; None trusts the system's.
        promises: What the daemon is said to guarantee, where its own welcome says nothing.

    Raises:
        InvalidValue: If the URL is none, or `ca_file` cannot be read.

    Attributes:
        process: Who calls.
        welcome: What the daemon said when it took us in, None before.
    """

    def __init__(
        self,
        url: str,
        *,
        dialect: Dialect,
        process: str = "client",
        token: str | None = None,
        session_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        subprotocols: Sequence[str] = (),
        recorder: Recorder = _SILENT,
        call_timeout_s: float = 2.0,
        open_timeout_s: float = 5.0,
        close_timeout_s: float = 1.0,
        ping_interval_s: float | None = None,
        ping_timeout_s: float = 20.0,
        allow_remote: bool = False,
        via: Address | None = None,
        ca_file: Path | None = None,
        promises: Sequence[str] = (),
    ) -> None:
        self._door = Door(
            url=url,
            dialect=dialect,
            token=token,
            session_id=session_id,
            headers=dict(headers or {}),
            subprotocols=tuple(subprotocols),
            open_timeout_s=open_timeout_s,
            close_timeout_s=close_timeout_s,
            ping_interval_s=ping_interval_s,
            ping_timeout_s=ping_timeout_s,
            allow_remote=allow_remote,
            via=via,
            ca_file=ca_file,
            promises=tuple(promises),
        )
        self._dialect = dialect
        self._recorder = recorder
        self._call_timeout_s = call_timeout_s
        self.process = process
        self.welcome: Welcome | None = None
        self._name = f"{process}-{fresh_id()}"
        self._requests = 0
        self._used = False
        self._left = False
        self._connection: ClientConnection | None = None
        self._exchange: Exchange | None = None
        self._reader: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        state = "unopened" if self._exchange is None else self.ending.kind
        return f"Session({self._door}, process={self.process!r}, {state})"

    @property
    def ending(self) -> Ending:
        """How the connection ended; its kind is "open" until it has."""
        return OPEN if self._exchange is None else self._exchange.ending

    @property
    def is_open(self) -> bool:
        """Whether it was opened, and is neither closed by us nor over."""
        return self._exchange is not None and self._exchange.is_open

    @property
    def takes_calls(self) -> bool:
        """Whether a call can be sent: it is open, and no reply is due to a call given up."""
        return self._exchange is not None and self.is_open and self._exchange.in_step

    @property
    def one_at_a_time(self) -> bool:
        """Whether one request at a time may be under way."""
        return self._dialect.one_at_a_time

    async def answers(self, *, within_s: float) -> bool:
        """
        Whether the peer's WebSocket answers a ping; the daemon's tools have no part in that.

        Args:
            within_s: How long it may take, in seconds.
        """
        if self._connection is None:
            return False
        try:
            async with asyncio.timeout(within_s):
                await (await self._connection.ping())
        except (TimeoutError, ConnectionClosed):
            return False
        return True

    @property
    def is_entered(self) -> bool:
        """Whether its block was entered and not yet left, whatever became of the connection."""
        return self._exchange is not None and not self._left

    @property
    def under_way(self) -> tuple[str, ...]:
        """The request ids of the calls under way."""
        return () if self._exchange is None else self._exchange.under_way

    @property
    def strays(self) -> int:
        """How many answers nobody waited for: late, repeated, or to no request of ours."""
        return 0 if self._exchange is None else self._exchange.strays

    @property
    def junk(self) -> int:
        """How many frames meant nothing in this dialect."""
        return 0 if self._exchange is None else self._exchange.junk

    async def __aenter__(self) -> Self:
        if self._used:
            raise InvalidValue(
                f"session {self._name} was opened before; a session opens once",
                [("next", "make a new Session for a new connection")],
            )
        self._used = True
        with Recorded(
            self._recorder, process=self.process, f="open", value={"url": str(self._door)}
        ) as record:
            try:
                self._connection, self.welcome = await enter(self._door)
            except ConnectFailed as error:
                record.end("fail", {"how": error.headline}, error=error.kind)
                raise
            record.end("ok", {**_told(self.welcome), "local_port": _port(self._connection)})
        self._exchange = Exchange(
            self._connection, self._dialect, note=self._note, hide=self._door.hide
        )
        self._reader = asyncio.create_task(self._exchange.listen(), name=f"{self._name} reader")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._connection is not None and self._reader is not None
        self._left = True
        try:
            await drop(self._connection, within_s=self._door.close_timeout_s)
        finally:
            await self._reader

    def _note(self, f: str, value: Mapping[str, Any]) -> None:
        said = {k: self._door.hide(v) if isinstance(v, str) else v for k, v in value.items()}
        self._recorder.record(process=self.process, type="info", f=f, value=said)

    async def call(
        self,
        tool: str | bytes,
        arguments: dict[str, Any] | None = None,
        *,
        key: str | None = None,
        attempt: int = 1,
        timeout_s: float | None = None,
        intended_ns: int | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> Reply:
        """
        Run a tool. Many calls may run at once, unless the dialect has one at a time.

        Args:
            tool: Its name; in a dialect without tools the message itself, bytes for a binary one.
            arguments: What it is given; JSON.
            key: The intention's idempotency key, the same for each attempt. None sends none,
                and records the request id.
            attempt: Counts the attempts of one intention from 1.
            timeout_s: Give up after so many seconds, sending included; None takes the session's.
            intended_ns: When the call was meant to start, on `harness.clock`; now if None.
            on_progress: Called with each progress frame of this call, before it returns.

        Raises:
            CallFailed: If it certainly did not happen.
            CallUnknown: If it may have happened.
            InvalidValue: If the dialect cannot say it, the arguments cannot be sent as JSON, or
                another request is in its way; nothing is recorded then.
        """
        request_id = self._next_id()
        start_ns = now_ns() if intended_ns is None else intended_ns
        given = {} if arguments is None else arguments
        # Hidden before it is cut: half a token would be found by nobody afterwards.
        shown = shortened(self._door.hide(readable(tool)), room=_MESSAGE_SHOWN)
        named = shortened(" ".join(shown.split()), room=_NAME_SHOWN)
        try:
            frame = self._dialect.call(request_id=request_id, tool=tool, arguments=given, key=key)
        except (TypeError, ValueError, msgspec.MsgspecError) as error:
            raise InvalidValue(
                f"{named}: the arguments cannot be sent as JSON: {error}",
                [("next", "give text, numbers, True, False, None, and lists and dicts of them")],
            ) from None
        self._refuse_a_second()
        request = Request(
            kind="call",
            request_id=request_id,
            frame=frame,
            binary=isinstance(tool, bytes),
            on_progress=on_progress,
        )
        record = Recorded(
            self._recorder,
            process=self.process,
            f="call",
            value={"request_id": request_id, "tool": shown, "arguments": given},
            intended_ns=start_ns,
            key=key or request_id,
            attempt=attempt,
        )
        with record:
            answer = await self._answer(request, record, timeout_s=timeout_s, what=f"call {named}")
            reply = reply_of(
                answer,
                key=key or request_id,
                start_ns=start_ns,
                same_clock=self.welcome is not None and self.welcome.clock == clock_id(),
                progress=request.progress,
            )
            record.end_with(reply)
            return reply

    async def list_tools(self) -> list[dict[str, Any]]:
        """The tools, each with name, description and schema. Raises as `call` does."""
        tools: list[dict[str, Any]] = await self._ask("tools", self._next_id())
        return tools

    async def health(self) -> dict[str, Any]:
        """The daemon's report of itself. Raises as `call` does."""
        report: dict[str, Any] = await self._ask("health", self._next_id())
        return report

    async def ping(self) -> float:
        """How long the daemon takes to answer, in milliseconds. Raises as `call` does."""
        start_ns = now_ns()
        await self._ask("pong", self._next_id())
        return (now_ns() - start_ns) / 1e6

    async def cancel(self, request_id: str) -> bool:
        """
        End a running call; whether one of that id was running. Raises as `call` does.

        Raises:
            InvalidValue: If a cancel of that call is under way already.
        """
        if self._exchange is not None and self._exchange.waits("cancel", request_id):
            raise InvalidValue(
                f"a cancel of {request_id} is under way already",
                [("next", "await that one; it tells whether the call was running")],
            )
        return bool(await self._ask("cancel", request_id))

    async def _ask(self, kind: Kind, request_id: str) -> Any:
        frame = self._dialect.ask(kind, request_id)
        self._refuse_a_second()
        request = Request(kind=kind, request_id=request_id, frame=frame)
        # Of the questions only a cancel changes anything, so only it is on record.
        recorder = self._recorder if kind == "cancel" else _SILENT
        with Recorded(
            recorder, process=self.process, f=kind, value={"request_id": request_id}
        ) as record:
            answer = await self._answer(request, record, timeout_s=None, what=kind)
            record.end("ok", {"answer": answer.value})
            return answer.value

    def _refuse_a_second(self) -> None:
        """Nothing may be awaited between this and `Exchange.ask`, which takes the place."""
        before = None if self._exchange is None else self._exchange.in_the_way
        if before is not None:
            raise InvalidValue(
                f'dialect "{self._dialect.name}" has one request at a time, and {before} is under'
                " way",
                [("next", "await that one first, or open another session")],
            )

    def _next_id(self) -> str:
        self._requests += 1
        return f"{self._name}-{self._requests}"

    async def _answer(
        self, request: Request, record: Recorded, *, timeout_s: float | None, what: str
    ) -> Answer:
        """The answer, if it tells of something that ran; else the failure, on record and raised."""
        if self._exchange is None:
            found: Answer | Silence = Silence(
                kind="not_connected", how="nothing was sent: the session was never opened"
            )
        else:
            limit_s = self._call_timeout_s if timeout_s is None else timeout_s
            found = await self._exchange.ask(request, timeout_s=limit_s)
        silence = found if isinstance(found, Silence) else silence_in(found, request.kind)
        if silence is None:
            assert isinstance(found, Answer)
            return found
        hide = self._door.hide
        silence = replace(silence, kind=hide(silence.kind), how=hide(silence.how))
        ending = {} if self.ending == OPEN else {"ending": self.ending.settings()}
        record.end(silence.outcome, {"how": silence.how, **ending}, error=silence.kind)
        raise silence.error(
            what,
            request_id=request.request_id,
            to=str(self._door),
            elapsed_ms=record.elapsed_ms,
        )


def _told(welcome: Welcome) -> dict[str, Any]:
    return {
        "session_id": welcome.session_id,
        "promises": welcome.promises,
        "clock": welcome.clock,
    }


def _port(connection: ClientConnection) -> int | None:
    # None where the connection is gone already.
    name = connection.local_address
    return name[1] if name else None
