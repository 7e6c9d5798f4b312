"""
Calls of every tool through the proxy, and what is wrong with what came of them.

The oracle is what the daemon itself tells: a tool's inputSchema says what is taken, and the effect
log what was done. A call that takes long is cancelled: that it could be says that it was taken.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import jsonschema_rs
from websockets.asyncio.client import ClientConnection, connect

from harness.daemons.reference import Reference, own_provider
from harness.records import Effect
from tests.backends import CHOICES
from tests.held import HELD, Conversation, Held
from tests.integration.stacks import Place

__all__ = ["WITHOUT", "Case", "End", "Trial", "judged", "trial", "wrong_in"]

# Long enough for what is quick, on a busy machine too; what is cut off is judged all the same.
GIVE_UP_S = 0.2
PATIENCE_S = 30.0
CALLERS = 6
# What may take ten minutes is not refused for that.
PATIENT = ("--set", "server.call_timeout_s=700", "--set", "provider.attempt_timeout_s=700")
WITHOUT = ""
"""In the place of arguments: the call has none."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """
    One call.

    Attributes:
        key: Its own.
        tool: The tool's name.
        text: The arguments as they go out.
        wrong: What is wrong with them, by name: one of these must be told. None: nothing is.
    """

    key: str
    tool: str
    text: str
    wrong: frozenset[str] | None

    @property
    def digest(self) -> str:
        """What the effect log must have."""
        return blake2b(self.text.strip().encode() or b"{}", digest_size=8).hexdigest()

    def __str__(self) -> str:
        shown = self.text if len(self.text) <= 120 else f"{self.text[:120]}… ({len(self.text)})"
        return f"{self.tool} {shown or 'without arguments'}"


@dataclass(frozen=True, kw_only=True)
class End:
    """What came of it: the answer, and whether it was cancelled for taking long."""

    answer: dict[str, Any]
    cancelled: bool


@dataclass
class Caller:
    """One connection through the proxy; one call at a time."""

    connection: ClientConnection
    name: str
    calls: int = 0

    async def carry_out(self, case: Case) -> End:
        """Call, and cancel what takes long."""
        self.calls += 1
        request_id = f"{self.name}-{self.calls}"
        frame = json.dumps(
            {"op": "call_tool", "request_id": request_id, "name": case.tool, "key": case.key}
        )
        if case.text != WITHOUT:
            frame = f'{frame[:-1]}, "arguments": {case.text}}}'
        # What is no object is no request by the schema of requests, and refused for another reason.
        conversation = Conversation(HELD if case.text.strip()[:1] in ("", "{") else Held())
        conversation.sent(frame)
        async with asyncio.timeout(PATIENCE_S):
            await self.connection.send(frame)
            try:
                async with asyncio.timeout(GIVE_UP_S):
                    answer = await self._next(conversation, "call_tool_res")
                return End(answer=answer, cancelled=False)
            except TimeoutError:
                pass
            cancel = json.dumps({"op": "cancel", "request_id": request_id})
            conversation.sent(cancel)
            await self.connection.send(cancel)
            answer = await self._next(conversation, "call_tool_res")
            told = await self._next(conversation, "cancelled")
        return End(answer=answer, cancelled=told["ok"])

    async def _next(self, conversation: Conversation, op: str) -> dict[str, Any]:
        while True:
            text = await self.connection.recv()
            conversation.received(text)
            reply: dict[str, Any] = json.loads(text)
            if reply["op"] == op:
                return reply


def wrong_in(schema: dict[str, Any], value: Any) -> frozenset[str] | None:
    """The names of what does not fit, None where all does."""
    errors = list(jsonschema_rs.validator_for(schema).iter_errors(value))
    found: set[str] = set()
    for error in errors:
        if error.instance_path:
            found.add(str(error.instance_path[0]))
        elif error.kind.name == "required":
            found.add(error.kind.property)
        elif error.kind.name == "additionalProperties":
            found.update(error.kind.unexpected)
        else:
            found.add("object")
    return frozenset(found) if errors else None


def judged(case: Case, end: End, effects: Sequence[Effect]) -> list[str]:
    """What is wrong with what came of a call, and with its effects."""
    error = end.answer.get("error")
    code = None if error is None else error["code"]
    if case.wrong is not None:
        found = (
            [] if code == "VALIDATION_ERROR" else [f"taken, although {set(case.wrong)} is wrong"]
        )
        if code == "VALIDATION_ERROR" and not any(name in error["message"] for name in case.wrong):
            found.append(f"{error['message'][:200]!r} names nothing of {set(case.wrong)}")
        return [*found, *([f"{len(effects)} effects"] if effects else [])]
    if end.cancelled:
        found = [] if code == "CANCELLED" else [f"cancelled, and answered {end.answer}"]
        return [*found, *([f"cancelled, and {len(effects)} effects"] if effects else [])]
    if code not in (None, "TOOL_EXECUTION_ERROR"):
        return [f"fits, and was answered with {code}: {error['message'][:200]}"]
    if [(effect.tool, effect.digest) for effect in effects] != [(case.tool, case.digest)]:
        return [f"should have one effect, {case.digest}; has {list(effects)}"]
    return []


class Trial:
    """
    Every tool of one daemon, tried.

    Args:
        here: The daemon, behind its proxy.
        callers: Who calls.
        tools: What the daemon lists: inputSchema by name.
    """

    def __init__(self, here: Place, callers: Sequence[Caller], tools: dict[str, Any]) -> None:
        self.here = here
        self.tools = tools
        self.callers = callers
        self._cases = 0
        self.ends: dict[str, tuple[Case, End]] = {}

    async def of(self, texts: dict[str, Iterable[str]]) -> None:
        """Call tools with these arguments, side by side."""
        waiting = [self._case(tool, text) for tool, each in texts.items() for text in each]
        waiting.reverse()

        async def work(caller: Caller) -> None:
            while waiting:
                case = waiting.pop()
                self.ends[case.key] = case, await caller.carry_out(case)

        async with asyncio.TaskGroup() as group:
            for caller in self.callers:
                group.create_task(work(caller))

    def _case(self, tool: str, text: str) -> Case:
        self._cases += 1
        value = {} if text == WITHOUT else json.loads(text)
        wrong = wrong_in(self.tools[tool], value)
        return Case(key=f"k{self._cases}", tool=tool, text=text, wrong=wrong)

    def complaints(self) -> list[str]:
        """All that is wrong, by the calls; and effects of calls that nobody made."""
        effects = defaultdict(list)
        for effect in self.here.effects():
            effects[effect.key].append(effect)
        found = [
            f"{case}: {complaint}"
            for key, (case, end) in self.ends.items()
            for complaint in judged(case, end, effects.pop(key, []))
        ]
        return [*found, *(f"an effect of nobody's: {each}" for each in effects.values())]

    def counts(self, tool: str) -> tuple[int, int, int]:
        """How many calls of a tool were refused, cancelled, and done."""
        ends = [(case, end) for case, end in self.ends.values() if case.tool == tool]
        refused = sum(1 for case, _ in ends if case.wrong is not None)
        cancelled = sum(1 for _, end in ends if end.cancelled)
        return refused, cancelled, len(ends) - refused - cancelled

    def complaints_of_provider(self) -> list[str]:
        """All that is wrong with what the provider worked on: each prompt that it should, once."""
        worked = defaultdict(list)
        for execution in self.here.executions():
            # Its key is the session's and the call's.
            worked[str(execution.key).rpartition("/")[2]].append(execution.digest)
        found = []
        for key, (case, end) in self.ends.items():
            digests = worked.pop(key, [])
            fits = case.tool == "chat" and case.wrong is None
            prompt = json.loads(case.text)["prompt"] if fits else ""
            digest = blake2b(prompt.encode(), digest_size=8).hexdigest()
            # One that was cancelled may have been worked on by then.
            allowed = ([digest], []) if fits and end.cancelled else ([digest],) if fits else ([],)
            if digests not in allowed:
                found.append(f"{case}: the provider worked on {digests}, not on {allowed[0]}")
        return [*found, *(f"the provider worked for nobody: {each}" for each in worked)]


@asynccontextmanager
async def trial(folder: Path, backend: str) -> AsyncIterator[Trial]:
    """The reference daemon with its provider, and callers who said hello."""
    daemon = Reference(provider=own_provider(), options=PATIENT)
    async with Place(folder, daemon, CHOICES[backend]) as here, AsyncExitStack() as ends:
        async with here.client() as client:
            tools = {tool["name"]: tool["inputSchema"] for tool in await client.list_tools()}
        callers = []
        for n in range(CALLERS):
            opened = connect(
                here.url, compression=None, ping_interval=None, proxy=None, max_size=None
            )
            caller = Caller(await ends.enter_async_context(opened), f"caller-{n}")
            await caller.connection.send('{"op": "hello"}')
            assert json.loads(await caller.connection.recv())["ok"]
            callers.append(caller)
        yield Trial(here, callers, tools)
