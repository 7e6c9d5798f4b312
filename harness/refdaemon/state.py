"""What all connections and sessions of one daemon share."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Protocol

from harness.clock import now
from harness.refdaemon.configuring import Configuring
from harness.refdaemon.effects import EffectLog
from harness.refdaemon.events import Events
from harness.refdaemon.figures import Figures
from harness.refdaemon.pulse import Pulse
from harness.refdaemon.settings import Settings
from harness.refdaemon.tools import Tools
from harness.refdaemon.transport.base import LARGE_BYTES, Wire
from harness.resilience.admission import Admission
from harness.resilience.breaker import Breaker, Breakers, Transition
from harness.resilience.config import Config, Live
from harness.resilience.connections import Connections, ConnectionSettings, End, Message
from harness.resilience.idempotency import Idempotency
from harness.resilience.metrics import Metrics

if TYPE_CHECKING:
    from harness.refdaemon.chatting import Chatting
    from harness.refdaemon.session import Session

__all__ = ["Guest", "State"]

_DAY_S: Final = 86_400.0


class Guest(Protocol):
    """A connection, as the daemon's end sees it."""

    wire: Wire

    @property
    def has_session(self) -> bool:
        """Whether it said hello, and was welcomed."""

    def dismiss(self, code: int, reason: str) -> None:
        """Close it."""

    def shed(self) -> None:
        """Close it, since its peer does not read."""

    def buffered(self) -> int:
        """Bytes that its peer has not taken yet."""


class State:
    """
    One daemon's state.

    Args:
        settings: What it was started with.
        effects: Its effect log, open; the caller closes it.

    Attributes:
        config: The values that hold now.
        remarkable_bytes: What is shorter is neither large nor above a limit.
        sessions: By id, those without a connection too.
        guests: Connections that are served, before and after their hello.
        running: The tasks of tools, also of calls whose connection is gone.
        empty: Set while no connection is served.
        draining: Whether the daemon was asked to end.
        listening: Whether connections are accepted.
    """

    def __init__(self, settings: Settings, effects: EffectLog | None) -> None:
        self.settings = settings
        self.effects = effects
        self.defects = settings.defects
        self.live = Live(settings.loaded)
        config = self.config = self.live.config
        self.remarkable_bytes = _remarkable(config)
        self.events = Events()
        self.configuring = Configuring(self.live, self.note)
        self.metrics = Metrics(clock=now, settings=config.metrics)
        self.figures = Figures(worked=self.metrics.processing)
        self.admission = Admission(config.admission, clock=now)
        self.idempotency = Idempotency(config.idempotency, clock=now)
        observers = (self.metrics.breaker_changed, self._breaker_changed)
        # One for each session whose transport fails, and one for the provider.
        self.breakers = Breakers(clock=now, settings=config.breaker, observers=observers)
        self.provider_breaker = Breaker(
            "provider", clock=now, settings=config.breaker, observers=observers
        )
        self.connections = Connections(
            clock=now,
            settings=self._timing(config),
            breakers=self.breakers,
            metrics=self.metrics,
            on_end=self._reply_ended,
            on_forget=self.forget,
        )
        self.pulse = Pulse(self.connections)
        self._chatting = self._chat(config)
        ask = None if self._chatting is None else self._chatting.ask
        self.tools = Tools(ask, defects=self.defects)
        self.sessions: dict[str, Session] = {}
        self.guests: set[Guest] = set()
        self.running: set[asyncio.Task[None]] = set()
        self.empty = asyncio.Event()
        self.empty.set()
        self.draining = False
        self.listening = False
        self.started = now()
        self.live.watch(self._adopt)

    def note(self, kind: str, about: Mapping[str, Any]) -> None:
        """Something happened that whoever watches should learn."""
        self.events.note(kind, about)

    def admit(self, guest: Guest) -> None:
        """A connection is served from now on."""
        self.guests.add(guest)
        self.empty.clear()

    def part(self, guest: Guest) -> None:
        """A connection is gone."""
        self.guests.discard(guest)
        if not self.guests:
            self.empty.set()

    def open_breakers(self) -> int:
        """How many breakers are not closed."""
        kept = sum(1 for breaker in self.breakers if not breaker.is_closed)
        return kept + (not self.provider_breaker.is_closed)

    def wire_bytes(self) -> tuple[int, int]:
        """Bytes of all frames so far, of those who are here too: received, sent."""
        wires = [guest.wire for guest in self.guests]
        return (
            self.figures.received_bytes + sum(wire.received_bytes for wire in wires),
            self.figures.sent_bytes + sum(wire.sent_bytes for wire in wires),
        )

    def _chat(self, config: Config) -> Chatting | None:
        if not config.provider.url:
            return None
        from harness.refdaemon.chatting import Chatting

        return Chatting(
            config,
            breaker=self.provider_breaker,
            allow_remote=self.settings.allow_remote,
            refused=self.metrics.breaker_refused,
            defects=self.defects,
        )

    def _timing(self, config: Config) -> ConnectionSettings:
        """What connections go by."""
        settings = config.connections
        if "no-keepalive" in self.defects:
            settings = replace(settings, ping_interval_s=_DAY_S)
        if "impatient-ping" in self.defects:
            settings = replace(settings, ping_timeout_s=settings.ping_timeout_s / 20)
        return settings

    def _adopt(self, config: Config) -> None:
        """Go by other values from now on; whoever is in stays in."""
        self.config = config
        self.remarkable_bytes = _remarkable(config)
        self.admission.adopt(config.admission)
        self.connections.adopt(self._timing(config))
        self.idempotency.adopt(config.idempotency)
        self.breakers.adopt(config.breaker)
        self.provider_breaker.adopt(config.breaker)
        self.metrics.adopt(config.metrics)
        if self._chatting is not None:
            self._chatting.adopt(config)
        self.pulse.check()

    def _reply_ended(self, name: str, message: Message, how: End) -> None:
        if how in ("sent", "acknowledged"):
            return
        self.figures.counters.replies_left += 1
        session = self.sessions.get(name)
        if how == "dropped" and session is not None and session.line is not None:
            # It would wait for that answer for ever; come back, it gets it by its key.
            session.line.shed()

    def forget(self, name: str) -> None:
        """A session is remembered no longer."""
        if "sessions-kept" in self.defects:
            return
        session = self.sessions.pop(name, None)
        if session is not None:
            session.forgotten = True
            session.calls.keys.close()
            self.note("session expired", {"session": name})

    def _breaker_changed(self, event: Transition) -> None:
        about = {"breaker": event.name, "before": event.before, "after": event.after}
        self.note("breaker changed", about | {"why": event.why})


def _remarkable(config: Config) -> int:
    return min(LARGE_BYTES, config.server.max_call_bytes + 1)
