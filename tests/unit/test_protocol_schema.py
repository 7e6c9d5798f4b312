"""The protocol's schema and page, held against the code; and who holds traffic to the schema."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import jsonschema_rs
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.daemons.reference import Reference
from harness.dialects import exai
from harness.dialects.exai import Exai
from harness.errors import OUTCOMES
from harness.refdaemon.connection import PROMISES
from harness.resilience.admission import AdmissionSettings
from harness.resilience.config.server import ServerSettings
from tests.held import HELD, SCHEMA, Conversation, Held, HeldExai, Misfit, schema_of

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/protocol.md").read_text()
PARTS = SCHEMA["$defs"]
REQUESTS = {shape.__struct_config__.tag: shape for shape in get_args(exai.Request)}
REPLIES = {shape.__struct_config__.tag: shape for shape in get_args(exai.Reply)}
SHAPES = {**REQUESTS, **REPLIES}

FAULT = {"code": "CANCELLED", "message": "ended", "details": {}}
HEALTH = {
    "connections": 1,
    "sessions": 1,
    "sessions_remembered": 1,
    "running_calls": 0,
    "uptime_s": 0.5,
    "pid": 7,
    "draining": False,
    "tool_state": {"counter": {"names": 1, "sum": -3}},
    "open_breakers": 0,
    "configuration": "0123456789ab",
    "counters": {"calls_executed": 1},
}
TOOL = {
    "name": "echo",
    "description": "Say it back.",
    "inputSchema": {
        "type": "object",
        "properties": {"text": {"type": "string"}},
        "required": ["text"],
        "additionalProperties": False,
    },
}
GOOD: dict[str, dict[str, Any]] = {
    "hello_ack": {"ok": True, "session_id": "abc", "resumed": False, "promises": [], "clock": "c"},
    "call_tool_res": {
        "request_id": "1",
        "ok": True,
        "outputs": [{"type": "text", "text": ""}],
        "received_ns": 1,
        "began_ns": 2,
        "answered_ns": 3,
    },
    "list_tools_res": {"request_id": None, "tools": [TOOL]},
    "pong": {"request_id": "1", "timestamp": 1.5},
    "health_res": {"request_id": "1", "ok": True, "health": HEALTH},
    "cancelled": {"request_id": "1", "ok": True},
    "progress": {"request_id": "1", "progress": 1, "total": 4, "message": "step 1 of 4"},
    "stream_chunk": {"request_id": "1", "index": 0, "chunk": "x"},
    "reconfigured": {"request_id": "1", "ok": True, "changed": {"server.drain_s": None}},
    "error": {"request_id": None, "error": {**FAULT, "code": "INVALID_REQUEST"}},
}
FAILED = {"request_id": "1", "ok": False, "received_ns": 1, "answered_ns": 3}


def reply(op: str, *without: str, **members: Any) -> bytes:
    """A good reply of that kind, changed."""
    rest = {name: value for name, value in GOOD[op].items() if name not in without}
    return json.dumps({"op": op, **rest, **members}).encode()


def failed(code: str, details: dict[str, Any], message: str = "why") -> bytes:
    """The answer to a call that failed."""
    fault = {"code": code, "message": message, "details": details}
    return json.dumps({"op": "call_tool_res", **FAILED, "error": fault}).encode()


def misfits(frame: bytes) -> list[str]:
    """What is said of a reply."""
    held = Held()
    held.reply(frame)
    return held.misfits


def nodes(schema: Any) -> Iterator[dict[str, Any]]:
    """All objects in a schema."""
    if isinstance(schema, dict):
        yield schema
        for value in schema.values():
            yield from nodes(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from nodes(value)


# The schema, and the code.


def test_it_is_a_schema():
    """And each part of it can be referred to."""
    jsonschema_rs.meta.validate(SCHEMA)

    refs = {node["$ref"] for node in nodes(SCHEMA) if isinstance(node.get("$ref"), str)}
    assert {ref for ref in refs if ref.startswith("#")} == {f"#/$defs/{name}" for name in PARTS}


@pytest.mark.parametrize(("direction", "shapes"), [("request", REQUESTS), ("reply", REPLIES)])
def test_it_has_every_op(direction: str, shapes: dict[str, Any]):
    """Those that the code has, and no other."""
    refs = [each["$ref"].rpartition("/")[2] for each in PARTS[direction]["oneOf"]]

    assert sorted(refs) == sorted(shapes)
    assert all(PARTS[op]["properties"]["op"] == {"const": op} for op in refs)


@pytest.mark.parametrize("op", SHAPES)
def test_it_has_every_member(op: str):
    """Of each frame those that the code has; and no reply may lack what the code always sends."""
    found = msgspec.structs.fields(SHAPES[op])
    always = {field.encode_name for field in found if field.required}
    required = set(PARTS[op]["required"]) - {"op"}

    assert PARTS[op]["properties"].keys() - {"op"} == {field.encode_name for field in found}
    assert required == always if op in REQUESTS else required >= always


def test_it_has_every_part_of_an_error_and_of_an_output():
    """An error always has all of its three members; metadata are never sent."""
    output = PARTS["call_tool_res"]["properties"]["outputs"]["items"]
    fault = [field.encode_name for field in msgspec.structs.fields(exai.Fault)]

    assert PARTS["fault"]["required"] == list(PARTS["fault"]["properties"]) == fault
    assert output["properties"].keys() == {"type", "text"}
    assert {field.encode_name for field in msgspec.structs.fields(exai.Output)} == {
        *output["properties"],
        "metadata",
    }


def test_replies_are_strict():
    """No object of a reply has members that the schema does not name or describe."""
    loose = [
        node
        for op in (*REPLIES, "fault")
        for node in nodes(PARTS[op])
        if node.get("type") == "object" and "additionalProperties" not in node
    ]

    # The details of an error hang on its code, and an inputSchema is any schema of an object.
    assert loose == [
        PARTS["list_tools_res"]["properties"]["tools"]["items"]["properties"]["inputSchema"],
        PARTS["fault"]["properties"]["details"],
    ]


def test_it_has_the_words_of_the_code():
    """Codes, the words of a refused hello, promises, and the limits that may be met."""
    details = next(
        rule["then"]["properties"]["details"]
        for rule in PARTS["fault"]["allOf"]
        if rule["if"]["properties"]["code"].get("const") == "OVER_CAPACITY"
    )
    keys = {field.name for kind in (AdmissionSettings, ServerSettings) for field in fields(kind)}
    source = (ROOT / "harness/refdaemon/connection.py").read_text()

    assert set(PARTS["fault"]["properties"]["code"]["enum"]) == {
        code for code in OUTCOMES if code.isupper()
    }
    assert set(PARTS["hello_ack"]["properties"]["error"]["enum"]) == set(
        re.findall(r'_turn_away\(exai\.\w+, "(\w+)"\)', source)
    )
    assert PARTS["hello_ack"]["properties"]["promises"]["items"]["enum"] == PROMISES
    assert set(details["properties"]["limit"]["enum"]) <= keys


@pytest.mark.parametrize("code", [code for code in OUTCOMES if code.isupper()])
def test_it_has_the_details_of_every_code(code: str):
    """What stands in them is said of each."""
    assert misfits(failed(code, {"unheard_of": 1}))


_IS_REQUEST = jsonschema_rs.validator_for(schema_of("request")).is_valid
_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=4,
)
_TEXT = st.text(max_size=5)
_FITTING: dict[str, st.SearchStrategy[Any]] = {
    "request_id": st.text(min_size=1, max_size=5),
    "name": _TEXT,
    "arguments": st.dictionaries(_TEXT, _JSON, max_size=2),
    "key": st.none() | _TEXT,
    "timeout_ms": st.none() | st.sampled_from((1, 1.0, 1.5, 86_400_000)),
    "token": st.none() | _TEXT,
    "session_id": st.none() | _TEXT,
    "values": st.dictionaries(_TEXT, st.none() | st.booleans() | st.integers() | _TEXT, max_size=2),
}
_ODD: st.SearchStrategy[Any] = _JSON | st.sampled_from(
    (None, "", True, 0, 0.5, 86_400_000.5, 10**30, [], {}, {"a": None}, {"a": 1.5}, {"a": []})
)


@st.composite
def _requests(draw: st.DrawFn) -> dict[str, Any]:
    """A good one of any op, in which perhaps one member is odd, or missing, or too many."""
    op = draw(st.sampled_from(list(REQUESTS)))
    members = set(PARTS[op]["properties"]) - {"op"}
    change = draw(st.sampled_from(("none", "odd", "odd", "missing", "more")))
    name = draw(st.sampled_from(sorted(members)))
    request = {name: draw(_FITTING[name]) for name in sorted(members)}
    if change == "odd":
        request[name] = draw(_ODD)
    elif change == "missing":
        del request[name]
    elif change == "more":
        request = {draw(_TEXT): draw(_JSON), **request}
    return {**request, "op": op}


def _is_taken(frame: bytes) -> bool:
    """Whether the daemon understands it."""
    try:
        request = exai.decode_request(frame)
    except exai.FrameError:
        return False
    if not isinstance(request, exai.CallTool):
        return True
    # These two are found out later.
    return bool(request.request_id) and bytes(request.arguments).startswith(b"{")


@settings(max_examples=500)
@given(_requests())
def test_a_request_fits_where_the_daemon_takes_it(request_: dict[str, Any]):
    """The schema takes what the daemon takes, and nothing else."""
    frame = json.dumps(request_).encode()

    assert _IS_REQUEST(request_) == _is_taken(frame)


# The page.


def test_the_page_names_every_op_and_member():
    """Of requests and of replies."""
    named = set(re.findall(r"\w+", " ".join(re.findall(r"`[^`]+`|```.*?```", PAGE, re.DOTALL))))
    members = {name for op in SHAPES for name in PARTS[op]["properties"]}

    assert {*SHAPES, *members} - named == set()


def test_the_page_names_every_close_code():
    """The daemon's own, and those of WebSocket itself."""
    own = {value for name, value in vars(exai).items() if name.startswith("CLOSE_")}
    rows = [line.rpartition("|")[0] for line in PAGE.splitlines() if line.startswith("| ")]
    named = {int(code) for row in rows for code in re.findall(r"\| (\d{4})$", row.strip())}

    assert named == own | {1002, 1007}


