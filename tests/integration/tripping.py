"""The breaker before a daemon's provider: how it is opened, looked at, and closed, from outside."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from harness.clock import now
from harness.faults.base import Fault
from harness.faults.down import Down
from harness.faults.kill import Kill
from harness.faults.latency import Latency
from harness.faults.reset_peer import ResetPeer
from harness.faults.timeout import Timeout
from tests.integration.metered import Client, soon
from tests.integration.proxy_process import eventually
from tests.integration.scraped import Page
from tests.integration.standing import Standing

__all__ = [
    "BOUND_S",
    "FAILURES",
    "HARMS",
    "OPEN_S",
    "PROBES",
    "VALUES",
    "WAY_BACK",
    "Harm",
    "asks",
    "assert_told",
    "chat",
    "closes",
    "end_of",
    "first_of",
    "half_open",
    "key_of",
    "opened",
    "passes",
    "refusal_of",
]

FAILURES: Final = 3
PROBES: Final = 2
OPEN_S: Final = 1.5
BOUND_S: Final = 8.0
"""What a busy machine may add to a time that is configured."""

WAY_BACK: Final = [("closed", "open"), ("open", "half_open"), ("half_open", "closed")]
"""The states of a breaker that opens once and closes at the first try."""

VALUES: Final[Mapping[str, Any]] = {
    "breaker.failures": FAILURES,
    "breaker.open_s": OPEN_S,
    "breaker.successes": 2,
    "breaker.probes": PROBES,
    "retry.attempts": 1,
    "provider.attempt_timeout_s": 60,
}
"""A daemon that asks once, waits long, and soon believes that its provider is not well."""

_IMPATIENT: Final[Mapping[str, Any]] = {"provider.attempt_timeout_s": 1}

_SLOW_MS: Final = 500
_WINDOW: Final[Mapping[str, Any]] = {
    "breaker.policy": "count_window",
    "breaker.window_calls": 10,
    "breaker.minimum_calls": FAILURES,
    "breaker.slow_call_s": _SLOW_MS / 1000,
    "breaker.slow_call_rate": 1,
}


@dataclass(frozen=True, kw_only=True)
class Harm:
    """
    One way in which the provider fails those who ask it.

    Attributes:
        fault: What is put on the hop.
        ends: How each call ends under it.
        dialled: How many connections the proxy tells of, of `FAILURES` calls.
        executed: How many of these the provider carries out.
        values: More of the daemon's configuration.
    """

    fault: Fault
    ends: tuple[str, ...]
    dialled: int = FAILURES
    executed: int = 0
    values: Mapping[str, Any] = field(default_factory=dict)


_LOST: Final = ("PROVIDER_ERROR",)
_LATE: Final = ("TIMEOUT",)

HARMS: Final = {
    "refused": Harm(fault=Down(), ends=_LOST, dialled=0),
    # An address that is gone answers nothing; a port without a process does at once.
    "killed": Harm(fault=Kill(), ends=_LOST + _LATE, values=_IMPATIENT),
    "reset on the way there": Harm(fault=ResetPeer(stream="upstream"), ends=_LOST),
    "reset on the way back": Harm(fault=ResetPeer(), ends=_LOST, executed=FAILURES),
    "dropped on the way there": Harm(
        fault=Timeout(stream="upstream"), ends=_LATE, values=_IMPATIENT
    ),
    # The provider closes behind its answer, and that end passes.
    "dropped on the way back": Harm(fault=Timeout(), ends=_LOST, executed=FAILURES),
    "too late": Harm(
        fault=Latency(latency_ms=4_000), ends=_LATE, executed=FAILURES, values=_IMPATIENT
    ),
    "slow": Harm(
        fault=Latency(latency_ms=_SLOW_MS), ends=("executed",), executed=FAILURES, values=_WINDOW
    ),
}
"""Every way."""


def end_of(answer: Mapping[str, Any]) -> str:
    """How a call ended: "executed", or its error's code."""
    return "executed" if answer["ok"] else str(answer["error"]["code"])


def refusal_of(answer: Mapping[str, Any]) -> float | None:
    """When a call that the breaker refused may come again, in seconds; it certainly never ran."""
    assert end_of(answer) == "SERVICE_UNAVAILABLE", answer
    details = answer["error"]["details"]
    assert details["may_have_run"] is False
    after_s: float | None = details["retry_after_s"]
    return after_s


def asks(client: Client, *, delay_ms: int = 0, **more: Any) -> asyncio.Future[dict[str, Any]]:
    """A question that leaves now, and what comes of it."""
    return client.begin("chat", {"prompt": "why?", "delay_ms": delay_ms}, **more)


async def first_of(ends: list[asyncio.Future[dict[str, Any]]], count: int) -> list[dict[str, Any]]:
    """So many answers, as they come."""
    comes = asyncio.as_completed(ends)
    return [await next(comes) for _ in range(count)]


async def chat(client: Client, **more: Any) -> dict[str, Any]:
    """A question, and its answer."""
    return await soon(asks(client, **more))


async def opened(daemon: Standing, client: Client) -> None:
    """Open the breaker by as many refused connections as it takes; then all is well again."""
    async with daemon.here.inject(Down(), hop="provider"):
        for _ in range(FAILURES):
            assert end_of(await chat(client)) == "PROVIDER_ERROR"
        refusal_of(await chat(client))


async def half_open(daemon: Standing) -> None:
    """Wait until probes would be let through; nobody asks the provider meanwhile."""
    await eventually(daemon.status, lambda it: it["breakers"]["provider"]["state"] == "half_open")


async def closes(client: Client, *, within_s: float = OPEN_S) -> list[str]:
    """
    See a caller who goes on asking get through in time, and the breaker close.

    Returns:
        The keys of its questions that went to the provider: one more than are probes.
    """
    began_s = now()
    passed = [await passes(client) for _ in range(int(VALUES["breaker.successes"]) + 1)]
    assert now() - began_s < within_s + BOUND_S
    return passed


async def passes(client: Client) -> str:
    """Ask until there is an answer; the key of that question."""
    answer = await eventually(lambda: chat(client), lambda answer: bool(answer["ok"]))
    return key_of(client, answer)


def key_of(client: Client, answer: Mapping[str, Any]) -> str:
    """What the provider knows a question by."""
    return f"{client.session}/{answer['request_id']}"


async def assert_told(daemon: Standing, *, refused: int) -> None:
    """What the daemon says, in all three places, of a breaker that opened once and is closed."""
    changes = await daemon.events("breaker changed")
    assert [(each["before"], each["after"]) for each in changes] == WAY_BACK
    assert {each["breaker"] for each in changes} == {"provider"}
    status = await daemon.status()
    breaker = status["breakers"]["provider"]
    assert (breaker["state"], breaker["opens"], breaker["refusals"]) == ("closed", 1, refused)
    assert status["open_breakers"] == 0
    page = Page.read((await daemon.ask("GET", "/metrics")).body.decode())
    assert page.by("breaker_transitions_total", "after") == {"open": 1, "half_open": 1, "closed": 1}
    assert page.by("breakers", "state") == {"closed": 1}
    assert page.value("breaker_refusals_total") == refused
