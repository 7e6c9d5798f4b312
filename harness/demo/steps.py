"""
The six steps. Each says what a sound daemon lets us see, does one harm, and holds
what the client saw against what the other side of the fault saw.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from statistics import median
from typing import Any, Final

from harness.clock import now, now_ns
from harness.demo.telling import Step, Verdict
from harness.demo.witness import Own, Tap, Witness, count, times
from harness.environment.base import Environment
from harness.environment.processes import Started
from harness.errors import CallError, CallUnknown, ConnectFailed, EnvironmentFailed
from harness.faults.armed_reset import ArmedReset
from harness.faults.down import Down
from harness.faults.kill import Kill
from harness.faults.latency import Latency
from harness.faults.reset_peer import ResetPeer
from harness.faults.timeout import Timeout
from harness.records import Effect
from harness.run.record import HistoryWriter

__all__ = ["STEPS", "Story"]

_LATENCY_MS: Final = 200
_HOLE_MS: Final = 500
_BACK_S: Final = 3.0
_SEEN_WITHIN_S: Final = 2.0
_POLL_S: Final = 0.01


class Story:
    """What the steps stand on, and questions they all ask."""

    def __init__(self, environment: Environment, history: HistoryWriter) -> None:
        self.env = environment
        tapped = environment.stack.server.witness != environment.control
        self.witness: Witness = Tap() if tapped else Own()
        self._history = history

    def begin(self, name: str) -> None:
        """A step begins; the history says so."""
        self._history.phase = name

    def executed(self, *keys: str) -> list[Effect]:
        """What the effect log says was executed under these keys."""
        return [effect for effect in self.env.effects() if effect.key in keys]

    async def health(self) -> dict[str, Any]:
        """The daemon's own report, asked past the proxy."""
        async with self.env.client(process="observer", direct=True) as observer:
            return await observer.health()

    async def resets_want_arming(self) -> bool:
        """Whether a connection must be made ready before it opens, to be reset later."""
        if isinstance(self.witness, Own):
            # Ours resets any. Whether it does is what the step is to show, so it is not asked.
            return False
        await self.env.stack.probe()
        return self.env.abilities["live_rst"] is not None

    async def counter(self, name: str, *, above: int) -> int:
        """A counter of the daemon, waited for until it is above that, at most 2 s."""
        deadline = now() + _SEEN_WITHIN_S
        while True:
            value = int((await self.health())["counters"][name])
            if value > above or now() >= deadline:
                return value
            await asyncio.sleep(_POLL_S)


async def baseline(story: Story) -> Step:
    """No fault: is the daemon well, and does our path lead through the proxy?"""
    keys = [f"baseline-{n}" for n in range(1, 21)]
    async with story.env.client() as client:
        took = [(await client.call("echo", {"text": key}, key=key)).elapsed_ms for key in keys]
    opened = count(await story.env.collect(), "opened")
    executed = story.executed(*keys)
    why = ""
    if not opened:
        why = "the proxy carried no connection: the client does not go through it"
    elif len(executed) != len(keys):
        why = f"the effect log shows {len(executed)} executions of {len(keys)} calls"
    return Step(
        name="baseline",
        expected="20 of 20 calls answered",
        measured=f"{len(took)} of 20, p50 {median(took):.2f} ms, longest {max(took):.2f} ms",
        sides=(
            (story.witness.who, f"carried {opened} connection"),
            ("daemon", f"executed {len(executed)}"),
        ),
        verdict="unknown" if why else "valid",
        why=why,
    )


