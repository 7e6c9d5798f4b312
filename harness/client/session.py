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
from types import TracebackType
from typing import Any, Final, NoReturn, Self

import msgspec
from websockets.asyncio.client import ClientConnection

from harness.client.endings import OPEN, Ending
from harness.client.exchange import Exchange, Request, Silence
from harness.client.opening import Door, drop, enter
from harness.client.reply import Recorded, Reply, reply_of
from harness.clock import clock_id, fresh_id, now_ns
from harness.dialects.base import Answer, Dialect, Kind, Progress, Welcome
from harness.errors import CallFailed, CallUnknown, ConnectFailed, InvalidValue, outcome_of
from harness.history import Recorder, Silent

__all__ = ["Ending", "Reply", "Session"]

_SILENT: Final = Silent()


class Session:
    """
    One session with a daemon. Opened by `async with`, once; bound to no loop before.

    Args:
        url: ws://host:port/path or wss://host:port/path.
        dialect: The daemon's message language.
        process: Who calls, for the history.
        token: Sent in the hello; shown nowhere.
        session_id: The session to ask for; where it is None the daemon picks one.
        headers: Headers of the upgrade request; shown nowhere.
        subprotocols: Subprotocols to offer, in order of preference.
        recorder: Where ops go.
        call_timeout_s: The time limit of a call that brings none of its own, in seconds.
        open_timeout_s: Bounds connecting, upgrade and hello together, in seconds.
        close_timeout_s: Bounds the closing handshake, in seconds; then the socket is closed.
        ping_interval_s: Seconds between the library's own pings; None sends none.
        allow_remote: Leave to talk to a machine that is not this one.

    Raises:
        InvalidValue: If the URL is none.

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
        allow_remote: bool = False,
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
            allow_remote=allow_remote,
        )
        self._dialect = dialect
        self._recorder = recorder
        self._call_timeout_s = call_timeout_s
        self.process = process
        self.welcome: Welcome | None = None
        self._name = f"{process}-{fresh_id()}"
        self._requests = 0
        self._used = False
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
        try:
            await drop(self._connection, within_s=self._door.close_timeout_s)
        finally:
            await self._reader

    def _note(self, f: str, value: Mapping[str, Any]) -> None:
        said = {k: self._door.hide(v) if isinstance(v, str) else v for k, v in value.items()}
        self._recorder.record(process=self.process, type="info", f=f, value=said)

    async def call(
        self,
        tool: str,
        arguments: dict[str, Any],
        *,
        key: str | None = None,
        attempt: int = 1,
        timeout_s: float | None = None,
        intended_ns: int | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> Reply:
        """
        Run a tool. Many calls may run at once.

        Args:
            tool: Its name.
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
            InvalidValue: If the arguments cannot be sent as JSON; nothing is recorded then.
        """
        request_id = self._next_id()
        start_ns = now_ns() if intended_ns is None else intended_ns
        try:
            frame = self._dialect.call(
                request_id=request_id, tool=tool, arguments=arguments, key=key
            )
        except (TypeError, ValueError, msgspec.MsgspecError) as error:
            raise InvalidValue(f"{tool}: the arguments cannot be sent as JSON: {error}") from None
        request = Request(kind="call", request_id=request_id, frame=frame, on_progress=on_progress)
        record = Recorded(
            self._recorder,
            process=self.process,
            f="call",
            value={"request_id": request_id, "tool": tool, "arguments": arguments},
            intended_ns=start_ns,
            key=key or request_id,
            attempt=attempt,
        )
        with record:
            answer = await self._answer(request, record, timeout_s=timeout_s, what=f"call {tool}")
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
            raise InvalidValue(f"a cancel of {request_id} is under way already")
        return bool(await self._ask("cancel", request_id))

    async def _ask(self, kind: Kind, request_id: str) -> Any:
        frame = self._dialect.ask(kind, request_id)
        request = Request(kind=kind, request_id=request_id, frame=frame)
        # Of the questions only a cancel changes anything, so only it is on record.
        recorder = self._recorder if kind == "cancel" else _SILENT
        with Recorded(
            recorder, process=self.process, f=kind, value={"request_id": request_id}
        ) as record:
            answer = await self._answer(request, record, timeout_s=None, what=kind)
            record.end("ok", {"answer": answer.value})
            return answer.value

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
        if isinstance(found, Silence):
            self._no_answer(request, record, what, found.kind, found.how)
        failure = found.failure
        if failure is not None and not _has_value(request, found):
            self._no_answer(request, record, what, failure.code, failure.message)
        return found

    def _no_answer(
        self, request: Request, record: Recorded, what: str, kind: str, how: str
    ) -> NoReturn:
        kind, how = self._door.hide(kind), self._door.hide(how)
        failed = outcome_of(kind) == "fail"
        value = {"how": how} | ({} if self.ending == OPEN else {"ending": self.ending.settings()})
        record.end("fail" if failed else "info", value, error=kind)
        raise (CallFailed if failed else CallUnknown)(
            f"{what}: {how} ({kind})",
            [
                ("request", f"{request.request_id} to {self._door}"),
                ("elapsed", f"{record.elapsed_ms:.1f} ms"),
                ("means", "it did not happen" if failed else "it may have happened"),
            ],
            kind=kind,
            request_id=request.request_id,
            elapsed_ms=record.elapsed_ms,
        )


def _has_value(request: Request, answer: Answer) -> bool:
    """Whether an answer that carries a failure tells what was asked all the same."""
    if request.kind == "cancel":
        # "No such call was running" is an answer, "what is a cancel?" is none.
        return answer.kind == "cancel"
    failed_inside = answer.failure is not None and outcome_of(answer.failure.code) == "ok"
    return request.kind == "call" and failed_inside


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
