"""
Sessions that outlive their connections, and what is sent to them.

No socket and no clock here. Whoever has them says what happened (`attach`, `lost`,
`message_came`, `heard`, `acknowledged`, `writable`), and calls `advance` when `next_due_s` has
passed; transports do what they are told at once.

Rules:
- A critical message is kept, or its end has been told (`End`), once. None vanishes.
- What is sent to one session leaves in the order of `send`.
- A session is known by its id and by nothing of its connection.
- Of silence nobody concludes anything but by what was received.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Literal

from harness.errors import BreakerOpen
from harness.resilience.breaker import Breakers
from harness.resilience.connections.agenda import Agenda
from harness.resilience.connections.ends import Ends
from harness.resilience.connections.leaving import Leaving
from harness.resilience.connections.peer import Peer, due
from harness.resilience.connections.sending import LEAVING, SENT, Sending
from harness.resilience.connections.values import (
    GOING_AWAY,
    ConnectionSettings,
    Delivery,
    End,
    Farewell,
    Message,
    Transport,
)
from harness.resilience.metrics import Metrics

__all__ = ["Connections"]


class Connections:
    """
    The sessions of one daemon.

    One thread, or one event loop, calls all of it. Calls from within a transport's methods or
    from `on_end` are allowed.

    Args:
        clock: Seconds that only go forward.
        settings: Its bounds and times.
        breakers: One for each session: a peer whose transports fail is left alone for a while.
        metrics: Where everything is counted.
        on_end: Told of each critical message that ended: session, message, how. What it raises
            is logged.
        on_forget: Told of each session that is remembered no longer. It must not raise.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        settings: ConnectionSettings,
        breakers: Breakers,
        metrics: Metrics,
        on_end: Callable[[str, Message, End], None] | None = None,
        on_forget: Callable[[str], None] | None = None,
    ) -> None:
        self._clock = clock
        self._settings = settings
        # What nothing stands against need not be kept; `keep` stays what it was.
        self._passes_on = settings.keep == "until_sent"
        self._breakers = breakers
        self._metrics = metrics
        self._ends = Ends(metrics, on_end)
        self._on_forget = on_forget
        self._sending = Sending(
            clock=clock,
            settings=settings,
            metrics=metrics,
            broke=self._broke,
            ended=self._ends.came,
        )
        self._peers: dict[str, Peer] = {}
        # Those without a connection, the longest gone first.
        self._gone: OrderedDict[str, None] = OrderedDict()
        self._agenda = Agenda()
        self._advanced_s = clock()
        self._waiting = 0
        self._leaving: Leaving | None = None
        self._farewell: Farewell | None = None

    def __len__(self) -> int:
        return len(self._peers)

    def __contains__(self, session: object) -> bool:
        return session in self._peers

    @property
    def connected(self) -> int:
        """How many sessions have a connection."""
        return len(self._peers) - len(self._gone)

    @property
    def waiting(self) -> int:
        """How many critical messages wait for a connection, of all sessions."""
        return self._waiting

    def kept(self, session: str) -> int:
        """How many critical messages of a session have not ended yet; 0 of one not known."""
        peer = self._peers.get(session)
        return 0 if peer is None else len(peer.outbox)

    def kept_bytes(self, session: str) -> int:
        """How many bytes these have."""
        peer = self._peers.get(session)
        return 0 if peer is None else peer.outbox.bytes

    def peer(self, session: str) -> Peer:
        """The handle of a session that is known, for `came` and `send_now`."""
        return self._peers[session]

    def adopt(self, settings: ConnectionSettings) -> None:
        """Go by other settings from now on; `keep` stays what it was."""
        self._settings = settings
        self._sending.adopt(settings)
        now_s = self._clock()
        for peer in self._peers.values():
            self._schedule(peer, now_s)

    # ---- what happens

    def attach(self, session: str, transport: Transport) -> Literal["new", "resumed", "refused"]:
        """
        A session has a connection; what was kept for it is sent.

        One it had before is aborted: the newest is the session's, the other may be half-open.

        Returns:
            "refused" where all places are taken by sessions with a connection, or we shut down.
            The transport is then nobody's.
        """
        now_s = self._clock()
        peer = self._peers.get(session)
        resumed = peer is not None
        if self._leaving is not None:
            return "refused"
        if peer is None:
            if len(self._peers) >= self._settings.max_sessions and not self._make_room():
                return "refused"
            peer = self._peers[session] = Peer(
                session,
                breaker=self._breakers.of(session),
                figures=self._metrics.client(session),
            )
        elif peer.transport is transport:
            return "resumed"
        elif peer.transport is not None:
            self._broke(peer, peer.transport)
        self._gone.pop(session, None)
        peer.transport = transport
        peer.connection += 1
        peer.heard_s = peer.asked_s = now_s
        peer.pinged_s, peer.closing = None, False
        peer.figures.opened()
        self._sending.flush(peer, now_s)
        self._settle(peer, now_s)
        return "resumed" if resumed else "new"

    def lost(self, session: str, transport: Transport) -> None:
        """That connection is gone. Of one that was replaced this means nothing any more."""
        peer = self._peers.get(session)
        if peer is not None and peer.transport is transport:
            now_s = self._clock()
            self._detach(peer, now_s)
            self._settle(peer, now_s)

    def closing(self, session: str, transport: Transport) -> None:
        """That connection is closing: what is sent from now on is kept, or refused."""
        peer = self._peers.get(session)
        if peer is not None and peer.transport is transport:
            peer.closing = True

    def heard(self, session: str) -> None:
        """Something came from the peer: a pong, a part of a message."""
        peer = self._peers.get(session)
        if peer is not None:
            self._hear(peer, self._clock())

    def message_came(self, session: str) -> None:
        """A whole message came from the peer."""
        peer = self._peers.get(session)
        if peer is not None:
            now_s = peer.asked_s = self._clock()
            self._hear(peer, now_s)
            peer.figures.received()

    def came(self, peer: Peer, now_s: float, count: int = 1) -> None:
        """As `message_came`, so often, for those who have the handle and know what time it is."""
        peer.asked_s = peer.heard_s = now_s
        if peer.pinged_s is not None:
            self._hear(peer, now_s)
        peer.figures.received(count)

    def _hear(self, peer: Peer, now_s: float) -> None:
        peer.heard_s = now_s
        if peer.pinged_s is not None:
            peer.pinged_s = None
            # The next ping may be due before the end of the time this answer had.
            self._schedule(peer, now_s)

    def acknowledged(self, session: str, name: str) -> None:
        """The peer has the message of that name, whichever connection says so."""
        peer = self._peers.get(session)
        if peer is None:
            return
        self._sending.acknowledged(peer, name)
        self._after(peer)

    def writable(self, session: str) -> None:
        """The peer's transport has room again."""
        peer = self._peers.get(session)
        if peer is not None:
            now_s = self._clock()
            self._sending.flush(peer, now_s)
            self._settle(peer, now_s)

    # ---- sending

    def send(self, session: str, message: Message) -> Delivery:
        """
        Send a message, or keep it where it is critical and cannot be sent now.

        Raises:
            InvalidValue: If it is critical, has no id, and is to be kept until acknowledged.
        """
        peer = self._peers.get(session)
        if peer is None:
            return Delivery(outcome="refused", why=f"no session {session} is known")
        if self._leaving is not None:
            peer.figures.failed()
            return LEAVING
        delivery = self._sending.send(peer, message)
        if delivery is not SENT or self._expires_next(peer):
            self._settle(peer, self._clock())
        elif message.critical or peer.counted:
            self._after(peer)
        return delivery

    def send_now(self, peer: Peer, messages: Sequence[bytes], *, since_ns: Sequence[int]) -> bool:
        """
        Send messages without names, if nothing stands against their leaving at once.

        What `send` does of critical ones then, where messages are kept until they are sent; their
        end, "sent", is not told.

        Args:
            since_ns: When somebody wanted each of them sent, in nanoseconds of the clock.

        Returns:
            Whether a transport took them. Where not, they are for `send`.
        """
        transport = peer.transport
        if (
            transport is None
            or peer.closing
            or peer.flushing
            or peer.counted
            or not self._passes_on
            or transport.buffered() > self._settings.high_water_bytes
        ):
            return False
        try:
            if len(messages) == 1:
                peer.breaker.call(transport.send, messages[0])
            else:
                peer.breaker.call(transport.send_all, messages)
        except BreakerOpen:
            # `send` counts it, and keeps the messages.
            return False
        # Whatever it was: as where any transport fails.
        except Exception:  # noqa: BLE001
            if peer.transport is transport:
                self._broke(peer, transport)
            return False
        now_ns, sent = int(self._clock() * 1e9), peer.figures.sent
        for each_ns in since_ns:
            sent(now_ns - each_ns)
        return True

    def _expires_next(self, peer: Peer) -> bool:
        """Whether a message is the next thing that time will end here, and nobody knows yet."""
        oldest = peer.outbox.oldest()
        if oldest is None or peer.due_s is None:
            return oldest is not None
        return oldest.since_s + self._settings.message_ttl_s < peer.due_s

    # ---- time

    @property
    def next_due_s(self) -> float | None:
        """When `advance` is to be called next, on the clock; None while nothing is to come."""
        if self._farewell is not None:
            return None
        if self._leaving is None:
            return self._agenda.next_s
        end_s = self._leaving.next_s(self._advanced_s)
        return end_s if self._agenda.next_s is None else min(end_s, self._agenda.next_s)

    def advance(self) -> None:
        """
        Do what time has brought about: ping, expire, give up the silent, forget the gone.

        A call that comes late by half the time a pong may take shows that we were held up: the
        silence may be ours, so those who seem silent are asked once more.
        """
        now_s = self._clock()
        if now_s < self._advanced_s:
            self._go_back(now_s)
        self._advanced_s = now_s
        for peer, due_s in self._agenda.pop(self._peers, now_s):
            held_up = now_s - due_s >= self._settings.ping_timeout_s / 2
            self._attend(peer, now_s, held_up=held_up)
        self._go_on_leaving(now_s)
        self._ends.tell()

    def _attend(self, peer: Peer, now_s: float, *, held_up: bool) -> None:
        settings = self._settings
        if peer.transport is None:
            if now_s >= peer.gone_s + settings.session_ttl_s:
                self._forget(peer)
                return
        else:
            self._look_after(peer, peer.transport, now_s, held_up=held_up)
        self._sending.flush(peer, now_s)
        self._settle(peer, now_s)

    def _look_after(self, peer: Peer, transport: Transport, now_s: float, *, held_up: bool) -> None:
        # The same sums as in `due`: by a difference, rounding could leave undone what is due.
        settings = self._settings
        if peer.pinged_s is not None and now_s >= peer.pinged_s + settings.ping_timeout_s:
            if not held_up:
                peer.figures.timed_out()
                self._broke(peer, transport)
                return
            peer.pinged_s = None
        if peer.pinged_s is None and now_s >= peer.heard_s + settings.ping_interval_s:
            peer.pinged_s = now_s
            self._ask(peer, transport, transport.ping)
        idle_s = settings.idle_s
        if idle_s is not None and now_s >= peer.asked_s + idle_s and not peer.closing:
            peer.figures.timed_out()
            self._close(peer, transport, f"idle for {idle_s:g} s", settings.ping_timeout_s)

    def _schedule(self, peer: Peer, now_s: float) -> None:
        """See to it that the peer is attended to when time next changes something about it."""
        self._agenda.note(peer, due(peer, self._settings, now_s))

    def _go_back(self, now_s: float) -> None:
        """The clock went back: nothing may wait for longer than it was to."""
        self._agenda.clear()
        if self._leaving is not None:
            self._leaving.go_back(now_s)
        for peer in self._peers.values():
            peer.go_back(now_s)
            self._schedule(peer, now_s)

    # ---- the end

    def shut_down(self, *, within_s: float | None = None) -> None:
        """
        Take no more, send what is kept, close every connection with 1001.

        It goes on with `advance` and what is told of acknowledgements, room and losses, until
        `farewell` has something to say.

        Args:
            within_s: Seconds until all is over, whatever peers do; None: as the settings say.
        """
        if self._leaving is not None:
            return
        now_s = self._clock()
        within_s = self._settings.shutdown_s if within_s is None else within_s
        self._leaving = Leaving(now_s, within_s=within_s)
        self._passes_on = False
        for peer in list(self._peers.values()):
            self._sending.flush(peer, now_s)
            self._settle(peer, now_s)
        self._go_on_leaving(now_s)
        self._ends.tell()

    @property
    def farewell(self) -> Farewell | None:
        """What the shutdown came to; None until it is over."""
        return self._farewell

    def _go_on_leaving(self, now_s: float) -> None:
        if self._leaving is None or self._farewell is not None:
            return
        for peer in list(self._peers.values()):
            self._leave(self._leaving, peer, now_s)
        if self.connected == 0:
            left = {name: len(peer.outbox) for name, peer in self._peers.items() if peer.outbox}
            sessions = len(self._peers)
            for peer in list(self._peers.values()):
                self._forget(peer)
            self._farewell = Farewell(sessions=sessions, closed=self._leaving.closed, left=left)

    def _leave(self, leaving: Leaving, peer: Peer, now_s: float) -> None:
        """Close a session's connection, if all was sent or it is time."""
        transport = peer.transport
        due = leaving.due(peer, now_s)
        if transport is None or due is None:
            return
        if due == "abort":
            self._broke(peer, transport)
        else:
            leaving.closed += 1
            self._close(peer, transport, "going away", leaving.left_s(now_s))

    # ---- what all of it needs

    def _detach(self, peer: Peer, now_s: float) -> None:
        """It has no connection any more; what was under way waits."""
        peer.transport = None
        peer.pinged_s, peer.closing = None, False
        peer.gone_s = now_s
        peer.outbox.connection_lost()
        peer.figures.closed()
        self._gone[peer.name] = None

    def _close(self, peer: Peer, transport: Transport, reason: str, within_s: float) -> None:
        peer.closing = True
        self._ask(peer, transport, lambda: transport.close(GOING_AWAY, reason, within_s=within_s))

    def _ask(self, peer: Peer, transport: Transport, act: Callable[[], None]) -> None:
        """Have a transport do something. One that cannot is no connection any more."""
        try:
            act()
        # Whatever it was: the other sessions have to be attended to, too.
        except Exception:  # noqa: BLE001
            if peer.transport is transport:
                self._broke(peer, transport)

    def _broke(self, peer: Peer, transport: Transport) -> None:
        self._detach(peer, self._clock())
        transport.abort()

    def _make_room(self) -> bool:
        """Forget the session that has been without a connection for longest, if there is one."""
        for name in self._gone:
            self._forget(self._peers[name])
            return True
        return False

    def _forget(self, peer: Peer) -> None:
        while peer.outbox:
            self._ends.came(peer, peer.outbox.pop_oldest().message, "left")
        self._count(peer)
        del self._peers[peer.name]
        self._gone.pop(peer.name, None)
        self._breakers.forget(peer.name)
        self._metrics.breaker_forgotten(peer.name)
        if self._on_forget is not None:
            self._on_forget(peer.name)

    def _settle(self, peer: Peer, now_s: float) -> None:
        """After anything that time may have to do with, sooner than before."""
        if peer.name in self._peers:
            self._schedule(peer, now_s)
        self._after(peer)

    def _after(self, peer: Peer) -> None:
        """After anything that may have changed what waits."""
        self._count(peer)
        if self._leaving is not None:
            now_s = self._clock()
            self._leave(self._leaving, peer, now_s)
            if self.connected == 0:
                self._go_on_leaving(now_s)
        self._ends.tell()

    def _count(self, peer: Peer) -> None:
        waiting = peer.outbox.waiting
        if waiting != peer.counted:
            self._waiting += waiting - peer.counted
            peer.counted = waiting
            self._metrics.queue_sized(self._waiting)
