"""
Who saw a fault from its other side: our own proxy, which tells what it did, or, behind a
real Toxiproxy, which does not, the relay that stands as a tap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from harness.records import ProxyEvent

__all__ = ["Own", "Seen", "Tap", "Witness", "count", "times"]


@dataclass(frozen=True)
class Seen:
    """
    What a witness says.

    Attributes:
        who: The witness.
        text: What it saw.
        why: Why that proves nothing; "" where it does.
    """

    who: str
    text: str
    why: str = ""


def count(events: Sequence[ProxyEvent], kind: str) -> int:
    """How many there are of a kind."""
    return sum(event.kind == kind for event in events)


def _bytes(events: Sequence[ProxyEvent]) -> int:
    return sum(event.bytes or 0 for event in events)


def times(number: int) -> str:
    """A number of times, in words."""
    return {1: "once", 2: "twice"}.get(number, f"{number} times")


class Witness(Protocol):
    """Each question is about what happened while one fault was in place."""

    who: str

    def delayed(self, events: Sequence[ProxyEvent], received_ns: Sequence[int], ms: int) -> Seen:
        """Were the replies, received at these times, held back for so many milliseconds?"""

    def dropped(self, events: Sequence[ProxyEvent]) -> Seen:
        """Were replies swallowed?"""

    def refused(self, events: Sequence[ProxyEvent], *, enabled: bool) -> Seen:
        """Was the link down? `enabled`: what the server said of it meanwhile."""

    def reset(self, events: Sequence[ProxyEvent]) -> Seen:
        """Was a connection reset?"""


class Own:
    """Our own proxy."""

    who = "proxy"

    def delayed(self, events: Sequence[ProxyEvent], received_ns: Sequence[int], ms: int) -> Seen:
        """What it held."""
        held = [event for event in events if event.kind == "delayed"]
        why = "" if held else "the proxy delayed nothing, so the delay is not the fault's"
        return Seen(self.who, f"held {len(held)} chunks, {_bytes(held)} bytes", why)

    def dropped(self, events: Sequence[ProxyEvent]) -> Seen:
        """What it dropped."""
        dropped = _bytes([event for event in events if event.kind == "dropped"])
        why = "" if dropped else "the proxy dropped nothing, so the silence is not the fault's"
        return Seen(self.who, f"dropped {dropped} bytes of replies", why)

    def refused(self, events: Sequence[ProxyEvent], *, enabled: bool) -> Seen:
        """That it closed its listener."""
        closed = count(events, "disabled")
        why = ""
        if not closed:
            why = "the proxy did not close its listener, so the refusal is not the fault's"
        return Seen(self.who, f"closed its listener {times(closed)}, opened it again", why)

    def reset(self, events: Sequence[ProxyEvent]) -> Seen:
        """What it reset; the client's RST is proof enough."""
        fired = [event for event in events if event.kind == "reset"]
        return Seen(self.who, f"fired {times(len(fired))}, destroyed {_bytes(fired)} bytes")


class Tap:
    """The relay behind a real Toxiproxy. What it sees pass, Toxiproxy was given."""

    who = "tap"

    def delayed(self, events: Sequence[ProxyEvent], received_ns: Sequence[int], ms: int) -> Seen:
        """How long before the client had them the replies went into Toxiproxy."""
        passed = [event.time_ns for event in events if _is_reply(event)]
        if len(passed) != len(received_ns):
            found = f"saw {len(passed)} chunks for {len(received_ns)} replies"
            return Seen(self.who, found, f"the tap {found}")
        lags = [(got - at) / 1e6 for at, got in zip(passed, received_ns, strict=True)]
        text = f"replies passed {min(lags):.1f} to {max(lags):.1f} ms before the client had them"
        short = f"a reply reached the client {min(lags):.1f} ms after it passed the tap"
        return Seen(self.who, text, short if min(lags) < ms else "")

    def dropped(self, events: Sequence[ProxyEvent]) -> Seen:
        """What went into Toxiproxy and came out nowhere."""
        size = _bytes([event for event in events if _is_reply(event)])
        why = "" if size else "no reply passed the tap, so the silence may be the daemon's own"
        return Seen(self.who, f"{size} bytes of replies passed, none reached the client", why)

    def refused(self, events: Sequence[ProxyEvent], *, enabled: bool) -> Seen:
        """That nothing came out of Toxiproxy, which says that it is disabled."""
        opened = count(events, "opened")
        why = "Toxiproxy says that the proxy is enabled" if enabled else ""
        if opened:
            why = f"{opened} connections came through Toxiproxy"
        text = f"Toxiproxy said: disabled; {opened} connections came out of it"
        return Seen(self.who, text, why)

    def reset(self, events: Sequence[ProxyEvent]) -> Seen:
        """How Toxiproxy ended its connection to the daemon's side."""
        ends = [event.detail or "" for event in events if event.kind == "closed"]
        resets = [end for end in ends if end.startswith("client reset")]
        why = "" if resets else f"no RST came out of Toxiproxy: {'; '.join(ends) or 'no end'}"
        return Seen(self.who, f"an RST came out of Toxiproxy on {len(resets)} connection", why)


def _is_reply(event: ProxyEvent) -> bool:
    return event.kind == "passed" and event.stream == "downstream"