async def latency(story: Story) -> Step:
    """Replies are late, requests are not."""
    async with story.env.client() as client:
        await story.env.collect()
        async with story.env.inject(Latency(stream="downstream", latency_ms=_LATENCY_MS)):
            replies, received_ns = [], []
            for n in range(1, 6):
                replies.append(await client.call("echo", {"text": str(n)}, key=f"latency-{n}"))
                received_ns.append(now_ns())
            events = await story.env.collect()
    seen = story.witness.delayed(events, received_ns, _LATENCY_MS)
    took = [reply.elapsed_ms for reply in replies]
    answered = [reply.answered_by_daemon_ms or 0.0 for reply in replies]
    # Of a daemon that does not say when it answered, nothing of this is known.
    lags = (ms - own_ms if own_ms > 0 else 0.0 for ms, own_ms in zip(took, answered, strict=True))
    under_way = min(lags)
    why = ""
    if min(took) < _LATENCY_MS:
        why = f"a call took {min(took):.1f} ms: the latency did not reach the client"
    elif seen.why:
        why = seen.why
    elif under_way < _LATENCY_MS:
        known = f"a reply was under way for {under_way:.1f} ms that we know of"
        why = f"{known}, so the delay may be the daemon's own"
    return Step(
        name=f"latency of {_LATENCY_MS} ms on replies",
        expected=f"every call takes at least {_LATENCY_MS} ms",
        measured=f"{min(took):.1f} to {max(took):.1f} ms over {len(took)} calls",
        sides=(
            (seen.who, seen.text),
            ("daemon", f"had answered each call {under_way:.1f} ms or more before its reply came"),
        ),
        verdict="unknown" if why else "valid",
        why=why,
    )


async def black_hole(story: Story) -> Step:
    """Replies are swallowed: the client cannot know, the effect log does."""
    key = "hole-1"
    async with story.env.client() as client:
        await story.env.collect()
        async with story.env.inject(Timeout(stream="downstream", timeout_ms=0)):
            measured, unknown = await _lost_call(
                client.call("counter", {"name": "hole"}, key=key, timeout_s=_HOLE_MS / 1000)
            )
            events = await story.env.collect()
    seen = story.witness.dropped(events)
    executed = story.executed(key)
    why: str = ""
    verdict: Verdict = "unknown"
    if unknown is None:
        why = "the call was answered: nothing was dropped on its way"
    elif unknown.kind != "time_limit":
        why = f"the call ended otherwise: {unknown.headline}"
    elif seen.why:
        why = seen.why
    elif not executed:
        why = "the daemon did not execute the call, so the silence may be its own"
    else:
        verdict, why = _once(executed)
    return Step(
        name="data dropped in a black hole, replies",
        expected=f"the call ends as unknown after {_HOLE_MS} ms",
        measured=measured,
        sides=(
            (seen.who, seen.text),
            ("daemon", f"executed {len(executed)}: it did happen"),
        ),
        verdict=verdict,
        why=why,
    )


async def link_down(story: Story) -> Step:
    """Connections are refused; the daemon never hears of them."""
    before = int((await story.health())["counters"]["connections_opened"])
    async with story.env.inject(Down()):
        started = now()
        try:
            async with story.env.client():
                measured, kind = "the connection was accepted", "accepted"
        except ConnectFailed as error:
            measured, kind = f"{error.kind} after {(now() - started) * 1000:.1f} ms", error.kind
        enabled = (await story.env.control.proxy(story.env.name)).enabled
        after = int((await story.health())["counters"]["connections_opened"])
        seen = story.witness.refused(await story.env.collect(), enabled=enabled)
    # The report itself came over one connection of its own.
    reached = after - before - 1
    why = ""
    if kind != "refused":
        why = f"the connection was not refused but {kind}"
    elif seen.why:
        why = seen.why
    elif reached:
        why = f"{reached} connections reached the daemon past the closed link"
    return Step(
        name="link down, connections refused",
        expected="a new connection is refused at once",
        measured=measured,
        sides=(
            (seen.who, seen.text),
            ("daemon", f"answered on its own address; {reached} connections reached it meanwhile"),
        ),
        verdict="unknown" if why else "valid",
        why=why,
    )


async def reset(story: Story) -> Step:
    """The connection breaks under the reply: unknown to the client, done once in truth."""
    key = "reset-1"
    resets = int((await story.health())["counters"]["closed_by_reset"])
    async with AsyncExitStack() as armed:
        if await story.resets_want_arming():
            await armed.enter_async_context(story.env.inject(ArmedReset()))
        client = await armed.enter_async_context(story.env.client())
        await story.env.collect()
        async with story.env.inject(ResetPeer(stream="downstream")):
            measured, unknown = await _lost_call(client.call("counter", {"name": "d"}, key=key))
            reset = await story.counter("closed_by_reset", above=resets) - resets
            seen = story.witness.reset(await story.env.collect())
        ended = client.ending
    executed = story.executed(key)
    why: str = ""
    verdict: Verdict = "unknown"
    if unknown is None:
        why = "the call was answered: the connection was not reset under it"
    elif ended.kind != "reset":
        why = f"no RST reached the client: {ended}"
    elif not reset:
        why = "no RST reached the daemon"
    elif seen.why:
        why = seen.why
    else:
        verdict, why = _once(executed)
    return Step(
        name="connection reset in the middle of work",
        expected="the client cannot know (unknown); the tool ran once",
        measured=measured,
        sides=(
            ("client", f"saw: {ended}"),
            (seen.who, seen.text),
            ("daemon", f"RST seen on {reset} connection; effect log: {key} {times(len(executed))}"),
        ),
        verdict=verdict,
        why=why,
    )


