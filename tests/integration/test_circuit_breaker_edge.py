"""
A client's own breaker before its daemon: opened by what happens on the wire and to the daemon,
closed when that is over. Refused connections are in test_resilient.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest

from harness.client.resilient import ResilientSession
from harness.client.session import Session
from harness.clock import now
from harness.environment.base import Environment
from harness.environment.dialling import session_with
from harness.errors import CallError, CallFailed
from harness.faults.base import Fault
from harness.faults.kill import Kill
from harness.faults.latency import Latency
from harness.faults.pause import Pause
from harness.faults.reset_peer import ResetPeer
from harness.faults.timeout import Timeout
from harness.resilience.backoff import RetrySettings
from harness.resilience.breaker import Breaker, BreakerSettings, Transition
from tests.integration.asked import on_each_backend, told_on
from tests.integration.proxy_process import eventually
from tests.integration.standing import Stand
from tests.integration.tripping import BOUND_S, FAILURES, OPEN_S, WAY_BACK

pytestmark = [on_each_backend, pytest.mark.timeout(120)]

CALL_S = 0.5
OPENING_S = 2.0
ONCE = RetrySettings(attempts=1, base_s=0.001, cap_s=0.01, proof_s=0)
SETTINGS = BreakerSettings(failures=FAILURES, open_s=OPEN_S, probes=1, successes=2)


@dataclass(frozen=True, kw_only=True)
class Harm:
    """
    One way in which a daemon fails its client.

    Attributes:
        fault: What is put on.
        first: What may become of the first call, on the connection that was there.
        others: What becomes of those after it.
        ran: How many calls the daemon carried out all the same.
    """

    fault: Fault
    first: tuple[str, ...]
    others: str
    ran: int = 0


_LOST = ("connection_lost",)
_LATE = ("time_limit",)

HARMS = {
    "reset on the way there": Harm(
        fault=ResetPeer(stream="upstream"), first=_LOST, others="not_connected"
    ),
    "reset on the way back": Harm(fault=ResetPeer(), first=_LOST, others="not_connected", ran=1),
    "dropped on the way there": Harm(
        fault=Timeout(stream="upstream"), first=_LATE, others="not_connected"
    ),
    "dropped on the way back": Harm(fault=Timeout(), first=_LATE, others="not_connected", ran=1),
    # Its WebSocket answers, if late: the connection is kept, and each call is waited for.
    "slow": Harm(fault=Latency(latency_ms=650), first=_LATE, others="time_limit", ran=FAILURES),
    # It may not know yet that its connection is gone.
    "killed": Harm(fault=Kill(), first=("not_connected", *_LOST), others="not_connected"),
    "frozen": Harm(fault=Pause(), first=_LATE, others="not_connected", ran=1),
}


def opener(here: Environment) -> Any:
    """Makes the client's sessions, through the proxy."""

    def open_session(session_id: str | None) -> Session:
        return session_with(
            here.stack.daemon,
            here.stack.site.address,
            process="client",
            via=here.address,
            session_id=session_id,
            call_timeout_s=CALL_S,
            open_timeout_s=OPENING_S,
        )

    return open_session


async def end_of(client: ResilientSession, key: str) -> str:
    """What becomes of a call: "ok", or the kind of its error."""
    try:
        await client.call("counter", {"name": "orders"}, key=key)
    except CallError as error:
        return error.kind
    return "ok"


async def refused(client: ResilientSession) -> None:
    with pytest.raises(CallFailed) as caught:
        await client.call("counter", {"name": "orders"}, key="never")
    assert caught.value.kind == "breaker_open"


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
async def test_it_opens_by_so_many_failures_and_closes_when_they_are_over(
    stand: Stand, harm: Harm
) -> None:
    """
    Exactly `failures` calls end badly; then nobody connects and nothing is sent, however many call.
    """
    seen: list[Transition] = []
    breaker = Breaker("daemon", clock=now, settings=SETTINGS, observers=(seen.append,))
    async with stand() as daemon:
        here = daemon.here
        async with ResilientSession(opener(here), breaker=breaker, retry=ONCE) as client:
            assert await end_of(client, "before") == "ok"
            async with here.inject(harm.fault):
                ends = []
                for n in range(FAILURES):
                    last_s = now()
                    ends.append(await end_of(client, f"bad-{n}"))
                connections = len(await told_on(here, "edge", "opened"))
                began_s = now()
                await asyncio.gather(*(refused(client) for _ in range(20)))
                took_s = now() - began_s
                more = len(await told_on(here, "edge", "opened")) - connections
            healed_s = now()
            tries = iter(range(10**6))
            await eventually(lambda: end_of(client, f"try-{next(tries)}"), "ok".__eq__)
            passed_s = now()
            for n in range(2):
                assert await end_of(client, f"after-{n}") == "ok"
        ran = Counter(effect.key for effect in daemon.effects())

    assert ends[0] in harm.first
    assert ends[1:] == [harm.others] * (FAILURES - 1)
    assert sum(ran[f"bad-{n}"] for n in range(FAILURES)) == harm.ran
    assert (more, ran["never"]) == (0, 0)
    assert took_s < BOUND_S
    assert passed_s - last_s >= OPEN_S
    assert passed_s <= max(healed_s, last_s + OPEN_S) + BOUND_S
    assert [(each.before, each.after) for each in seen] == WAY_BACK
    assert set(ran.values()) == {1}
