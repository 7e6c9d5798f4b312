"""The op dialect: what frames mean to the daemon, and to the client."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.dialects import exai
from harness.dialects.base import Answer, Junk, Progress, Refusal, Welcome
from harness.errors import OUTCOMES, InvalidValue


def _json(floats: st.SearchStrategy[float]) -> st.SearchStrategy[Any]:
    return st.recursive(
        st.none() | st.booleans() | st.integers() | floats | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
        max_leaves=8,
    )


_JSON = _json(st.floats())
# Python writes the other floats as words that are no JSON, and nothing of such a frame is readable.
_WRITTEN_AS_JSON = _json(st.floats(allow_nan=False, allow_infinity=False))


@pytest.mark.parametrize(
    ("frame", "request_"),
    [
        ({"op": "hello"}, exai.Hello()),
        ({"op": "hello", "token": "t", "session_id": "s"}, exai.Hello("t", "s")),
        ({"op": "ping"}, exai.Ping(None)),
        ({"op": "ping", "request_id": "1", "later": True}, exai.Ping("1")),
        ({"op": "list_tools", "request_id": "1"}, exai.ListTools("1")),
        ({"op": "health", "request_id": None}, exai.Health(None)),
        ({"op": "cancel", "request_id": "1"}, exai.Cancel("1")),
        ({"op": "call_tool", "request_id": "1", "name": "echo"}, exai.CallTool("1", "echo")),
        (
            {"op": "call_tool", "request_id": "1", "name": "n", "arguments": {"a": 1}, "key": "k"},
            exai.CallTool("1", "n", msgspec.Raw(b'{"a": 1}'), "k"),
        ),
    ],
)
def test_request_is_read_from_text_and_bytes(frame: dict[str, Any], request_: Any) -> None:
    """
    A frame is a request by its op; members nobody knows are passed over.
    """
    text = json.dumps(frame)

    assert exai.decode_request(text) == request_
    assert exai.decode_request(text.encode()) == request_


@pytest.mark.parametrize(
    ("frame", "kind", "op", "request_id"),
    [
        ("", "json", None, None),
        ("junk", "json", None, None),
        (b"\xff", "json", None, None),
        ("[]", "json", None, None),
        ('"hello"', "json", None, None),
        ("[" * 100_000, "json", None, None),
        ('{"op": "ping", "x": ' + "[" * 100_000, "json", None, None),
        ("{}", "op", None, None),
        ('{"op": "sing", "request_id": "1"}', "op", None, "1"),
        ('{"op": ["ping"], "request_id": "1"}', "op", None, "1"),
        ('{"op": null, "request_id": 1}', "op", None, None),
        ('{"op": "ping", "request_id": 1}', "shape", "ping", None),
        ('{"op": "cancel"}', "shape", "cancel", None),
        ('{"op": "call_tool", "request_id": "1"}', "shape", "call_tool", "1"),
        ('{"op": "call_tool", "request_id": "1", "name": 2}', "shape", "call_tool", "1"),
        ('{"op": "hello", "token": 7}', "shape", "hello", None),
    ],
)
def test_bad_frame_says_how_far_it_could_be_read(
    frame: str | bytes, kind: str, op: str | None, request_id: str | None
) -> None:
    """
    The error carries what the reply must name: the op and the request id, where there are any.
    """
    with pytest.raises(exai.FrameError) as caught:
        exai.decode_request(frame)

    assert (caught.value.kind, caught.value.request_id) == (kind, request_id)
    if kind != "op":
        assert caught.value.op == op
    assert caught.value.message


def _error_of(frame: bytes | str) -> exai.FrameError | None:
    try:
        exai.decode_request(frame)
    except exai.FrameError as error:
        return error
    return None


@given(st.binary() | st.text() | _JSON.map(json.dumps))
def test_any_frame_is_a_request_or_a_frame_error(frame: bytes | str) -> None:
    """
    No frame a peer can send raises anything else.
    """
    error = _error_of(frame)

    assert error is None or error.message


@given(
    st.fixed_dictionaries(
        {"op": st.sampled_from(["call_tool", "ping", "hello", "cancel", "sing"])},
        optional=dict.fromkeys(("request_id", "name", "arguments", "token"), _WRITTEN_AS_JSON),
    )
)
def test_readable_request_id_is_never_lost(frame: dict[str, Any]) -> None:
    """
    Whatever else is wrong with a frame, an id that is a string comes back in the error.
    """
    error = _error_of(json.dumps(frame))
    given_id = frame.get("request_id")

    assert error is None or error.request_id == (given_id if isinstance(given_id, str) else None)


@pytest.mark.parametrize(
    ("frame", "kind", "op", "request_id"),
    [
        (r'{"op": "ping", "request_id": "1", "x": "\ud800"}', "shape", "ping", "1"),
        (r'{"op": "call_tool", "request_id": "1", "\udfff": 1}', "shape", "call_tool", "1"),
        (r'{"op": "ping", "request_id": "\ud800"}', "shape", "ping", None),
        (r'{"op": "\ud800", "request_id": "1"}', "op", None, "1"),
        (r'{"op": "\ud800\ud800"}', "op", None, None),
        ('{"op": "reconfigure", "request_id": "1", "values": {"a": 1e400}}', "shape", None, "1"),
        (r'["\ud800"]', "json", None, None),
        (r'{"op": "ping", "request_id": "1", "x": "\ud800", "y": NaN}', "json", None, None),
        (r'{"op": "ping", "request_id": "1", "x": "\ud8', "json", None, None),
        (
            r'{"op": "ping", "request_id": "1", "x": "\ud800%s"}' % ("x" * 99_999),
            "json",
            None,
            None,
        ),
    ],
)
def test_what_is_json_and_cannot_be_decoded_has_an_id(
    frame: str, kind: str, op: str | None, request_id: str | None
) -> None:
    """
    Half a surrogate pair, a number out of range: whoever sent it learns which request it was.
    """
    error = _error_of(frame)

    assert error is not None
    assert (error.kind, error.request_id) == (kind, request_id)
    assert op in (None, error.op)
    exai.encode(exai.Error(error.request_id, exai.Fault("VALIDATION_ERROR", error.message)))


@given(st.binary() | st.text() | _JSON.map(json.dumps))
def test_client_never_raises_on_a_frame(frame: bytes | str) -> None:
    """
    What makes no sense to the client is junk, with a reason.
    """
    meaning = exai.Exai().receive(frame)

    assert not isinstance(meaning, Junk) or meaning.why


@pytest.mark.parametrize(
    ("reply", "meaning"),
    [
        (
            exai.HelloAck(ok=True, session_id="s", promises=["keys"], clock="c"),
            Welcome(session_id="s", promises=("keys",), clock="c"),
        ),
        (exai.HelloAck(ok=False, error="unauthorized"), Refusal(reason="unauthorized")),
        (exai.ListToolsRes("1", []), Answer(kind="tools", request_id="1", value=[])),
        (exai.Pong("1", 2.5), Answer(kind="pong", request_id="1", value=2.5)),
        (
            exai.HealthRes("1", ok=True, health={"pid": 1}),
            Answer(kind="health", request_id="1", value={"pid": 1}),
        ),
        (
            exai.Cancelled("1", ok=True),
            Answer(kind="cancel", request_id="1", value=True),
        ),
        (
            exai.ProgressFrame("1", 2, 4, "half"),
            Progress(request_id="1", progress=2, total=4, message="half"),
        ),
    ],
)
def test_reply_survives_the_wire(reply: Any, meaning: Any) -> None:
    """
    What the daemon encodes is what the client understands.
    """
    assert exai.Exai().receive(exai.encode(reply)) == meaning


def test_answer_of_a_call_carries_outputs_and_stamps() -> None:
    """
    A call's outputs and the daemon's two stamps reach the client.
    """
    reply = exai.CallToolRes(
        "1", ok=True, outputs=[exai.Output("text", "x")], received_ns=5, answered_ns=7
    )

    answer = exai.Exai().receive(exai.encode(reply))

    assert isinstance(answer, Answer)
    assert answer.failure is None
    assert [output.text for output in answer.value] == ["x"]
    assert (answer.received_ns, answer.answered_ns) == (5, 7)


def test_error_of_a_call_carries_code_and_details() -> None:
    """
    A call's error reaches the client with its code, sentence and details.
    """
    fault = exai.Fault("TOOL_NOT_FOUND", "no such tool", {"requested_tool": "x"})

    answer = exai.Exai().receive(exai.encode(exai.CallToolRes("1", ok=False, error=fault)))

    assert isinstance(answer, Answer)
    assert answer.failure is not None
    assert (answer.failure.code, answer.failure.details) == (fault.code, fault.details)


def test_every_frame_of_the_client_is_a_request() -> None:
    """
    What the client sends is what the daemon reads.
    """
    client = exai.Exai()

    assert exai.decode_request(client.hello(token="t", session_id="s")) == exai.Hello("t", "s")
    call = client.call(request_id="1", tool="echo", arguments={"text": "x"}, key="k")
    assert exai.decode_request(call) == exai.CallTool(
        "1", "echo", msgspec.Raw(b'{"text":"x"}'), "k"
    )
    kinds = {"tools": "ListTools", "health": "Health", "pong": "Ping", "cancel": "Cancel"}
    for kind, name in kinds.items():
        request = exai.decode_request(client.ask(kind, "1"))  # type: ignore[arg-type]
        assert (type(request).__name__, request.request_id) == (name, "1")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "usable"),
    [
        ("abc", True),
        ("a-b_C9", True),
        ("x" * 64, True),
        (None, False),
        ("", False),
        ("ab", False),
        ("x" * 65, False),
        ("a b", False),
        ("abc\n", False),
        ("grüß", False),
        ("-_-", False),
    ],
)
def test_usable_session_ids(text: str | None, *, usable: bool) -> None:
    """
    3 to 64 letters, digits, "-" or "_", and not only the last two.
    """
    assert exai.usable_session_id(text) is usable


@pytest.mark.parametrize(
    ("name", "stripped"),
    [
        ("echo", "echo"),
        ("echo_EXAI-WS", "echo"),
        ("echo-EXAI-WS", "echo"),
        ("echo_EXAI_WS", "echo"),
        ("echo-EXAI_WS", "echo"),
        ("echo_EXAI-WS_EXAI-WS", "echo_EXAI-WS"),
        ("echo_EXAI-WS-VSCode1", "echo_EXAI-WS-VSCode1"),
        ("EXAI-WS", "EXAI-WS"),
        ("", ""),
    ],
)
def test_tool_name_loses_one_suffix(name: str, stripped: str) -> None:
    """
    One of the four suffixes is taken off, once.
    """
    assert exai.tool_name(name) == stripped


def test_codes_the_daemon_sends_prove_something() -> None:
    """
    Every code the reference daemon answers a call with has its row in the table of outcomes.
    """
    sent = {
        "VALIDATION_ERROR",
        "SERVICE_UNAVAILABLE",
        "DUPLICATE",
        "TOOL_NOT_FOUND",
        "TOOL_EXECUTION_ERROR",
        "INTERNAL_ERROR",
        "CANCELLED",
        "INVALID_REQUEST",
        "NOT_FOUND",
    }

    assert sent <= OUTCOMES.keys()


def test_bytes_are_no_tools_name() -> None:
    """
    They would go out as some text or other; the daemon knows tools by name.
    """
    with pytest.raises(InvalidValue, match="found bytes"):
        exai.Exai().call(request_id="1", tool=b"echo", arguments={}, key=None)


def test_fingerprint_leaves_out_what_every_test_changes() -> None:
    """
    Counters and uptime grow whatever a test does; the rest must come back to what it was.
    """
    lasting = {
        "connections": 1,
        "sessions": 1,
        "running_calls": 0,
        "draining": False,
        "pid": 7,
        "tool_state": {"counter": {"names": 0, "sum": 0}},
    }

    report = {**lasting, "uptime_s": 3.5, "counters": {"calls_executed": 2}}

    assert exai.Exai().fingerprint(report) == lasting


def test_fingerprint_of_a_report_that_lacks_figures() -> None:
    """
    What a daemon does not tell cannot be compared.
    """
    assert exai.Exai().fingerprint({"pid": 7}) == {"pid": 7}


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (
            '{"op": "call_tool", "request_id": "7", "name": "x',
            {"op": "call_tool", "request_id": "7"},
        ),
        ('  {\n"op" :\t"ping" , "request_id":"\\u00fc"', {"op": "ping", "request_id": "ü"}),
        (
            '{"op":"call_tool","arguments":{"request_id":"no"},"request_id":"7"}',
            {"op": "call_tool"},
        ),
        ('{"op":"call_tool","x":1,"request_id":"7"}', {"op": "call_tool"}),
        ('{"request_id":"a","request_id":"b"}', {"request_id": "b"}),
        ("{}", {}),
        ("", {}),
        ("[", {}),
        ('["op","ping"]', {}),
        ('{"op"', {}),
        ('{"op":', {}),
        ('{"op":"', {}),
        ('{op:"ping"}', {}),
        ('{"op":"ping" "request_id":"7"}', {"op": "ping"}),
        ('{"op":"\\x"}', {}),
    ],
)
def test_the_beginning_of_what_is_too_large_tells_what_it_can(frame: str, said: dict[str, str]):
    """
    Nothing that is not so: what is nested is somebody else's.
    """
    assert exai.peek(frame) == said
    assert exai.peek(frame.encode()) == said


@given(
    members=st.lists(
        st.tuples(st.text(max_size=5), st.text(max_size=20) | st.integers() | st.none()), max_size=6
    ),
    rest=st.integers(0, 60),
)
def test_what_the_beginning_says_is_so(members: list[tuple[str, Any]], rest: int):
    """
    Of any object, cut anywhere: a member that is told has that value, or a later one of its name.
    """
    whole = ",".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in members)
    said = exai.peek(("{" + whole + "}")[: len(whole) + 2 - rest])

    for name, value in said.items():
        assert (name, value) in members


def test_what_is_far_behind_is_not_looked_for():
    """
    Nobody reads 32 MiB for an id.
    """
    frame = '{"op": "call_tool", "name": "' + "x" * 5000 + '", "request_id": "7"}'

    assert exai.peek(frame) == {"op": "call_tool"}
