"""The API over real HTTP: statuses, texts, shapes, and that a refusal changes nothing."""

from __future__ import annotations

import json
import socket
from typing import Any
from urllib.parse import quote

import pytest

from tests.integration.proxy_process import Http, ProxyServer, Reply

UP = "127.0.0.1:1"


def create(api: Http, name: str = "edge", **fields: Any) -> Reply:
    body = {"name": name, "upstream": UP, "listen": "127.0.0.1:0", **fields}
    return api.call("POST", "/proxies", body)


def test_version_is_toxiproxys(api: Http):
    """Blank after the colon, newline and content type as Toxiproxy has them."""
    reply = api.call("GET", "/version")

    assert (reply.status, reply.body) == (200, b'{"version": "2.12.0"}\n')
    assert reply.headers["content-type"] == "application/json;charset=utf-8"


def test_about_tells_who_answers(proxy_server: ProxyServer):
    """A reader can tell its own child from whatever else listens there."""
    about = proxy_server.http.call("GET", "/harness/about").json

    assert about["pid"] == proxy_server.process.pid
    assert (about["seed"], about["events"]) == (7, 0)


def test_create_answers_with_the_proxy(api: Http):
    """Port 0 became a port; the keys stand in Toxiproxy's order."""
    reply = create(api)

    port = int(reply.json["listen"].rpartition(":")[2])
    assert port > 0
    assert reply.status == 201
    assert reply.headers["content-type"] == "application/json"
    assert reply.body.decode() == (
        f'{{"name":"edge","listen":"127.0.0.1:{port}","upstream":"127.0.0.1:1",'
        '"enabled":true,"Logger":{},"toxics":[]}'
    )


def test_a_proxy_without_a_listen_address_gets_one(api: Http):
    """On this machine only, with a port of the system's choice."""
    reply = api.call("POST", "/proxies", {"name": "edge", "upstream": UP})

    host, _, port = reply.json["listen"].rpartition(":")
    assert (host, int(port) > 0) == ("127.0.0.1", True)


def test_a_host_name_is_shown_resolved(api: Http):
    """As Toxiproxy does, whose clients take the address from the answer."""
    assert create(api, listen="localhost:0").json["listen"].startswith("127.0.0.1:")


def test_a_disabled_proxy_keeps_the_address_as_given(api: Http):
    """Nothing is bound before it is enabled."""
    reply = create(api, enabled=False)

    assert (reply.json["listen"], reply.json["enabled"]) == ("127.0.0.1:0", False)


def test_proxies_are_listed_by_name_in_order(api: Http):
    """Keys sorted, each with its proxy."""
    for name in ("b", "c", "a"):
        create(api, name)

    assert list(api.call("GET", "/proxies").json) == ["a", "b", "c"]


def test_a_seed_of_its_own_is_echoed_behind_toxiproxys_keys(api: Http):
    """In the answer, alone and in the list; all other bytes are those of a proxy without one."""
    created = create(api, harness={"seed": 11})

    listen = created.json["listen"]
    assert created.status == 201
    assert created.body.decode() == (
        f'{{"name":"edge","listen":"{listen}","upstream":"127.0.0.1:1",'
        '"enabled":true,"Logger":{},"toxics":[],"harness":{"seed":11}}'
    )
    assert api.call("GET", "/proxies/edge").body == created.body
    assert api.call("GET", "/proxies").body == b'{"edge":' + created.body + b"}"


@pytest.mark.parametrize(
    ("ours", "words"),
    [
        ({"seed": 1.5}, "harness.seed was invalid, expected a whole number, found 1.5"),
        ({"seed": "7"}, "harness.seed was invalid"),
        ({}, "harness takes nothing but seed and tap, found neither"),
        ({"tap": 1}, "harness.tap was invalid, expected a bool, found number"),
        ({"seed": 7, "speed": 8}, 'harness takes nothing but seed and tap, found ["speed"]'),
        (7, "number into field harness of type object"),
    ],
)
def test_what_is_wrong_under_our_key_makes_no_proxy(api: Http, ours: object, words: str):
    """400 that says what was expected."""
    reply = create(api, harness=ours)

    assert reply.status == 400
    assert words in reply.error
    assert api.call("GET", "/proxies").json == {}


def test_our_key_as_null_is_absent(api: Http):
    """Like any other."""
    reply = create(api, harness=None)

    assert (reply.status, "harness" in reply.json) == (201, False)


