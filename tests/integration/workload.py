"""
A known workload: clients that make calls of every outcome, drawn from a seed, and break off in
every manner between its rounds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from harness.clock import Draws
from harness.faults.latency import Latency
from harness.faults.reset_peer import ResetPeer
from tests.integration.metered import Client, Tally, outcome_of, soon
from tests.integration.proxy_process import eventually
from tests.integration.refdaemon_process import CONTINUATION, TEXT
from tests.integration.stacks import armed
from tests.integration.standing import Standing

__all__ = ["MOST_AT_ONCE", "MOST_BYTES", "OPTIONS", "Workload"]

MOST_BYTES: Final = 50_000
MOST_AT_ONCE: Final = 6
OPTIONS: Final = (
    *("--set", f"server.max_call_bytes={MOST_BYTES}"),
    *("--set", f"admission.max_inflight_per_session={MOST_AT_ONCE}"),
)
"""How a daemon has to be started for it."""

_LONG_MS: Final = 600_000
_ACTIONS: Final = 12


class Worker:
    """One client of it, and all it can do; each action leaves nothing under way."""

    def __init__(self, client: Client, draws: Draws, tally: Tally) -> None:
        self.client = client
        self._draws = draws
        self._tally = tally
        self._drawn = 0
        self._actions: list[Callable[[], Awaitable[None]]] = [
            self._echo,
            self._count,
            self._fail,
            self._sleep,
            self._blob,
            self._stream,
            self._unknown,
            self._wrong,
            self._large,
            self._burst,
            self._cancel,
            self._time_out,
            self._again,
            self._together,
            self._other,
            self._junk,
            self._look,
            self._pieces,
        ]

    def _draw(self, below: int) -> int:
        self._drawn += 1
        return int(self._draws.at(self._drawn) * below)

    async def work(self, actions: int) -> None:
        """Some of them, as drawn."""
        for _ in range(actions):
            await self._actions[self._draw(len(self._actions))]()

    async def everything(self) -> None:
        """All of them, once."""
        for action in self._actions:
            await action()

    async def end(self) -> None:
        """End the connection, as drawn."""
        ends = (self.client.close, self.client.leave, self.client.break_off)
        await ends[self._draw(len(ends))]()

    async def _expect(self, outcome: str, tool: str, arguments: Any, **more: Any) -> None:
        answer = await self.client.call(tool, arguments, **more)
        assert outcome_of(answer) == outcome, answer

    async def _echo(self) -> None:
        sizes = (0, 1, 100, 130, 3_000, 40_000)
        await self._expect("executed", "echo", {"text": "ü" * (sizes[self._draw(6)] // 6)})

    async def _count(self) -> None:
        await self._expect("executed", "counter", {"name": "n", "by": self._draw(9) - 4})

    async def _fail(self) -> None:
        await self._expect("failed", "fail", {"message": "as asked"})

    async def _sleep(self) -> None:
        await self._expect("executed", "sleep", {"ms": self._draw(25), "steps": 3})

    async def _blob(self) -> None:
        await self._expect("executed", "blob", {"size_bytes": self._draw(100_000)})

    async def _stream(self) -> None:
        await self._expect("executed", "stream", {"chunks": self._draw(9), "size_bytes": 200})

    async def _unknown(self) -> None:
        await self._expect("refused", "sing", {})

    async def _wrong(self) -> None:
        await self._expect("refused", "echo", {"text": self._draw(9)})

    async def _large(self) -> None:
        await self._expect("refused", "echo", {"text": "x" * MOST_BYTES})

    async def _burst(self) -> None:
        """More at once than may run; how many are refused is for the answers to say."""
        calls = [self.client.begin("sleep", {"ms": 30}) for _ in range(MOST_AT_ONCE + 2)]
        answers = [await soon(call) for call in calls]
        assert {outcome_of(answer) for answer in answers} <= {"executed", "refused"}

    async def _cancel(self) -> None:
        call = self.client.begin("sleep", {"ms": _LONG_MS})
        done = await self.client.ask({"op": "cancel", "request_id": self.client.last_id})
        none = await self.client.ask({"op": "cancel", "request_id": "nobody's"})
        assert (done["ok"], none["ok"]) == (True, False)
        assert outcome_of(await soon(call)) == "cancelled"

    async def _time_out(self) -> None:
        await self._expect("timed_out", "sleep", {"ms": _LONG_MS}, timeout_ms=1 + self._draw(20))

    async def _again(self) -> None:
        key = f"again-{self._drawn}"
        await self._expect("executed", "counter", {"name": "n", "by": 1}, key=key)
        await self._expect("replayed", "counter", {"name": "n", "by": 1}, key=key)

    async def _together(self) -> None:
        key = f"together-{self._drawn}"
        calls = [self.client.begin("sleep", {"ms": 20}, key=key) for _ in range(3)]
        answers = [outcome_of(await soon(call)) for call in calls]
        assert sorted(answers) == ["executed", "replayed", "replayed"]

    async def _other(self) -> None:
        key = f"other-{self._drawn}"
        await self._expect("executed", "echo", {"text": "this"}, key=key)
        await self._expect("refused", "echo", {"text": "that"}, key=key)

    async def _junk(self) -> None:
        frames = (b"junk", b'{"op": "sing"}', b'{"op": "call_tool", "name": 3}', b'{"op": "hello"}')
        for frame in frames:
            self._tally.refused_frames += 1
            assert "error" in await self.client.ask(frame)

    async def _look(self) -> None:
        for op in ("ping", "list_tools", "health"):
            answer = await self.client.ask({"op": op, "request_id": "look"})
            assert answer["request_id"] == "look"
        refused = await self.client.ask({"op": "reconfigure", "request_id": "x", "values": {}})
        assert refused["error"]["code"] == "UNAUTHORIZED"
        await self.client.ping()

    async def _pieces(self) -> None:
        """A message in two frames."""
        message = b'{"op": "ping", "request_id": "pieces"}'
        self.client.line.send(TEXT, message[:9], fin=False)
        self.client.line.send(CONTINUATION, message[9:])
        self._tally.said += 1
        answer = await soon(self.client.others.get())
        assert answer["request_id"] == "pieces"


class Workload:
    """
    All of it.

    Args:
        daemon: Before whom it is carried out.
        seed: What it is drawn from.
        clients: How many.
    """

    def __init__(self, daemon: Standing, *, seed: int, clients: int) -> None:
        self.tally = Tally()
        self._daemon = daemon
        self._workers = [
            Worker(
                Client(daemon.port, f"worker-{n}", self.tally),
                Draws(seed, f"worker/{n}"),
                self.tally,
            )
            for n in range(clients)
        ]

    async def carry_out(self) -> None:
        """Its rounds; afterwards nobody is connected, and nothing runs."""
        await self._round(lambda worker: worker.everything())
        await self._each(lambda worker: worker.client.be_turned_away())
        await self._leave_calls_under_way()
        slow = Latency(latency_ms=8, jitter_ms=4)
        await self._each(lambda worker: worker.client.connect())
        async with self._daemon.here.inject(slow):
            await self._each(lambda worker: worker.work(_ACTIONS))
        await self._each(lambda worker: worker.end())
        await self._quiet()
        await self._reset_all()
        await self._round(lambda worker: worker.work(_ACTIONS))

    async def _each(self, act: Callable[[Worker], Awaitable[Any]]) -> None:
        async with asyncio.TaskGroup() as tasks:
            for worker in self._workers:
                tasks.create_task(_awaited(act(worker)))

    async def _round(self, act: Callable[[Worker], Awaitable[Any]]) -> None:
        await self._each(lambda worker: worker.client.connect())
        await self._each(act)
        await self._each(lambda worker: worker.end())
        await self._quiet()

    async def _leave_calls_under_way(self) -> None:
        """The answers come when their sessions are back."""
        calls = []
        await self._each(lambda worker: worker.client.connect())
        for worker in self._workers:
            calls.append(worker.client.begin("sleep", {"ms": 600}))
            # Its answer says that the call before it was read.
            await worker.client.ask({"op": "ping", "request_id": "p"})
            await worker.client.break_off()
        await self._quiet()
        await self._each(lambda worker: worker.client.connect())
        for call in calls:
            assert outcome_of(await soon(call)) == "executed"
        await self._each(lambda worker: worker.end())
        await self._quiet()

    async def _reset_all(self) -> None:
        """Every connection broken by a real reset, on the first byte that a client sends."""
        async with armed(self._daemon.here):
            await self._each(lambda worker: worker.client.connect())
            async with self._daemon.here.inject(ResetPeer(stream="upstream")):
                for worker in self._workers:
                    worker.client.line.send(TEXT, b"never arrives")
                await self._each(lambda worker: soon(worker.client.line.over.wait()))
            await self._quiet()

    async def _quiet(self) -> None:
        """Wait until the daemon knows that all are gone, and nothing runs."""
        await eventually(
            self._daemon.status,
            lambda status: (status["connections"], status["running_calls"]) == (0, 0),
        )


async def _awaited(awaitable: Awaitable[Any]) -> None:
    await awaitable
