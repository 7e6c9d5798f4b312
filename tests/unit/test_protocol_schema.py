"""The protocol's schema and page, held against the code."""

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

from harness.dialects import exai
from harness.errors import OUTCOMES
from harness.refdaemon.connection import PROMISES
from harness.resilience.admission import AdmissionSettings
from harness.resilience.config.server import ServerSettings
from tests.held import SCHEMA, schema_of
from tests.unit.replies import GOOD, failed, misfits

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/protocol.md").read_text()
PARTS = SCHEMA["$defs"]
REQUESTS = {shape.__struct_config__.tag: shape for shape in get_args(exai.Request)}
REPLIES = {shape.__struct_config__.tag: shape for shape in get_args(exai.Reply)}
SHAPES = {**REQUESTS, **REPLIES}


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


def test_it_has_an_example_of_every_reply():
    """Which others change, to see that they are told."""
    assert GOOD.keys() == REPLIES.keys()


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
    source = (ROOT / "harness/refdaemon/hello.py").read_text()

    assert set(PARTS["fault"]["properties"]["code"]["enum"]) == {
        code for code in OUTCOMES if code.isupper()
    }
    assert set(PARTS["hello_ack"]["properties"]["error"]["enum"]) == set(
        re.findall(r'TurnedAway\(exai\.\w+, "(\w+)"\)', source)
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
