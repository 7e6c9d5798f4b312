"""
One connection: hello, then requests, until it is lost.

Called by a transport, calls it back; awaits nothing. A frame that makes no sense
is answered and the connection lives on, except for the first, which must be a hello.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
from typing import Any, Final

from harness.clock import clock_id, now_ns, wall_ns
from harness.dialects import exai
from harness.dialects.exai import FrameError
from harness.refdaemon.calls import Calls
from harness.refdaemon.state import State
from harness.refdaemon.transport.base import CLOSE_WITHIN_S, HIGH_WATER, Cause, Wire

__all__ = ["Connection"]

log = logging.getLogger(__name__)

_CLOSED_AS: Final[dict[Cause, str]] = {
    "reset": "closed_by_reset",
    "eof": "closed_by_eof",
    "closed": "closed_orderly",
}


class Connection:
    """The handler of one connection."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._session = ""
        self._calls: Calls | None = None
        self._paused = False
        # Whichever comes next: the end of patience for a hello, a ping, or its pong.
        self._timer: asyncio.TimerHandle | None = None
        self._awaits_pong = False
        self._gone = False

    # What the transport tells.

    def opened(self, wire: Wire) -> None:
        """Admit the connection, or close it with the reason."""
        state, self._wire = self._state, wire
        state.counters.connections_opened += 1
        limit = state.settings.max_connections
        if state.draining:
            state.counters.connections_refused += 1
            self.dismiss(exai.CLOSE_GOING_AWAY, "the daemon is shutting down")
        elif len(state.connections) >= limit:
            state.counters.connections_refused += 1
            self.dismiss(exai.CLOSE_OVERLOADED, f"too many connections ({limit} of {limit})")
        else:
            state.admit(self)
            self._after(state.settings.hello_timeout_s, self._hello_overdue)

    def message(self, frame: bytes | str) -> None:
        """Answer a frame, or begin to."""
        received_ns = now_ns()
        if self._calls is None:
            self._hello(frame)
            return
        try:
            request = exai.decode_request(frame)
        except FrameError as error:
            self._complain(error, received_ns)
            return
        if type(request) is exai.CallTool:
            self._calls.take(request, received_ns)
        else:
            self._reply(request)

    # What counts is the JSON in it.
    binary = message

    def pong(self) -> None:
        """The peer lives: the next ping is due after the interval."""
        if self._awaits_pong:
            self._awaits_pong = False
            self._after(self._state.settings.ping_interval_s, self._ping)

    def writable(self) -> None:
        """The peer has taken what was held for it."""
        if self._paused:
            self._paused = False
            self._wire.resume_reading()

    def lost(self, cause: Cause) -> None:
        """Count the end. Calls under way go on."""
        self._gone = True
        if self._timer is not None:
            self._timer.cancel()
        counters = self._state.counters
        setattr(counters, _CLOSED_AS[cause], getattr(counters, _CLOSED_AS[cause]) + 1)
        self._state.part(self)
        if self._session:
            self._state.leave_session(self._session)

    # What the daemon asks.

    def cancel_calls(self) -> None:
        """End its running calls and say so."""
        if self._calls is not None:
            self._calls.cancel_all()

    def dismiss(self, code: int, reason: str) -> None:
        """Close it; a peer that does not answer the close frame is cut off."""
        if self._timer is not None:
            self._timer.cancel()
        self._wire.close(code, reason, within_s=CLOSE_WITHIN_S)

    # Hello.

    def _hello(self, frame: bytes | str) -> None:
        try:
            hello = exai.decode_request(frame)
        except FrameError as error:
            if error.kind == "json" or error.op == "hello":
                self._turn_away(exai.CLOSE_INVALID_HELLO, "invalid_hello")
            else:
                self._turn_away(exai.CLOSE_MISSING_HELLO, "missing_hello")
            return
        if not isinstance(hello, exai.Hello):
            self._turn_away(exai.CLOSE_MISSING_HELLO, "missing_hello")
        elif not self._knows(hello.token):
            self._turn_away(exai.CLOSE_UNAUTHORIZED, "unauthorized")
        else:
            self._welcome(hello.session_id)

    def _knows(self, token: str | None) -> bool:
        expected = self._state.settings.token
        # Compared in constant time, so that answers do not tell how much of it was right.
        return not expected or hmac.compare_digest((token or "").encode(), expected.encode())

    def _turn_away(self, code: int, error: str) -> None:
        self._state.counters.hellos_refused += 1
        self._send(exai.HelloAck(ok=False, error=error))
        self.dismiss(code, error.replace("_", " "))

    def _welcome(self, session_id: str | None) -> None:
        if session_id is None or not exai.usable_session_id(session_id):
            session_id = secrets.token_urlsafe(24)
        self._session = session_id
        self._state.enter_session(session_id)
        self._calls = Calls(self._state, session_id, self._send)
        self._send(exai.HelloAck(ok=True, session_id=session_id, promises=[], clock=clock_id()))
        self._after(self._state.settings.ping_interval_s, self._ping)

    def _hello_overdue(self) -> None:
        self._state.counters.hellos_refused += 1
        allowed = self._state.settings.hello_timeout_s
        self.dismiss(exai.CLOSE_HELLO_TIMEOUT, f"no hello within {allowed:g} s")

    # Requests.

    def _reply(self, request: exai.Request) -> None:
        match request:
            case exai.Ping(request_id):
                self._send(exai.Pong(request_id, wall_ns() / 1e9))
            case exai.Health(request_id):
                self._send(exai.HealthRes(request_id, ok=True, health=self._state.health()))
            case exai.ListTools(request_id):
                self._send(exai.ListToolsRes(request_id, self._state.tools.listing()))
            case exai.Cancel(request_id):
                self._cancel(request_id)
            case exai.Hello():
                message = "hello was said already; a connection has one"
                self._refuse_frame(None, "INVALID_REQUEST", message)

    def _cancel(self, request_id: str) -> None:
        assert self._calls is not None
        if self._calls.cancel(request_id):
            self._send(exai.Cancelled(request_id, ok=True))
        else:
            fault = exai.Fault("NOT_FOUND", "no call of this request_id is running here")
            self._send(exai.Cancelled(request_id, ok=False, error=fault))

    def _complain(self, error: FrameError, received_ns: int) -> None:
        if error.op == "call_tool":
            self._state.counters.frames_refused += 1
            fault = exai.Fault("VALIDATION_ERROR", error.message)
            self._send(
                exai.CallToolRes(
                    error.request_id,
                    ok=False,
                    error=fault,
                    received_ns=received_ns,
                    answered_ns=now_ns(),
                )
            )
        else:
            code = "INVALID_REQUEST" if error.kind == "op" else "VALIDATION_ERROR"
            self._refuse_frame(error.request_id, code, error.message)

    def _refuse_frame(self, request_id: str | None, code: str, message: str) -> None:
        self._state.counters.frames_refused += 1
        self._send(exai.Error(request_id, exai.Fault(code, message)))

    # Keepalive and back-pressure.

    def _ping(self) -> None:
        self._awaits_pong = True
        self._wire.ping()
        self._after(self._state.settings.ping_timeout_s, self._pong_overdue)

    def _pong_overdue(self) -> None:
        self._state.counters.pings_missed += 1
        log.warning("connection: no pong within %g s", self._state.settings.ping_timeout_s)
        self.dismiss(exai.CLOSE_PING_TIMEOUT, "keepalive ping timeout")

    def _after(self, delay_s: float, then: Any) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(delay_s, then)

    def _send(self, reply: Any) -> None:
        # A call may outlive its connection.
        if self._gone:
            return
        wire = self._wire
        wire.send(exai.encode(reply))
        if not self._paused and wire.buffered() > HIGH_WATER:
            self._paused = True
            wire.pause_reading()
