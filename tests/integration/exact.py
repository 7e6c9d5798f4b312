"""
A workload, counted by three who know nothing of one another, and what of it must be equal.

The clients count what they said and were told, the proxy next to the daemon connections and bytes,
and the daemon whatever its page of metrics has.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

import pytest

from tests.integration.metered import Line, Tally, put_away
from tests.integration.proxy_process import Http, eventually
from tests.integration.scraped import Page, bucket_of
from tests.integration.standing import Standing
from tests.integration.workload import Workload

__all__ = ["CHECKS", "Seen", "assert_exact", "scraped", "worked"]

SEED = 20_251_102
QUANTILES = (50, 90, 95, 99)
HISTOGRAMS = {"call_queue_wait_seconds": "waited_ns", "processing_seconds": "worked_ns"}


@dataclass(frozen=True)
class Carried:
    """One connection, as the proxy next to the daemon tells: bytes, and whether it was reset."""

    up: int
    down: int
    was_reset: bool


@dataclass(frozen=True)
class Seen:
    """
    What the three counted of one workload.

    Attributes:
        page: What the daemon's metrics grew by.
        carried: Every connection that the proxy passed on.
        effects: How many lines the effect log grew by.
        toxiproxy: What the real Toxiproxy passed on, up and down, where it tells that itself.
    """

    page: Page
    tally: Tally
    opened: int
    carried: list[Carried]
    effects: int
    toxiproxy: tuple[float, float] | None


async def scraped(daemon: Standing) -> Page:
    """The page, at a moment when nobody is connected and nothing runs."""

    async def page() -> Page:
        answer = await daemon.ask("GET", "/metrics")
        assert answer.status == 200, answer.body
        return Page.read(answer.body.decode())

    return await eventually(
        page, lambda it: (it.value("connections_open"), it.value("calls_running")) == (0, 0)
    )


async def carried(daemon: Standing, count: int) -> list[Carried]:
    """All connections, once so many have ended."""
    closed = await eventually(lambda: daemon.proxied("closed"), lambda found: len(found) >= count)
    # A relay of ours behind Toxiproxy passes a reset on; proxies make a FIN of their client's.
    resets = {"client reset"} if daemon.here.stack.server.tapped else set()
    found = []
    for event in closed:
        ending, _, rest = str(event.detail).partition("; ")
        sizes = re.fullmatch(
            r"(\d+) bytes(?: \((\d+) passed on\))? up, (\d+) bytes(?: \((\d+) passed on\))? down",
            rest,
        )
        assert sizes is not None, rest
        up, up_on, down, _ = sizes.groups()
        # What the daemon sent is what was read from it; what it got, what was passed on.
        was_reset = ending in resets or ending.startswith("toxic")
        found.append(Carried(int(up_on or up), int(down), was_reset))
    return found


async def worked(daemon: Standing, *, clients: int) -> Seen:
    """Carry the workload out, and ask all three."""
    before, effects = await scraped(daemon), len(daemon.effects())
    workload = Workload(daemon, seed=SEED, clients=clients)
    async with put_away(workload.tally):
        await workload.carry_out()
    opened = len(await daemon.proxied("opened"))
    return Seen(
        page=(await scraped(daemon)).since(before),
        tally=workload.tally,
        opened=opened,
        carried=await carried(daemon, opened),
        effects=len(daemon.effects()) - effects,
        toxiproxy=await _told_by_toxiproxy(daemon),
    )


async def _told_by_toxiproxy(daemon: Standing) -> tuple[float, float] | None:
    """Bytes that it sent to the daemon and received from it, where it was started to tell."""
    answer = Http(daemon.here.control.url).call("GET", "/metrics")
    page = Page.read(answer.body.decode()) if answer.status == 200 else Page({})
    up, down = (
        page.where(f"toxiproxy_proxy_{what}_bytes_total", proxy=daemon.here.name, direction=way)
        for what, way in (("sent", "upstream"), ("received", "downstream"))
    )
    return (sum(up), sum(down)) if up and down else None


def assert_calls(seen: Seen) -> None:
    """Every call, error, limit and frame is counted as the clients did."""
    page, tally = seen.page, seen.tally
    assert page.by("calls_total", "outcome") == tally.calls
    assert page.by("call_errors_total", "code") == tally.codes
    assert page.by("limits_met_total", "limit") == tally.limits
    assert page.value("frames_refused_total") == tally.refused_frames
    assert page.by("messages_total", "what").get("deduplicated", 0) == tally.replays
    assert page.by("messages_total", "what")["received"] == tally.said
    assert page.by("messages_total", "what")["sent"] == tally.heard
    assert seen.effects == tally.calls["executed"] + tally.calls["failed"]
    # Nothing of it is true for want of such calls.
    outcomes = {"executed", "failed", "refused", "cancelled", "timed_out", "replayed"}
    assert tally.calls.keys() == outcomes
    assert min(tally.calls.values()) >= 8


def assert_connections(seen: Seen) -> None:
    """Every connection is counted as the proxy did, and so is how it ended."""
    page, tally = seen.page, seen.tally
    assert page.value("upgrades_total") == seen.opened == len(seen.carried) == len(tally.lines)
    assert page.value("connections_total") == tally.connections
    assert page.value("reconnections_total") == tally.back
    assert page.by("connections_given_up_total", "why") == {"hello": tally.turned_away}
    resets = sum(each.was_reset for each in seen.carried)
    # Close frames go before a FIN, which is all that the proxy sees of them.
    orderly = sum(line.closed for line in tally.lines)
    expected = {"reset": resets, "closed": orderly, "eof": seen.opened - resets - orderly}
    assert page.by("connections_ended_total", "how") == expected
    assert min(expected.values()) >= 4


def assert_bytes(seen: Seen) -> None:
    """Frames as the daemon counts them, and the upgrades, are what the proxy passed on."""
    lines = seen.tally.lines
    frames = seen.page.by("wire_bytes_total", "direction")
    up = sum(each.up for each in seen.carried)
    down = sum(each.down for each in seen.carried)
    assert frames["received"] + sum(line.http_sent for line in lines) == up
    assert frames["sent"] + sum(line.http_received for line in lines) == down
    if seen.toxiproxy is not None:
        assert seen.toxiproxy == (up, down)
    # Line by line the same, but for what a reset destroyed on its way.
    whole = Counter((each.up, each.down) for each in seen.carried if not each.was_reset)
    counted = Counter(_sizes(line) for line in lines)
    assert not whole - counted
    assert whole.total() >= len(lines) / 2


def _sizes(line: Line) -> tuple[int, int]:
    return line.http_sent + line.sent, line.http_received + line.received


def assert_times(seen: Seen) -> None:
    """The histograms hold what the answers said, and so are their quantiles within a bucket."""
    for name, stamps in HISTOGRAMS.items():
        counts, values = seen.page.counts(name), getattr(seen.tally, stamps)
        ends = list(counts)
        assert seen.page.value(f"{name}_count") == len(values)
        assert seen.page.value(f"{name}_sum") == pytest.approx(sum(values) / 1e9, abs=1e-6)
        for percent in QUANTILES:
            exact = sorted(values)[_rank(percent, len(values)) - 1]
            found = quantile(counts, percent)
            near = ends.index(bucket_of(exact, ends)) - ends.index(bucket_of(found, ends))
            assert abs(near) <= 1, f"{name}: {percent} % is {exact}, the histogram says {found}"
        assert counts == {**dict.fromkeys(ends, 0), **Counter(bucket_of(v, ends) for v in values)}


def _rank(percent: int, count: int) -> int:
    return max(1, ceil(Fraction(percent * count, 100)))


def quantile(counts: dict[float, int], percent: int) -> float:
    """As Prometheus estimates it: in its bucket between the ends, by the rank."""
    rank = percent / 100 * sum(counts.values())
    low, so_far = 0.0, 0
    for end, count in counts.items():
        if so_far + count >= rank:
            return low + (end - low) * (rank - so_far) / count
        low, so_far = end, so_far + count
    return low


CHECKS = {
    "calls": assert_calls,
    "connections": assert_connections,
    "bytes": assert_bytes,
    "times": assert_times,
}
"""What must be equal, by name."""


def assert_exact(seen: Seen) -> None:
    """All of it."""
    for check in CHECKS.values():
        check(seen)
