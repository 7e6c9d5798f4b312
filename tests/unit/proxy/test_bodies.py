"""Toxiproxy's JSON with Go's habits."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.address import Address
from harness.faults.latency import Latency
from harness.proxy.bodies import (
    Refused,
    Request,
    error,
    json_answer,
    lowered,
    own_of,
    proxy_json,
    toxic_json,
)
from harness.proxy.events import EventLog
from harness.proxy.proxies import NamedToxic, Own, Proxy

SHAPES: dict[str, type] = {"name": str, "enabled": bool, "toxicity": float, "attributes": dict}


def fields(body: bytes) -> dict[str, Any]:
    return Request(body, {}).fields(SHAPES)


def refusal(body: bytes) -> str:
    with pytest.raises(Refused) as refused:
        fields(body)
    assert refused.value.status == 400
    return refused.value.text


def test_known_fields_are_read():
    """Each in its own type."""
    body = b'{"name": "edge", "enabled": false, "toxicity": 0.5, "attributes": {"latency": 1}}'

    assert fields(body) == {
        "name": "edge",
        "enabled": False,
        "toxicity": 0.5,
        "attributes": {"latency": 1},
    }


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(b'{"NAME": "a", "eNabled": true}', {"name": "a", "enabled": True}, id="case"),
        pytest.param(b'{"name": null, "enabled": true}', {"enabled": True}, id="null field"),
        pytest.param(b"null", {}, id="null body"),
        pytest.param(b'{"name": "a", "colour": [1, {}]}', {"name": "a"}, id="unknown key"),
        pytest.param(b'{"name": "a"} trailing {', {"name": "a"}, id="what follows"),
        pytest.param(b' \r\n\t{"name": "a"}', {"name": "a"}, id="blanks before"),
        pytest.param(b'{"name": "a", "Name": "b"}', {"name": "b"}, id="twice"),
        pytest.param(b'{"toxicity": 1}', {"toxicity": 1.0}, id="whole toxicity"),
        pytest.param(b'{"name": "\xff"}', {"name": "\ufffd"}, id="not UTF-8"),
        pytest.param(b'{"name": "a\\ud800b"}', {"name": "a\ufffdb"}, id="half a surrogate pair"),
        pytest.param(b'{"name": "\\ud83d\\ude00"}', {"name": "\U0001f600"}, id="a whole pair"),
    ],
)
def test_go_takes(body: bytes, expected: dict[str, Any]):
    """What Go's reader takes, ours takes, and reads the same."""
    assert fields(body) == expected


@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param(b"", "EOF", id="empty"),
        pytest.param(b" \n", "EOF", id="blank"),
        pytest.param(b"{", "bad request body", id="half"),
        pytest.param(b"junk", "bad request body", id="junk"),
        pytest.param(b"[]", "found array", id="array"),
        pytest.param(b'"name"', "found string", id="string"),
        pytest.param(b"[" * 100_000, "bad request body", id="deep"),
        pytest.param(b'{"toxicity": NaN}', "NaN", id="NaN"),
        pytest.param(b'{"other": -Infinity}', "Infinity", id="Infinity"),
        pytest.param(b'{"name": 5}', "number into field name of type string", id="number"),
        pytest.param(b'{"enabled": "yes"}', "string into field enabled of type bool", id="bool"),
        pytest.param(b'{"enabled": 1}', "number into field enabled", id="one is not true"),
        pytest.param(b'{"toxicity": "1"}', "string into field toxicity", id="text number"),
        pytest.param(b'{"toxicity": true}', "bool into field toxicity", id="true is not one"),
        pytest.param(b'{"attributes": []}', "array into field attributes", id="attributes"),
    ],
)
def test_go_refuses(body: bytes, words: str):
    """What Go's reader refuses is answered 400 with the reason."""
    text = refusal(body)

    assert text.startswith("bad request body: ")
    assert words in text


def test_a_number_beyond_all_floats_is_not_a_crash():
    """It becomes infinite, which no range of ours holds."""
    assert fields(b'{"toxicity": 1' + b"0" * 400 + b"}") == {"toxicity": float("inf")}


@given(st.binary(max_size=200))
def test_any_body_is_read_or_refused(body: bytes):
    """No bytes bring up anything but fields or a 400, and what is read can be written back."""
    try:
        found = fields(body)
    except Refused as refused:
        error(refused.status, refused.text)
    else:
        json_answer(200, {key: found[key] for key in found if key != "attributes"})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    # Large ones are only slow: no field looks further than its own type.
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([*SHAPES, "NAME", "other"]), JSON))
def test_any_object_is_read_or_refused(value: dict[str, Any]):
    """The same for well-formed objects with fields of any type."""
    try:
        found = fields(json.dumps(value).encode())
    except Refused:
        return
    assert all(type(item) is SHAPES[key] for key, item in found.items())


