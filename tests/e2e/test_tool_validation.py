"""
Every tool that the daemon lists, with arguments that fit its schema and arguments that do not:
client, proxy, daemon and tool, and for `chat` the proxy before the provider and the provider.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings

from harness.records import Effect
from tests.e2e.arguments import NO_OBJECTS, derived, drawn
from tests.e2e.tool_trial import WITHOUT, Case, End, judged, trial, wrong_in

DRAWN = 60

pytestmark = pytest.mark.timeout(300)


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