def test_the_examples_of_the_page_fit():
    """Each is a message."""
    found = []
    for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL):
        rest = block.strip()
        while rest:
            value, end = json.JSONDecoder().raw_decode(rest)
            found.append(value)
            rest = rest[end:].strip()

    assert len(found) >= 8
    for value in found:
        jsonschema_rs.validate(SCHEMA, value)


# What fits, and what does not.


@pytest.mark.parametrize("op", REPLIES)
def test_a_good_reply_fits(op: str):
    """One of each kind."""
    assert misfits(reply(op)) == []


@pytest.mark.parametrize(
    "frame",
    [
        reply(
            "hello_ack",
            "session_id",
            "resumed",
            "promises",
            "clock",
            ok=False,
            error="unauthorized",
        ),
        failed("TOOL_EXECUTION_ERROR", {}, ""),
        failed("VALIDATION_ERROR", {}),
        failed("INVALID_REQUEST", {"key": "k"}),
        failed("TIMEOUT", {"timeout_ms": 1.5}),
        failed("TIMEOUT", {"may_have_run": True, "retry_after_s": None}),
        failed("PROVIDER_ERROR", {"may_have_run": False, "retry_after_s": 2}),
        failed("SERVICE_UNAVAILABLE", {}),
        failed(
            "OVER_CAPACITY",
            {"limit": "burst_messages", "found": 1.5, "allowed": 1, "retry_after_s": 0.1},
        ),
        reply("call_tool_res", "began_ns", replayed=True),
        reply("cancelled", ok=False, error={**FAULT, "code": "NOT_FOUND"}),
        reply(
            "reconfigured",
            "changed",
            ok=False,
            error={**FAULT, "code": "VALIDATION_ERROR", "details": {"problems": {"a.b": "no"}}},
        ),
    ],
)
def test_other_good_replies_fit(frame: bytes):
    """In all the forms that a kind has."""
    assert misfits(frame) == []


