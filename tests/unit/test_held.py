"""What fits the protocol's schema and what does not, and who holds traffic to it."""

from __future__ import annotations

import json
import re

import pytest

from harness.daemons.reference import Reference
from harness.dialects.exai import Exai
from tests.held import HELD, Conversation, Held, HeldExai, Misfit
from tests.unit.replies import FAULT, GOOD, HEALTH, TOOL, failed, misfits, reply

# What fits, and what does not.


@pytest.mark.parametrize("op", GOOD)
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


def test_the_same_frame_again_is_judged_the_same():
    """Good or bad, however often, and whichever way it goes."""
    held = Held()
    frames = [reply("pong"), reply("pong"), reply("pong", timestamp=""), reply("pong")]

    for frame in frames:
        assert held.reply(frame)["op"] == "pong"
    held.reply("")
    held.reply(frames[2])
    held.request(frames[0])

    assert (held.count, len(held.misfits)) == (7, 4)


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
