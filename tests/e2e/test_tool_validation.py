"""
Every tool that the daemon lists, with arguments that fit its schema and arguments that do not.

Client, proxy, daemon and tool, and for `chat` the proxy before the provider and the provider. The
oracle is what the daemon itself tells: a tool's inputSchema says what is taken, and the effect log
what was done. A call that takes long is cancelled: that it could be says that it was taken.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import Phase, given, settings
from websockets.asyncio.client import ClientConnection, connect

from harness.daemons.reference import Reference, own_provider
from harness.records import Effect
from tests.backends import CHOICES
from tests.e2e.arguments import NO_OBJECTS, derived, drawn
from tests.held import HELD, Conversation, Held
from tests.integration.stacks import Place

# Long enough for what is quick, on a busy machine too; what is cut off is judged all the same.
GIVE_UP_S = 0.2
PATIENCE_S = 30.0
CALLERS = 6
DRAWN = 60
# What may take ten minutes is not refused for that.
PATIENT = ("--set", "server.call_timeout_s=700", "--set", "provider.attempt_timeout_s=700")
WITHOUT = ""
"""In the place of arguments: the call has none."""

pytestmark = pytest.mark.timeout(300)


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
    calls: int = field(default=0)

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


def examples(schema: dict[str, Any]) -> list[str]:
    """Some that Hypothesis draws."""
    found: list[str] = []

    @settings(max_examples=DRAWN, database=None, phases=[Phase.generate])
    @given(drawn(schema))
    def draw(text: str) -> None:
        found.append(text)

    draw()
    return found


async def test_each_tool_takes_what_its_schema_says(tmp_path: Path, backend: str) -> None:
    """
    Whatever fits is taken and done once, with just these arguments; whatever does not is refused
    by the name of what is wrong, and nothing is done.
    """
    async with trial(tmp_path, backend) as tried:
        texts = {
            tool: [*derived(schema), *examples(schema), *NO_OBJECTS, WITHOUT]
            for tool, schema in tried.tools.items()
        }
        await tried.of(texts)
        complaints = tried.complaints()
        counts = {tool: tried.counts(tool) for tool in tried.tools}
        of_provider = tried.complaints_of_provider()
    assert complaints == []
    assert of_provider == []
    assert counts.keys() == {"echo", "sleep", "counter", "fail", "blob", "stream", "chat"}
    # Nothing was shown of a tool that was never refused, or never did anything.
    assert {tool for tool, (refused, _, done) in counts.items() if not refused or not done} == set()
    assert {tool for tool, (_, cancelled, _) in counts.items() if cancelled} >= {"sleep", "chat"}


async def test_text_that_is_no_unicode_is_refused(tmp_path: Path, backend: str) -> None:
    """
    Half a surrogate pair can be written in JSON, and stands for no text: no tool takes it.
    """
    async with trial(tmp_path, backend) as tried:
        (caller, *_) = tried.callers
        ends = [
            await caller.carry_out(
                Case(
                    key=tool,
                    tool=tool,
                    text=json.dumps(dict.fromkeys(schema["properties"], "\ud800")),
                    wrong=frozenset(["Unicode"]),
                )
            )
            for tool, schema in tried.tools.items()
        ]

        assert {end.answer["error"]["code"] for end in ends} == {"VALIDATION_ERROR"}
        assert all("no Unicode" in end.answer["error"]["message"] for end in ends)
        assert tried.here.effects() == []


SCHEMA = {
    "type": "object",
    "properties": {"ms": {"type": "integer", "minimum": 0, "maximum": 10}},
    "required": ["ms"],
    "additionalProperties": False,
}


def effect(case: Case, **changed: Any) -> Effect:
    """The one that it should have, changed."""
    stamps = {"sequence": 1, "time_ns": 1, "clock": "c", "pid": 1, "session": "s"}
    about = {"tool": case.tool, "key": case.key, "request_id": "1", "digest": case.digest}
    return Effect(**{**stamps, **about, **changed})


def end(code: str | None = None, message: str = "", *, cancelled: bool = False) -> End:
    """An answer."""
    failed = {} if code is None else {"error": {"code": code, "message": message}}
    return End(answer={"ok": code is None, **failed}, cancelled=cancelled)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ('{"ms": 1}', None),
        ('{"ms": 1.0}', None),
        ('{"ms": 11}', {"ms"}),
        ('{"ms": true}', {"ms"}),
        ("{}", {"ms"}),
        ('{"ms": -1, "a": 1, "b": 2}', {"ms", "a", "b"}),
        ("[]", {"object"}),
    ],
)
def test_what_is_wrong_has_a_name(text: str, wrong: set[str] | None) -> None:
    """
    Of each member that does not fit, is missing, or is too many.
    """
    assert wrong_in(SCHEMA, json.loads(text)) == wrong


def test_a_daemon_that_does_otherwise_is_told() -> None:
    """
    Taken or refused against its schema, an effect too many, too few, or of other arguments.
    """
    good = Case(key="k", tool="sleep", text='{"ms":1}', wrong=None)
    bad = Case(key="k", tool="sleep", text='{"ms":"1"}', wrong=frozenset(["ms"]))
    one, other = effect(good), effect(good, digest="0" * 16)
    refusal, gone = end("VALIDATION_ERROR", "not at `$.ms`"), end("CANCELLED", cancelled=True)

    assert judged(good, end(), [one]) == []
    assert judged(good, end("TOOL_EXECUTION_ERROR"), [one]) == []
    assert judged(good, gone, []) == []
    assert judged(bad, refusal, []) == []
    for case, what, effects in (
        (good, end(), []),
        (good, end(), [one, one]),
        (good, end(), [other]),
        (good, end(), [effect(good, tool="echo")]),
        (good, refusal, []),
        (good, end("OVER_CAPACITY"), []),
        (good, gone, [one]),
        (good, end(cancelled=True), []),
        (bad, end(), []),
        (bad, end("INTERNAL_ERROR", "ms"), []),
        (bad, refusal, [one]),
        (bad, end("VALIDATION_ERROR", "no good"), []),
    ):
        assert judged(case, what, effects), (case, what, effects)


def test_every_edge_of_a_schema_is_tried() -> None:
    """
    On it and beyond it, each way to write it, every other type; some fit, and some do not.
    """
    texts = derived(SCHEMA)
    values = [json.loads(text) for text in texts]

    assert {'{"ms":0}', '{"ms":10}', '{"ms":-1}', '{"ms":11}', '{"ms":10.0}', "{}"} <= set(texts)
    assert {type(value.get("ms")).__name__ for value in values} == {
        *("int", "float", "bool", "str", "list", "dict", "NoneType")
    }
    assert any(wrong_in(SCHEMA, value) is None for value in values)
    assert any("unheard_of" in value for value in values)