@pytest.mark.parametrize(
    ("frame", "where", "schema"),
    [
        (reply("hello_ack", "clock"), "$", "#/$defs/hello_ack/then/required"),
        (reply("hello_ack", error="unauthorized"), "$/error", "#/$defs/hello_ack/then/"),
        (
            reply("hello_ack", ok=False, error="unauthorized"),
            "$/session_id",
            "#/$defs/hello_ack/else/",
        ),
        (reply("hello_ack", session_id="ab"), "$/session_id", "/session_id/pattern"),
        (reply("call_tool_res", error=FAULT), "$/error", "#/$defs/call_tool_res/allOf/0/then/"),
        (reply("call_tool_res", "began_ns"), "$", "#/$defs/call_tool_res/allOf/1/then/required"),
        (reply("call_tool_res", "outputs"), "$", "#/$defs/call_tool_res/allOf/0/then/required"),
        (reply("call_tool_res", ok=False), "$", "#/$defs/call_tool_res/allOf/0/else/"),
        (reply("call_tool_res", received_ns="1"), "$/received_ns", "#/$defs/ns/type"),
        (reply("call_tool_res", replayed=False), "$/replayed", "/properties/replayed/const"),
        (failed("TOOL_EXECUTION_ERROR", {"a": 1}), "$/error/details", "#/$defs/fault/allOf/"),
        (failed("RESULT_GONE", {}), "$/error/details", "#/$defs/fault/allOf/"),
        (failed("OVER_CAPACITY", {"limit": "x"}), "$/error/details", "#/$defs/fault/allOf/"),
        (failed("time_limit", {}), "$/error/code", "#/$defs/fault/properties/code/enum"),
        (failed("NOT_FOUND", {}, ""), "$/error/message", "#/$defs/fault/allOf/"),
        (reply("list_tools_res", tools=[{"name": "x"}]), "$/tools/0", "/tools/items/required"),
        (
            reply("list_tools_res", tools=[{**TOOL, "inputSchema": {"type": "objekt"}}]),
            "$/tools/0/inputSchema",
            "",
        ),
        (reply("pong", timestamp="now"), "$/timestamp", "#/$defs/pong/properties/timestamp/type"),
        (reply("health_res", health={**HEALTH, "load": 1}), "$/health", "/health/additionalProp"),
        (reply("cancelled", ok=False), "$", "#/$defs/cancelled/else/required"),
        (reply("cancelled", ok=False, error=FAULT), "$/error/code", "/error/properties/code/const"),
        (reply("progress", "request_id"), "$", "#/$defs/progress/required"),
        (reply("progress", total=None), "$/total", "#/$defs/progress/properties/total/type"),
        (reply("stream_chunk", index=-1), "$/index", "#/$defs/count/minimum"),
        (reply("reconfigured", ok=False), "$", "#/$defs/reconfigured/else/"),
        (
            reply("reconfigured", changed={"drain": 1}),
            "$/changed",
            "#/$defs/settings/propertyNames",
        ),
        (reply("error", "request_id"), "$", "#/$defs/error/required"),
        (reply("error", error={"code": "INVALID_REQUEST"}), "$/error", "#/$defs/fault/required"),
        (reply("error", later=True), "$", "#/$defs/error/additionalProperties"),
    ],
)
def test_a_wrong_reply_is_told(frame: bytes, where: str, schema: str):
    """What is wrong, where it stands, and what in the schema says so."""
    (told,) = misfits(frame)

    rows = dict(re.findall(r"^  (\w+) +(.*)$", told, re.MULTILINE))
    assert told.startswith(f"a {json.loads(frame)['op']} does not fit docs/protocol.schema.json\n")
    assert rows["where"].startswith(where)
    assert schema in rows["schema"]
    assert rows["why"]
    assert rows["frame"] == frame.decode()


