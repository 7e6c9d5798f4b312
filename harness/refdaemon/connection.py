"""
One connection: hello, then requests, until it is lost.

Called by a transport, calls it back; awaits nothing. A frame that makes no sense
is answered and the connection lives on, except for the first, which must be a hello.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from harness.clock import clock_id, now_ns
from harness.dialects import exai
from harness.dialects.exai import FrameError
from harness.refdaemon import requests
from harness.refdaemon.hello import NO_HELLO, TurnedAway, read_hello, session_for
from harness.refdaemon.resting import Resting
from harness.refdaemon.session import Session
from harness.refdaemon.state import State
from harness.refdaemon.transport.base import LARGE_BYTES, Cause, Wire
from harness.resilience.admission import Gate

__all__ = ["PROMISES", "Connection"]

log = logging.getLogger(__name__)

PROMISES: Final = ["keys", "resume"]
"""A key runs once in its session; a session outlives its connections. See docs/protocol.md."""


class Connection:
    """
    The handler of one connection; to `resilience.connections` the transport of its session.

    Args:
        state: The daemon's.
    """

    # There are thousands of them.
    __slots__ = (
        "_admitted",
        "_awaits_pong",
        "_came",
        "_closing",
        "_crowded",
        "_gate",
        "_gone",
        "_held",
        "_peer",
        "_replaced",
        "_resting",
        "_session",
        "_state",
        "_timer",
        "send",
        "send_all",
        "wire",
    )

    def __init__(self, state: State) -> None:
        self._state = state
        self._came = state.connections.came
        self._session: Session | None = None
        self._gate: Gate | None = None
        self._admitted = False
        self._crowded = False
        self._awaits_pong = False
        self._replaced = False
        self._closing = self._gone = False
        # Made where a large message comes: few ever send one.
        self._resting: Resting | None = None
        # Frames that one read brought after the peer had become crowded; few ever have any.
        self._held: deque[bytes | str] | None = None
        # What is waited for: a hello, or that a slow reader catches up.
        self._timer: asyncio.TimerHandle | None = None

    # What the transport tells.

    def opened(self, wire: Wire) -> None:
        """Admit the connection, or close it with the reason."""
        state, self.wire = self._state, wire
        # The transport of `resilience.connections`: its messages go straight to the wire.
        self.send, self.send_all = wire.send, wire.send_all
        self._peer = wire.address
        state.figures.counters.connections_opened += 1
        refused = None if state.draining else state.admission.connect(self._peer)
        if state.draining or refused is not None:
            state.figures.counters.connections_refused += 1
            if refused is None:
                self.dismiss(exai.CLOSE_GOING_AWAY, "the daemon is shutting down")
            else:
                state.figures.limits[refused.limit] += 1
                state.note("connection refused", {"peer": self._peer, "limit": refused.limit})
                self.dismiss(exai.CLOSE_OVERLOADED, f"too many connections: {refused}")
            return
        self._admitted = True
        state.admit(self)
        state.note("connection opened", {"peer": self._peer})
        if "endless-hello" not in state.defects:
            self._after(state.config.server.hello_timeout_s, self._hello_overdue)

    def messages(self, frames: Sequence[bytes | str]) -> None:
        """Answer frames, or begin to."""
        received_ns = now_ns()
        if self._session is None:
            self._hello(frames[0])
            frames = frames[1:]
            if self._session is None or not frames:
                return
        self._hear(len(frames), received_ns / 1e9)
        if self._crowded:
            self._hold(frames)
        else:
            self._take(frames, received_ns)

    def binary(self, frame: bytes) -> None:
        """Both kinds of message are JSON to us."""
        self.messages((frame,))

    def wants(self, size: int) -> bool:
        """Nobody has shown a token yet, and needs so many bytes to say who he is."""
        allowed = self._state.config.server.max_call_bytes
        return self._session is not None and size <= allowed

    def unwanted(self, head: bytes | str, size: int) -> None:
        """Refuse it by its beginning."""
        received_ns = now_ns()
        session, gate = self._session, self._gate
        if session is None or gate is None:
            self._turn_away(NO_HELLO)
            return
        now_s = received_ns / 1e9
        self._hear(1, now_s)
        gate.message(now_s)
        self._rest(size, now_s)
        requests.refuse_large(self._state, session, head, size, received_ns)

    def _hear(self, count: int, now_s: float) -> None:
        """So many messages came."""
        assert self._session is not None
        assert self._session.peer is not None
        self._came(self._session.peer, now_s, count)
        if self._awaits_pong:
            self._lives()

    def _hold(self, frames: Sequence[bytes | str]) -> None:
        """Keep them until the peer has taken what it was sent."""
        self._held = self._held or deque()
        self._held += frames

    def _take(self, frames: Sequence[bytes | str], received_ns: int) -> None:
        """Take what one read brought; what is known at once leaves with one write."""
        assert self._session is not None
        if len(frames) == 1:
            self._take_each(frames, received_ns, self._session)
            return
        self._session.gather()
        try:
            self._take_each(frames, received_ns, self._session)
        finally:
            self._session.release()

    def _take_each(self, frames: Sequence[bytes | str], received_ns: int, session: Session) -> None:
        state, gate, now_s = self._state, self._gate, received_ns / 1e9
        assert gate is not None
        let_in = gate.messages(len(frames), now_s)
        take = session.calls.take
        for number, frame in enumerate(frames):
            if self._crowded:
                self._hold(frames[number:])
                return
            limited = None if let_in else gate.message(now_s)
            size = len(frame)
            if size >= state.remarkable_bytes and self._is_too_large(frame, received_ns):
                continue
            try:
                request = exai.decode_request(frame)
            except FrameError as error:
                requests.meet(state, error)
                requests.complain(state, session, error, received_ns)
                continue
            if type(request) is exai.CallTool and limited is None:
                take(request, received_ns, size)
            elif limited is not None:
                requests.refuse_limited(state, session, request, limited, received_ns)
            else:
                requests.reply(state, session, request, received_ns)

    def _is_too_large(self, frame: bytes | str, received_ns: int) -> bool:
        """Rest after one that is large, and refuse it unread where it is above the limit."""
        size, state = len(frame), self._state
        if size >= LARGE_BYTES:
            self._rest(size, received_ns / 1e9)
        if size <= state.config.server.max_call_bytes:
            return False
        assert self._session is not None
        requests.refuse_large(state, self._session, frame, size, received_ns)
        return True

    def pong(self) -> None:
        """The peer lives."""
        state = self._state
        if "pong-ignored-while-busy" in state.defects and state.running:
            return
        if self._session is not None:
            state.connections.heard(self._session.name)
            self._lives()

    def _rest(self, size: int, now_s: float) -> None:
        """Read no more for a while, so that large messages of one do not hold up all."""
        rate = self._state.config.admission.large_bytes_per_s
        if rate is None or self._gone:
            return
        self._resting = self._resting or Resting(self._read_on)
        if self._resting.extend(size / rate, now_s):
            self.wire.pause_reading()

    def _read_on(self) -> None:
        """Unless something stands against it still."""
        rests = self._resting is not None and self._resting.is_on
        if not (rests or self._crowded or self._gone):
            self.wire.resume_reading()

    def crowded(self) -> None:
        """Its peer does not read: stop reading it, and after a while give it up."""
        if self._closing or self._gone or self._crowded:
            return
        if "unbounded-reader" in self._state.defects:
            return
        self._crowded = True
        self.wire.pause_reading()
        if self._session is not None:
            self._session.crowded(crowded=True)
        self._after(self._state.config.server.slow_reader_s, self.shed)

    def writable(self) -> None:
        """The peer has taken what was held for it: go on where it stopped."""
        if self._closing or not self._crowded:
            return
        self._crowded = False
        if self._timer is not None:
            self._timer.cancel()
        session = self._session
        if session is not None:
            session.crowded(crowded=False)
            # What waits leaves first; it may be too much again.
            self._state.connections.writable(session.name)
            self._state.pulse.check()
        if self._held:
            held, self._held = self._held, None
            self._take(tuple(held), now_ns())
        self._read_on()

    def closing(self) -> None:
        """What is answered from now on waits for the session's next connection."""
        self._closing = True
        if self._session is not None:
            self._state.connections.closing(self._session.name, self)

    def lost(self, cause: Cause) -> None:
        """Count the end. Calls under way go on."""
        state = self._state
        self._gone = True
        if self._timer is not None:
            self._timer.cancel()
        state.figures.ended(self.wire, cause)
        if not self._admitted:
            return
        if cause != "reset" or "kept-slot" not in state.defects:
            state.admission.disconnected(self._peer)
        state.part(self)
        session = self._session
        if session is not None:
            assert self._gate is not None
            self._gate.close()
            if session.line is self:
                session.line = None
                session.crowded(crowded=False)
                state.admission.left(session.name)
            state.connections.lost(session.name, self)
            state.pulse.check()
            if "forget-on-disconnect" in state.defects:
                state.forget(session.name)
        state.note("connection closed", {"peer": self._peer, "cause": cause})

    # What the daemon asks.

    @property
    def has_session(self) -> bool:
        """Whether it said hello, and was welcomed."""
        return self._session is not None

    def dismiss(self, code: int, reason: str) -> None:
        """Close it; a peer that does not answer the close frame is cut off."""
        if self._timer is not None:
            self._timer.cancel()
        within_s = self._state.config.server.close_timeout_s
        self.wire.close(code, reason, within_s=within_s)

    def replaced(self) -> None:
        """Its session comes by another connection; `abort` follows."""
        self._replaced = True

    def wait_for(self, task: asyncio.Task[None]) -> None:
        """Take nothing of the peer before that is done: the defect "serial-connection"."""
        self._crowded = True
        task.add_done_callback(lambda _: self.writable())

    # What the session's messages ask: the transport of `resilience.connections`.

    def ping(self) -> None:
        """Ask for a sign of life."""
        self._awaits_pong = True
        self.wire.ping()

    def close(self, code: int, reason: str, *, within_s: float) -> None:
        """Close behind what was sent."""
        self.wire.close(code, reason, within_s=within_s)

    def abort(self) -> None:
        """It is its session's no longer: another came in its place, or it is silent."""
        counters = self._state.figures.counters
        if self._replaced:
            counters.connections_replaced += 1
            self.dismiss(exai.CLOSE_REPLACED, "the session came by another connection")
        elif self._awaits_pong:
            counters.pings_missed += 1
            limit_s = self._state.config.connections.ping_timeout_s
            log.warning("connection: no pong within %g s", limit_s)
            self.dismiss(exai.CLOSE_PING_TIMEOUT, "keepalive ping timeout")
        else:
            self.wire.abort()

    def buffered(self) -> int:
        """Bytes that the peer has not taken yet; few are none, and cost no look."""
        return self.wire.buffered() if self._crowded else 0

    def shed(self) -> None:
        """Give up a peer that does not read; its session keeps what was meant for it."""
        if self._closing:
            return
        self._state.figures.counters.readers_shed += 1
        self._state.note("reader shed", {"peer": self._peer, "unread_bytes": self.wire.buffered()})
        self.dismiss(exai.CLOSE_OVERLOADED, "the peer does not read what it is sent")

    # Hello.

    def _hello(self, frame: bytes | str) -> None:
        hello = read_hello(self._state, frame)
        if isinstance(hello, TurnedAway):
            self._turn_away(hello)
        else:
            self._welcome(hello.session_id)

    def _turn_away(self, why: TurnedAway) -> None:
        self._state.figures.counters.hellos_refused += 1
        self._tell(exai.HelloAck(ok=False, error=why.error))
        self.dismiss(why.code, why.error.replace("_", " "))

    def _welcome(self, wanted: str | None) -> None:
        state = self._state
        found = session_for(state, wanted)
        if isinstance(found, TurnedAway):
            self._turn_away(found)
            return
        session, resumed = found
        name = session.name
        self._session = session
        self._gate = state.admission.gate(address=self._peer, session=name)
        # First: what was kept for the session leaves when it is attached.
        ack = exai.HelloAck(
            ok=True, session_id=name, resumed=resumed, promises=PROMISES, clock=clock_id()
        )
        self._tell(ack)
        if self._timer is not None:
            self._timer.cancel()
        # One before it may be crowded; what waits for room has this one's now.
        session.crowded(crowded=False)
        session.line = self
        state.connections.attach(name, self)
        session.peer = state.connections.peer(name)
        state.pulse.check()
        state.note("session resumed" if resumed else "session new", {"session": name})

    def _hello_overdue(self) -> None:
        self._state.figures.counters.hellos_refused += 1
        allowed = self._state.config.server.hello_timeout_s
        self.dismiss(exai.CLOSE_HELLO_TIMEOUT, f"no hello within {allowed:g} s")

    # All of it.

    def _lives(self) -> None:
        self._awaits_pong = False
        # The next ping may be due before the end of the time this answer had.
        self._state.pulse.check()

    def _after(self, delay_s: float, then: Any) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(delay_s, then)

    def _tell(self, reply: exai.HelloAck) -> None:
        """Say something before there is a session."""
        self.wire.send(exai.encode(reply))