async def killed(story: Story) -> Step:
    """The daemon dies in the middle of a call and comes back; the client finds it again."""
    program, key = story.env.stack.site.program, "kill-1"
    old = _who(program)
    written = len(story.env.effects())
    async with story.env.client() as client:
        pending = asyncio.create_task(
            _lost_call(client.call("sleep", {"ms": 60_000}, key=key, timeout_s=10))
        )
        await _running(story, 1)
        async with story.env.inject(Kill()):
            measured, unknown = await pending
            how = program.state
            started = now()
            again = asyncio.create_task(_back(story, started))
        ready_s = now() - started
        recovered_s = await again
    effects = story.env.effects()
    back = [effect for effect in effects if effect.key == "back-1"]
    why: str = ""
    verdict: Verdict = "unknown"
    if "SIGKILL" not in how:
        why = f"the old process {how}, not by our signal"
    elif unknown is None:
        why = "the call was answered although the daemon was killed under it"
    elif recovered_s is None:
        verdict, why = "invalid", f"no call was answered within {_BACK_S:g} s of the restart"
    elif len(effects) < written + 1 or [effect.sequence for effect in back] != [1]:
        verdict, why = "invalid", "the effect log lost what it held, or the new effect"
    else:
        verdict = "valid"
    seen = "not recovered" if recovered_s is None else f"answered again after {recovered_s:.2f} s"
    return Step(
        name="daemon killed and restarted",
        expected=f"the call ends as unknown; the client is back within {_BACK_S:g} s",
        measured=measured,
        sides=(
            ("client", f"{seen}, counted from the start of the new process"),
            ("daemon", f"{old} {how}"),
            ("", f"{_who(program)} answered hello after {ready_s:.2f} s"),
            ("", f"effect log whole: {written} before, {len(effects)} now"),
        ),
        verdict=verdict,
        why=why,
    )


def _who(program: Started) -> str:
    return f"process {program.identity['pid']}" if "pid" in program.identity else "its container"


async def _lost_call(call: Awaitable[Any]) -> tuple[str, CallUnknown | None]:
    """Carry out a call that should not be answered: what was seen, and the error if unknown."""
    try:
        reply = await call
    except CallUnknown as error:
        return f"unknown ({error.kind.replace('_', ' ')}) after {error.elapsed_ms:.1f} ms", error
    except CallError as error:
        return f"failed ({error.kind}): {error.headline}", None
    return f"answered after {reply.elapsed_ms:.1f} ms", None


def _once(executed: Sequence[Effect]) -> tuple[Verdict, str]:
    """The fault bit; now the daemon is judged: one call, one effect."""
    if len(executed) == 1:
        return "valid", ""
    return "invalid", f"the effect log shows the call {len(executed)} times, expected once"


async def _running(story: Story, calls: int) -> None:
    """Wait until the daemon runs so many calls."""
    deadline = now() + _SEEN_WITHIN_S
    while (await story.health())["running_calls"] < calls:
        if now() >= deadline:
            raise EnvironmentFailed(f"the daemon does not run {calls} calls after 2 s")
        await asyncio.sleep(_POLL_S)


async def _back(story: Story, started: float) -> float | None:
    """Connect and call until one is answered: seconds since `started`, None if none is."""
    while now() - started < _BACK_S:
        try:
            async with story.env.client(process="returner") as client:
                await client.call("echo", {"text": "back"}, key="back-1")
            return now() - started
        except (ConnectFailed, CallError):
            await asyncio.sleep(_POLL_S)
    return None


STEPS: Final[tuple[tuple[str, Callable[[Story], Awaitable[Step]]], ...]] = (
    ("baseline", baseline),
    ("latency", latency),
    ("black hole", black_hole),
    ("link down", link_down),
    ("reset", reset),
    ("kill", killed),
)