def test_lowered_forgets_nulls():
    """An attribute that is null keeps its default."""
    assert lowered({"Latency": 5, "JITTER": None}) == {"latency": 5}


def test_a_proxys_keys_stand_in_toxiproxys_order():
    """Clients that print what they get look the same with either server."""
    proxy = Proxy(
        "edge", Address("127.0.0.1", 1), Address("127.0.0.1", 2), events=EventLog(), seed=7
    )

    assert json.dumps(proxy_json(proxy)) == (
        '{"name": "edge", "listen": "127.0.0.1:1", "upstream": "127.0.0.1:2", '
        '"enabled": false, "Logger": {}, "toxics": []}'
    )


def test_a_seed_of_its_own_stands_behind_toxiproxys_keys():
    """Under the one key that is ours, so that other clients read what they always did."""
    here, there = Address("127.0.0.1", 1), Address("127.0.0.1", 2)
    plain = Proxy("edge", here, there, events=EventLog(), seed=7)
    seeded = Proxy("edge", here, there, events=EventLog(), seed=7, own=Own(seed=7))

    assert list(proxy_json(seeded).items()) == [
        *proxy_json(plain).items(),
        ("harness", {"seed": 7}),
    ]


@pytest.mark.parametrize("seed", [0, 7, -1, 10**30])
def test_a_seed_is_any_whole_number(seed: int):
    """Negative and long ones included."""
    assert own_of({"name": "edge", "harness": {"seed": seed}}) == Own(seed=seed)


def test_no_key_of_ours_is_no_seed():
    """The proxy then draws from the server's."""
    assert own_of({"name": "edge"}) == Own()


@pytest.mark.parametrize(
    ("ours", "words"),
    [
        ({}, "harness takes nothing but seed and tap, found neither"),
        ({"seed": None}, "found null"),
        ({"seed": True}, "found bool"),
        ({"seed": 7.0}, "found 7.0"),
        ({"seed": "7"}, "found string"),
        ({"seed": [7]}, "found array"),
        ({"seed": {"seed": 7}}, "found object"),
        ({"seed": 7, "sed": 8}, 'harness takes nothing but seed and tap, found ["sed"]'),
        ({"Seed": 7}, 'found ["Seed"]'),
        ({"b": 1, "a\ud800": 2}, 'found ["a\\ud800", "b"]'),
    ],
)
def test_anything_else_under_our_key_is_refused(ours: dict[str, Any], words: str):
    """400; a slip there must not go unnoticed, as it would with Toxiproxy's own keys."""
    with pytest.raises(Refused) as refused:
        own_of({"harness": ours})

    assert refused.value.status == 400
    assert words in refused.value.text


@given(st.dictionaries(st.sampled_from(["seed", "Seed", "\ud800"]), JSON))
def test_any_object_under_our_key_is_a_seed_or_refused(ours: dict[str, Any]):
    """The refusal can be written whatever stood there."""
    try:
        assert type(own_of({"harness": ours}).seed) is int
    except Refused as refused:
        error(refused.status, refused.text)


@pytest.mark.parametrize(("toxicity", "written"), [(1.0, "1"), (0.0, "0"), (0.1, "0.1")])
def test_a_toxics_keys_and_toxicity_are_written_as_go_does(toxicity: float, written: str):
    """Attributes first, whole numbers without a fraction."""
    entry = NamedToxic("slow", Latency(latency_ms=5, jitter_ms=1, toxicity=toxicity))

    assert json_answer(200, toxic_json(entry)).body.decode() == (
        '{"attributes":{"latency":5,"jitter":1},"name":"slow","type":"latency",'
        f'"stream":"downstream","toxicity":{written}}}'
    )


def test_the_characters_go_escapes_are_escaped():
    """JSON that may stand in a web page; other characters stay as they are."""
    assert json_answer(200, "<a> & ü").body == '"\\u003ca\\u003e \\u0026 ü"'.encode()


def test_errors_are_json_labelled_as_text():
    """The label is Toxiproxy's, newline included."""
    answer = error(404, "proxy not found")

    assert answer.body == b'{"error":"proxy not found","status":404}\n'
    assert answer.content_type == "text/plain; charset=utf-8"