@pytest.mark.parametrize(
    "frame",
    [b"", b"junk", b"\xff", b"[]", b"{}", b'{"op": "sing"}', b'{"op": "ping"}', b'{"op": []}'],
)
def test_what_is_no_reply_is_told(frame: bytes):
    """No JSON, no object, or an op of no reply."""
    (told,) = misfits(frame)

    assert "a reply " in told


# Who holds traffic to it.


def test_all_that_is_wrong_is_raised_once():
    """By whoever asks, and then it is told."""
    held = Held()
    held.reply(reply("pong"))
    held.reply(reply("pong", timestamp=""))
    held.request(b'{"op": "cancel"}')

    with pytest.raises(Misfit, match=r"a pong (.|\n)*a cancel "):
        held.judge()

    held.judge()
    assert held.count == 3


def test_a_frame_is_shown_without_tokens_and_not_all_of_it():
    """However the token was written, in whatever frame it comes back."""
    held = Held()
    token = 'gehe"im-ü'
    hello = json.dumps({"op": "hello", "token": token, "session_id": 7}).encode()

    held.request(hello)
    held.reply(reply("pong", timestamp=token + "x" * 5000))

    first, second = held.misfits
    assert '"token": "***"' in first
    assert '"timestamp": "***xxx' in second
    assert len(second) < 1200
    for form in (token, json.dumps(token)[1:-1], "gehe"):
        assert form not in first + second