@pytest.mark.parametrize("method", ["POST", "PATCH"])
@pytest.mark.parametrize("first", [None, {"seed": 7}])
def test_a_seed_cannot_be_changed(api: Http, method: str, first: object):
    """400, and the rest of that update is not carried out either."""
    before = create(api, harness=first).body

    reply = api.call(method, "/proxies/edge", {"enabled": False, "harness": {"seed": 8}})

    assert reply.status == 400
    assert reply.error == "harness cannot be changed; remove the proxy and make it anew"
    assert api.call("GET", "/proxies/edge").body == before


def test_what_was_read_may_be_sent_back(api: Http):
    """An update with the seed that the proxy has is one like any other."""
    state = create(api, harness={"seed": 7}).json

    reply = api.call("POST", "/proxies/edge", state | {"enabled": False})

    assert (reply.status, reply.json) == (200, state | {"enabled": False})


def test_a_name_that_is_taken_is_refused(edge: Http):
    """409, and the first proxy stays what it was."""
    before = edge.call("GET", "/proxies/edge").json

    reply = create(edge, upstream="127.0.0.1:2")

    assert (reply.status, reply.error) == (409, "proxy already exists")
    assert edge.call("GET", "/proxies/edge").json == before


@pytest.mark.parametrize("missing", ["name", "upstream"])
@pytest.mark.parametrize("value", [{}, {"value": ""}, {"value": None}])
def test_a_proxy_needs_name_and_upstream(api: Http, missing: str, value: dict[str, Any]):
    """Absent, empty or null: 400 with the field's name, nothing created."""
    body = {"name": "edge", "upstream": UP, "listen": "127.0.0.1:0"}
    del body[missing]
    if value:
        body[missing] = value["value"]

    reply = api.call("POST", "/proxies", body)

    assert (reply.status, reply.error) == (400, f"missing required field: {missing}")
    assert api.call("GET", "/proxies").json == {}


def test_a_port_in_use_is_refused(api: Http):
    """500 with the system's words; nothing is registered, and the name is free."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        reply = create(api, listen=listen)

        assert reply.status == 500
        assert reply.error == f"listen tcp {listen}: bind: address already in use"
        assert api.call("GET", "/proxies").json == {}
    assert create(api, listen=listen).status == 201


@pytest.mark.parametrize("listen", ["nope", "127.0.0.1", "127.0.0.1:99999", "127.0.0.1:x", "::1:5"])
def test_a_listen_address_that_is_none_is_refused(api: Http, listen: str):
    """500 as in Toxiproxy, with the text that was given."""
    reply = create(api, listen=listen)

    assert reply.status in (400, 500)
    assert api.call("GET", "/proxies").json == {}


@pytest.mark.parametrize(
    "fields",
    [
        {"listen": "0.0.0.0:0"},
        {"listen": "192.0.2.1:80"},
        {"listen": ":0"},
        {"upstream": "192.0.2.1:80"},
        {"upstream": "example.com:80"},
        {"upstream": "[2001:db8::1]:80"},
    ],
)
def test_what_is_not_on_this_machine_is_refused(api: Http, fields: dict[str, str]):
    """400 that names the address and the option that would allow it; nothing created."""
    reply = create(api, **fields)

    assert reply.status == 400
    assert "--allow-remote" in reply.error
    assert next(iter(fields.values())) in reply.error
    assert api.call("GET", "/proxies").json == {}


@pytest.mark.parametrize("fields", [{"listen": "0.0.0.0:0"}, {"upstream": "192.0.2.1:80"}])
def test_a_proxy_is_not_moved_off_this_machine(edge: Http, fields: dict[str, str]):
    """An update is held to the same rule and changes nothing."""
    before = edge.call("GET", "/proxies/edge").json

    assert edge.call("POST", "/proxies/edge", fields).status == 400
    assert edge.call("GET", "/proxies/edge").json == before


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_both_methods_update_a_proxy(edge: Http, method: str):
    """Toxiproxy's clients use the one or the other."""
    reply = edge.call(method, "/proxies/edge", {"enabled": False})

    assert (reply.status, reply.json["enabled"]) == (200, False)


def test_an_update_of_nothing_changes_nothing(edge: Http):
    """Absent fields keep their value, and so does a name that cannot be changed."""
    before = edge.call("GET", "/proxies/edge").json

    assert edge.call("POST", "/proxies/edge", {"name": "other"}).json == before
    assert edge.call("GET", "/proxies/edge").json == before


