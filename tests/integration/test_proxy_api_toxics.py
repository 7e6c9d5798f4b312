"""Toxics in the API over real HTTP: defaults, names, order, and values that are refused."""

from __future__ import annotations

import pytest

from tests.integration.proxy_process import Http


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_both_methods_update_a_toxic(edge: Http, method: str):
    """Attributes are merged field by field; the rest stays."""
    attributes = {"latency": 5, "jitter": 2}
    edge.call("POST", "/proxies/edge/toxics", {"type": "latency", "attributes": attributes})
    path = "/proxies/edge/toxics/latency_downstream"

    reply = edge.call(method, path, {"attributes": {"latency": 9}, "name": "other", "type": "noop"})

    assert reply.status == 200
    assert reply.json == {
        "attributes": {"latency": 9, "jitter": 2},
        "name": "latency_downstream",
        "type": "latency",
        "stream": "downstream",
        "toxicity": 1,
    }
    assert edge.call("GET", path).json == reply.json


def test_a_toxic_has_defaults(edge: Http):
    """Downstream, toxicity 1, a name of type and stream, attributes 0; the answer is 200."""
    reply = edge.call("POST", "/proxies/edge/toxics", {"type": "latency"})

    assert reply.status == 200
    assert reply.body == (
        b'{"attributes":{"latency":0,"jitter":0},"name":"latency_downstream",'
        b'"type":"latency","stream":"downstream","toxicity":1}'
    )


@pytest.mark.parametrize(
    ("kind", "attributes"),
    [
        ("latency", ["latency", "jitter"]),
        ("bandwidth", ["rate"]),
        ("timeout", ["timeout"]),
        ("limit_data", ["bytes"]),
        ("reset_peer", ["timeout"]),
    ],
)
def test_each_toxic_takes_its_attributes_in_both_streams(
    edge: Http, kind: str, attributes: list[str]
):
    """And shows them in Toxiproxy's order."""
    values = {name: number for number, name in enumerate(attributes, 5)}
    for stream in ("upstream", "downstream"):
        body = {"type": kind, "stream": stream, "attributes": values}
        reply = edge.call("POST", "/proxies/edge/toxics", body)
        assert reply.json["name"] == f"{kind}_{stream}"
        assert list(reply.json["attributes"].items()) == list(values.items())


def test_toxics_are_listed_upstream_first_then_in_chain_order(edge: Http):
    """In the proxy's answer too."""
    for name, stream in [("d1", "downstream"), ("u1", "upstream"), ("d2", ""), ("u2", "UPSTREAM")]:
        body = {"type": "latency", "name": name, "stream": stream}
        assert edge.call("POST", "/proxies/edge/toxics", body).status == 200

    listed = edge.call("GET", "/proxies/edge/toxics").json
    assert [toxic["name"] for toxic in listed] == ["u1", "u2", "d1", "d2"]
    assert edge.call("GET", "/proxies/edge").json["toxics"] == listed


def test_a_toxic_name_is_unique_over_both_streams(edge: Http):
    """409, and one toxic stays."""
    edge.call("POST", "/proxies/edge/toxics", {"type": "latency", "name": "slow"})
    body = {"type": "timeout", "name": "slow", "stream": "upstream"}

    reply = edge.call("POST", "/proxies/edge/toxics", body)

    assert (reply.status, reply.error) == (409, "toxic already exists")
    assert len(edge.call("GET", "/proxies/edge/toxics").json) == 1


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"type": "nonsense"}, "invalid toxic type"),
        ({}, "invalid toxic type"),
        # `down` is a fault and no toxic.
        ({"type": "down"}, "invalid toxic type"),
        (
            {"type": "nonsense", "stream": "sideways"},
            "stream was invalid, can be either upstream or downstream",
        ),
        ({"type": "latency", "attributes": {"latency": -1}}, "latency_ms: -1 is not allowed"),
        ({"type": "latency", "attributes": {"latency": 1.5}}, "latency_ms: 1.5 is not allowed"),
        ({"type": "latency", "attributes": {"latency": "1"}}, "latency_ms: '1' is not allowed"),
        ({"type": "latency", "attributes": {"latency": True}}, "True is not allowed"),
        ({"type": "latency", "attributes": {"latency": 2**63}}, "is not allowed"),
        ({"type": "latency", "attributes": {"latency": [1]}}, "is not allowed"),
        ({"type": "latency", "attributes": 5}, "bad request body"),
        ({"type": "latency", "toxicity": 1.5}, "toxicity: 1.5 is not allowed"),
        ({"type": "latency", "toxicity": -1}, "is not allowed"),
        ({"type": "latency", "toxicity": 10**400}, "is not allowed"),
        ({"type": 5}, "bad request body"),
        ([], "bad request body"),
    ],
)
def test_a_bad_toxic_is_refused(edge: Http, body: object, words: str):
    """400 with the reason; no toxic is added."""
    reply = edge.call("POST", "/proxies/edge/toxics", body)

    assert reply.status == 400
    assert words in reply.error
    assert edge.call("GET", "/proxies/edge/toxics").json == []


def test_a_bad_toxic_is_refused_with_all_complaints(edge: Http):
    """Whoever mends it mends it once."""
    body = {"type": "latency", "toxicity": 2, "attributes": {"latency": -1, "jitter": -2}}

    text = edge.call("POST", "/proxies/edge/toxics", body).error

    assert "3 problems" in text
    assert all(word in text for word in ("latency_ms", "jitter_ms", "toxicity"))


def test_an_update_that_fails_half_way_changes_nothing(edge: Http):
    """Toxiproxy would keep the half that was good."""
    edge.call("POST", "/proxies/edge/toxics", {"type": "latency", "name": "slow"})
    before = edge.call("GET", "/proxies/edge/toxics/slow").json

    body = {"attributes": {"latency": "x", "jitter": 9}, "toxicity": 0.5}
    reply = edge.call("PATCH", "/proxies/edge/toxics/slow", body)

    assert reply.status == 400
    assert edge.call("GET", "/proxies/edge/toxics/slow").json == before


def test_a_deleted_toxic_is_gone(edge: Http):
    """204, then 404."""
    edge.call("POST", "/proxies/edge/toxics", {"type": "latency", "name": "slow"})

    assert edge.call("DELETE", "/proxies/edge/toxics/slow").status == 204
    assert edge.call("DELETE", "/proxies/edge/toxics/slow").status == 404
    assert edge.call("GET", "/proxies/edge/toxics").json == []