def test_what_was_answered_must_have_been_a_request():
    """An op that the daemon took although the schema does not is told."""
    held = Held()
    conversation = Conversation(held)
    conversation.sent('{"op": "ping", "request_id": ["1"]}')
    conversation.sent('{"op": "health", "request_id": null}')
    conversation.sent('{"op": "call_tool", "request_id": "1", "name": "echo", "key": 7}')

    conversation.received(reply("call_tool_res"))

    (told,) = held.misfits
    assert "a call_tool does not fit" in told
    assert "$/key" in told


def test_what_was_refused_need_not_be_one():
    """A frame that was sent to be refused is no misfit, and later ones of its id are held."""
    held = Held()
    conversation = Conversation(held)
    good, bad = (
        json.dumps({"op": "call_tool", "request_id": "1", "name": name, "arguments": {}})
        for name in ("echo", None)
    )
    conversation.sent('{"op": "hello", "token": 7}')
    conversation.received(b'{"op": "hello_ack", "ok": false, "error": "invalid_hello"}')
    conversation.sent("junk")
    conversation.sent(good)
    conversation.sent(bad)

    conversation.received(failed("VALIDATION_ERROR", {}))
    conversation.received(reply("progress"))
    conversation.received(reply("call_tool_res"))

    assert held.misfits == []
    # Four replies, and the call that was carried out.
    assert held.count == 5


def test_arguments_that_were_refused_were_a_request_all_the_same():
    """What they must be is the tool's affair."""
    held = Held()
    conversation = Conversation(held)
    conversation.sent('{"op": "call_tool", "request_id": "1", "name": "echo", "arguments": {}}')

    conversation.received(failed("VALIDATION_ERROR", {}, "arguments: no text"))

    assert (held.misfits, held.count) == ([], 2)


def test_sessions_with_the_reference_daemon_are_held():
    """Their dialect is the same to everybody else; of a daemon with a defect nothing is held."""
    dialect = Reference().dialect

    assert type(dialect) is HeldExai
    assert dialect == Exai() == dialect
    assert hash(dialect) == hash(Exai())
    assert Reference() == Reference(dialect=Exai())
    assert type(Reference(options=("--defect", "any")).dialect) is Exai


def test_a_session_holds_what_it_sends_and_receives(monkeypatch: pytest.MonkeyPatch):
    """Hello, calls and questions; the meaning of what comes is the same."""
    held = Held()
    monkeypatch.setattr(HeldExai, "held", held)
    dialect = HeldExai()

    dialect.hello(token="t", session_id=None)
    dialect.call(request_id="1", tool="echo", arguments={}, key=None)
    dialect.ask("pong", "2")
    meaning = dialect.receive(reply("pong", timestamp=""))

    assert held.count == 4
    assert len(held.misfits) == 1
    assert meaning == Exai().receive(reply("pong", timestamp=""))
    assert HELD.misfits == []