def test_a_deleted_proxy_is_gone(edge: Http):
    """204 without body or content type, then 404; its port refuses connections."""
    host, _, port = edge.call("GET", "/proxies/edge").json["listen"].rpartition(":")

    reply = edge.call("DELETE", "/proxies/edge")

    assert (reply.status, reply.body) == (204, b"")
    assert "content-type" not in reply.headers
    assert edge.call("GET", "/proxies/edge").status == 404
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=5)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        (method, f"/proxies/{path}")
        for method in ("GET", "POST", "PATCH", "DELETE")
        for path in ("nobody", "edge/toxics/nobody", "nobody/toxics/x")
    ],
)
def test_what_is_not_there_is_not_found(edge: Http, method: str, path: str):
    """404 as JSON labelled as text, before the body is looked at."""
    reply = edge.call(method, path, b"{")

    assert reply.status == 404
    assert reply.error == ("toxic not found" if "edge" in path else "proxy not found")
    assert reply.body.endswith(b'"status":404}\n')
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"
    assert reply.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/", "/nope", "/proxies/", "/proxies/edge/", "/version/x", "//["])
def test_an_unknown_path_is_not_found(edge: Http, path: str):
    """404 in plain text."""
    reply = edge.call("GET", path)

    assert (reply.status, reply.body) == (404, b"404 page not found\n")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/version"),
        ("DELETE", "/proxies"),
        ("PUT", "/proxies/edge"),
        ("HEAD", "/proxies"),
        ("OPTIONS", "/proxies"),
        ("GET", "/reset"),
        ("POST", "/harness/events"),
    ],
)
def test_a_wrong_method_is_refused(edge: Http, method: str, path: str):
    """405 with an empty body."""
    reply = edge.call(method, path)

    assert (reply.status, reply.body) == (405, b"")


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_browsers_are_refused(edge: Http, method: str):
    """A web page cannot drive the proxy through its reader's browser."""
    reply = edge.call(method, "/proxies/edge", {"enabled": False}, agent="Mozilla/5.0 (X11)")

    assert (reply.status, reply.body) == (403, b"User agent not allowed\n")
    assert edge.call("GET", "/proxies/edge").json["enabled"] is True


@pytest.mark.parametrize("agent", ["", "mozilla/5.0", "curl Mozilla/5.0"])
def test_other_agents_are_served(edge: Http, agent: str):
    """Only what begins with exactly that word is a browser."""
    assert edge.call("GET", "/proxies", agent=agent).status == 200


@pytest.mark.parametrize("name", ["a b", "ü", "<&>", "a:b@c", "a/b", "%2F", "..", "?x=1", "\ufffd"])
def test_odd_names_are_reached_percent_encoded(api: Http, name: str):
    """A name is data; a path spells it out."""
    assert create(api, name).json["name"] == name

    path = f"/proxies/{quote(name, safe='')}"
    assert api.call("GET", path).json["name"] == name
    assert api.call("DELETE", path).status == 204


def test_half_a_character_in_a_name_breaks_nothing(api: Http):
    """What cannot be written back is replaced on reading, so that lists still work."""
    api.call("POST", "/proxies", json.dumps({"name": "a\ud800", "upstream": UP}).encode())

    assert list(api.call("GET", "/proxies").json) == ["a\ufffd"]


@pytest.mark.parametrize(
    "since",
    ["-1", "x", "1.5", "9" * 30, pytest.param("9" * 5_000, id="5000 digits"), "²", "%C2%B2"],
)
def test_since_must_be_a_number(api: Http, since: str):
    """400 that says so, however long it is."""
    reply = api.call("GET", f"/harness/events?since={quote(since, safe='%')}")

    assert reply.status == 400
    assert reply.error.startswith("since was invalid")


def test_reset_heals_every_proxy(edge: Http):
    """Toxics go, disabled proxies listen again where they did."""
    create(edge, "other")
    edge.call("POST", "/proxies/edge/toxics", {"type": "latency"})
    edge.call("POST", "/proxies/other/toxics", {"type": "timeout", "stream": "upstream"})
    edge.call("POST", "/proxies/other", {"enabled": False})
    before = edge.call("GET", "/proxies").json

    reply = edge.call("POST", "/reset", b"ignored")

    assert (reply.status, reply.body) == (204, b"")
    for name, state in edge.call("GET", "/proxies").json.items():
        assert (state["enabled"], state["toxics"]) == (True, [])
        assert state["listen"] == before[name]["listen"]


def test_reset_heals_the_others_where_one_cannot_listen(edge: Http):
    """500 names the one; Toxiproxy would leave those behind it as they are."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        create(edge, "a", listen=f"127.0.0.1:{taken.getsockname()[1]}", enabled=False)
        edge.call("POST", "/proxies/edge/toxics", {"type": "latency"})
        edge.call("POST", "/proxies/edge", {"enabled": False})

        reply = edge.call("POST", "/reset")

    assert reply.status == 500
    assert "address already in use" in reply.error
    edge_state = edge.call("GET", "/proxies/edge").json
    assert (edge_state["enabled"], edge_state["toxics"]) == (True, [])
