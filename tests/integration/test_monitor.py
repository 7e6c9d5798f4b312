"""The monitor over real sockets, before a made-up daemon."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from harness.address import Address
from harness.errors import InvalidValue
from harness.http.client import Answer, exchange
from harness.http.messages import Options
from harness.refdaemon import monitor
from harness.refdaemon.events import Events
from harness.refdaemon.monitor import Health, serve_monitor
from tests.integration.proxy_process import eventually
from tests.integration.wire import BOUND_S, End

TOKEN = "öffne dich"
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


class MadeUp:
    """A daemon that is as a test wants it."""

    def __init__(self) -> None:
        self.events = Events(keep=1000)
        self.is_live = True
        self.why_not: tuple[str, ...] = ()
        self.wrong: InvalidValue | None = None
        self.given: list[Any] = []

    def health(self) -> Health:
        return Health(live=self.is_live, ready=not self.why_not, why_not=self.why_not)

    def families(self) -> Iterable[Metric]:
        calls = CounterMetricFamily("harness_calls", "Calls.", labels=["outcome"])
        calls.add_metric(['ok "quoted"\n'], 7)
        yield calls
        yield HistogramMetricFamily(
            "harness_wait_seconds", "Waits.", buckets=[("0.5", 2), ("+Inf", 3)], sum_value=4.5
        )

    def status(self) -> Mapping[str, Any]:
        return {"connections": 3, "breakers": {"provider": {"state": "open"}}}

    def reload(self) -> Mapping[str, Any]:
        return self._changed("reload")

    def reconfigure(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        return self._changed(values)

    def _changed(self, how: Any) -> Mapping[str, Any]:
        if self.wrong is not None:
            raise self.wrong
        self.given.append(how)
        return {"changed": {"retry.attempts": 5}}


class Seen:
    """A monitor, and who asks it."""

    def __init__(self, port: int) -> None:
        self.address = Address("127.0.0.1", port)

    async def ask(self, method: str, path: str, *, body: bytes = b"", **headers: str) -> Answer:
        return await exchange(
            self.address, method, path, headers=headers, body=body, max_bytes=1 << 20
        )

    async def change(self, method: str, path: str, body: object = None) -> Answer:
        data = json.dumps(body).encode()
        return await self.ask(method, path, body=data, Authorization=f"Bearer {TOKEN}")

    async def follows(self) -> int:
        """Follow the events for a moment; the status of the answer."""
        async with self._dialled("") as (_, status):
            return status

    @asynccontextmanager
    async def following(self, query: str = "") -> AsyncIterator[Following]:
        async with self._dialled(query) as (end, status):
            assert status == 200
            yield Following(end)

    @asynccontextmanager
    async def _dialled(self, query: str) -> AsyncIterator[tuple[End, int]]:
        end = End(*await asyncio.open_connection(self.address.host, self.address.port))
        try:
            # Without chunks, which are HTTP/1.1's and tested elsewhere.
            end.writer.write(f"GET /events{query} HTTP/1.0\r\n\r\n".encode())
            head = await end.reader.readuntil(b"\r\n\r\n")
            yield end, int(head.split()[1])
        finally:
            end.writer.transport.abort()


class Following:
    """A reader of the stream of events."""

    def __init__(self, end: End) -> None:
        self.end = end

    async def line(self) -> bytes:
        return await self.end.reader.readline()

    async def event(self) -> dict[str, Any]:
        event: dict[str, Any] = json.loads(await self.line())
        return event


@asynccontextmanager
async def monitored(subject: MadeUp, **settings: Any) -> AsyncIterator[Seen]:
    served = await serve_monitor(subject, **{"token": TOKEN, **settings})
    try:
        async with asyncio.timeout(BOUND_S):
            yield Seen(served.port)
    finally:
        await served.close()


@pytest.fixture
def subject() -> MadeUp:
    return MadeUp()


@pytest.fixture
async def seen(subject: MadeUp) -> AsyncIterator[Seen]:
    async with monitored(subject) as found:
        yield found


@pytest.mark.parametrize(
    ("is_live", "why_not", "statuses"),
    [
        (True, (), [200, 200, 200]),
        (True, ("draining",), [503, 200, 503]),
        (False, (), [503, 503, 200]),
        (False, ("draining", "stuck"), [503, 503, 503]),
    ],
)
async def test_health_says_how_it_is_and_why(
    subject: MadeUp, seen: Seen, is_live: bool, why_not: tuple[str, ...], statuses: list[int]
):
    """
    By status for machines, in words for people.
    """
    subject.is_live, subject.why_not = is_live, why_not
    paths = ("/health", "/health/live", "/health/ready")
    answers = [await seen.ask("GET", path) for path in paths]

    assert [answer.status for answer in answers] == statuses
    assert {answer.headers["content-type"] for answer in answers} == {"application/json"}
    expected = {"live": is_live, "ready": not why_not, "why_not": list(why_not)}
    assert [json.loads(answer.body) for answer in answers] == [expected] * 3


async def test_prometheus_reads_the_metrics(seen: Seen):
    """
    With its own parser, figure by figure, labels with odd characters included.
    """
    answer = await seen.ask("GET", "/metrics")
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }

    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4;")
    assert samples == {
        ("harness_calls_total", 'ok "quoted"\n'): 7,
        ("harness_wait_seconds_bucket", "0.5"): 2,
        ("harness_wait_seconds_bucket", "+Inf"): 3,
        ("harness_wait_seconds_count",): 3,
        ("harness_wait_seconds_sum",): 4.5,
    }


async def test_who_asks_for_openmetrics_gets_it(seen: Seen):
    """
    The parser of that format is stricter.
    """
    answer = await seen.ask("GET", "/metrics", Accept=OPENMETRICS)
    names = [family.name for family in openmetrics_families(answer.body.decode())]

    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert names == ["harness_calls", "harness_wait_seconds"]


async def test_without_the_extra_the_metrics_say_what_to_install(
    seen: Seen, monkeypatch: pytest.MonkeyPatch
):
    """
    All else is there.
    """
    monkeypatch.delitem(sys.modules, "harness.refdaemon.scraping", raising=False)
    monkeypatch.setitem(sys.modules, "prometheus_client.exposition", None)
    answer = await seen.ask("GET", "/metrics")

    assert (answer.status, "ws-harness[metrics]" in answer.body.decode()) == (501, True)
    assert (await seen.ask("GET", "/health")).status == 200


async def test_status_is_all_there_is_to_know(seen: Seen):
    """
    As the daemon tells it.
    """
    answer = await seen.ask("GET", "/status")

    assert json.loads(answer.body) == {
        "connections": 3,
        "breakers": {"provider": {"state": "open"}},
    }


async def test_a_head_is_an_answer_without_its_body(seen: Seen):
    """
    Of whatever can be read; a stream of events would have no end.
    """
    for path in ("/health", "/metrics", "/status", "/events"):
        answer = await seen.ask("HEAD", path)
        assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/", 404, None),
        ("GET", "/health/", 404, None),
        ("GET", "/Metrics", 404, None),
        ("PUT", "/nowhere", 404, None),
        ("POST", "/health", 405, "GET, HEAD"),
        ("DELETE", "/events", 405, "GET, HEAD"),
        ("GET", "/reload", 405, "POST"),
        ("HEAD", "/config", 405, "PUT"),
        ("POST", "/config", 405, "PUT"),
    ],
)
async def test_there_is_nothing_else(
    seen: Seen, method: str, path: str, status: int, allow: str | None
):
    """
    404 names what there is, 405 what is allowed.
    """
    answer = await seen.ask(method, path)

    assert (answer.status, answer.headers.get("allow")) == (status, allow)
    if method != "HEAD":
        assert json.loads(answer.body).keys() == {"error"}


async def test_a_mistake_of_the_daemons_is_a_500_in_json(
    subject: MadeUp, seen: Seen, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """
    A health that cannot be told is none; what else is asked is answered.
    """
    monkeypatch.setattr(subject, "health", lambda: 1 / 0)
    answer = await seen.ask("GET", "/health")

    assert (answer.status, "division by zero" in json.loads(answer.body)["error"]) == (500, True)
    assert (await seen.ask("GET", "/status")).status == 200
    assert "monitor: GET /health failed" in caplog.text


# ---- changes


async def test_who_has_the_token_changes_the_configuration(subject: MadeUp, seen: Seen):
    """
    By the sources, or by values; the answer is what changed.
    """
    values = {"retry.attempts": 5, "breaker.slow_call_s": None, "server.host": "::1"}
    answers = [await seen.change("POST", "/reload"), await seen.change("PUT", "/config", values)]

    assert [answer.status for answer in answers] == [200, 200]
    assert json.loads(answers[1].body) == {"changed": {"retry.attempts": 5}}
    assert subject.given == ["reload", values]


CHANGES = [("POST", "/reload"), ("PUT", "/config")]


@pytest.mark.parametrize(("method", "path"), CHANGES)
@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer wrong",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN}, Bearer {TOKEN}",
        f"Basic {TOKEN}",
        TOKEN,
    ],
)
async def test_without_the_token_nothing_changes(
    subject: MadeUp, seen: Seen, method: str, path: str, header: str
):
    """
    401, with how to authorize.
    """
    headers = {"Authorization": header} if header else {}
    answer = await seen.ask(method, path, body=b'{"retry.attempts": 5}', **headers)

    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert subject.given == []


@pytest.mark.parametrize("header", ["bearer  " + TOKEN, "BEARER " + TOKEN])
async def test_the_scheme_may_be_written_in_any_case(seen: Seen, header: str):
    """
    As HTTP has it.
    """
    assert (await seen.ask("POST", "/reload", Authorization=header)).status == 200


@pytest.mark.parametrize(("method", "path"), CHANGES)
@pytest.mark.parametrize("header", [None, "Bearer", "Bearer x"])
async def test_where_no_token_is_set_nothing_can_be_changed(
    subject: MadeUp, method: str, path: str, header: str | None
):
    """
    Not with an empty one either; all can be read.
    """
    headers = {} if header is None else {"Authorization": header}
    async with monitored(subject, token="") as seen:
        answer = await seen.ask(method, path, body=b"{}", **headers)
        status = (await seen.ask("GET", "/status")).status

    assert (answer.status, status) == (403, 200)
    assert subject.given == []


@pytest.mark.parametrize(("method", "path"), CHANGES)
async def test_a_wrong_configuration_is_told_with_all_that_is_wrong(
    subject: MadeUp, seen: Seen, method: str, path: str
):
    """
    400, every complaint with its key.
    """
    subject.wrong = InvalidValue(
        "configuration: 2 problems", [("retry.atempts", "unknown key"), ("server.port", "too high")]
    )
    answer = await seen.change(method, path, {})

    assert answer.status == 400
    assert json.loads(answer.body) == {
        "error": "configuration: 2 problems",
        "complaints": [
            {"where": "retry.atempts", "what": "unknown key"},
            {"where": "server.port", "what": "too high"},
        ],
    }


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"a"', b'{"a": NaN}', b"\xff", b"[" * 9999])
async def test_what_is_no_table_of_values_is_refused(subject: MadeUp, seen: Seen, body: bytes):
    """
    Before the daemon sees it.
    """
    answer = await seen.ask("PUT", "/config", body=body, Authorization=f"Bearer {TOKEN}")

    assert (answer.status, json.loads(answer.body).keys()) == (400, {"error"})
    assert subject.given == []


# ---- events


async def test_events_are_told_as_they_happen(subject: MadeUp, seen: Seen):
    """
    First what there is, then each when it comes.
    """
    subject.events.note("session new", {"session": "a"})
    async with seen.following() as reader, seen.following("?since=1") as late:
        first = await reader.event()
        for n in range(3):
            subject.events.note("breaker changed", {"n": n})
            seconds = [await reader.event(), await late.event()]
            assert [(each["seq"], each["n"]) for each in seconds] == [(n + 2, n)] * 2

    assert (first["seq"], first["kind"], first["session"]) == (1, "session new", "a")
    assert {"time_ns", "clock"} <= first.keys()


async def test_events_without_following_end_after_what_is_there(subject: MadeUp, seen: Seen):
    """
    From a number on; what is forgotten is counted.
    """
    for n in range(1500):
        subject.events.note("made up", {"n": n})
    whole = await seen.ask("GET", "/events?since=0&follow=0")
    rest = await seen.ask("GET", "/events?follow=0&since=1498")
    none = await seen.ask("GET", "/events?since=1500&follow=0")
    lines = [json.loads(line) for line in whole.body.splitlines()]

    assert whole.headers["content-type"] == "application/x-ndjson"
    assert (lines[0]["kind"], lines[0]["count"], len(lines)) == ("lost", 500, 1001)
    assert [json.loads(line)["n"] for line in rest.body.splitlines()] == [1498, 1499]
    assert (none.status, none.body) == (200, b"")


async def test_a_long_history_is_told_whole(subject: MadeUp, seen: Seen):
    """
    More than goes out at once, in order.
    """
    for _ in range(1000):
        subject.events.note("made up", {"padding": "x" * 200})
    async with seen.following() as reader:
        told = [(await reader.event())["seq"] for _ in range(1000)]

    assert told == list(range(1, 1001))


async def test_quiet_is_told_by_empty_lines(subject: MadeUp):
    """
    So that a reader whose machine is gone is noticed; an event comes all the same.
    """
    async with (
        monitored(subject, quiet_s=0.02) as seen,
        seen.following() as reader,
    ):
        assert [await reader.line() for _ in range(3)] == [b"\n"] * 3
        subject.events.note("new", {})
        while (line := await reader.line()) == b"\n":
            pass

    assert json.loads(line)["kind"] == "new"


@pytest.mark.parametrize("since", ["-1", "x", "", "1.0", "%C2%B2", "9" * 99])
async def test_a_number_that_is_none_is_refused(seen: Seen, since: str):
    """
    By the name of what is wrong.
    """
    answer = await seen.ask("GET", f"/events?since={since}")

    assert (answer.status, json.loads(answer.body)["error"][:6]) == (400, "since:")


@pytest.mark.parametrize("follow", ["2", "", "true"])
async def test_to_follow_is_yes_or_no(seen: Seen, follow: str):
    """
    Nothing else is taken for either.
    """
    answer = await seen.ask("GET", f"/events?follow={follow}")

    assert (answer.status, json.loads(answer.body)["error"][:7]) == (400, "follow:")


async def test_a_slow_reader_of_events_is_dropped_and_no_other(
    subject: MadeUp, monkeypatch: pytest.MonkeyPatch
):
    """
    It reads nothing while much happens, and its place becomes free. One that reads misses nothing.
    """
    monkeypatch.setattr(monitor, "_MAX_FOLLOWERS", 2)
    hasty = Options(write_timeout_s=0.2)
    async with monitored(subject, options=hasty) as seen, seen.following() as reader:
        with socket.socket() as lazy:
            lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            lazy.connect((seen.address.host, seen.address.port))
            lazy.sendall(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
            await eventually(seen.follows, lambda status: status == 503)
            for told in range(800):
                subject.events.note("made up", {"padding": "x" * 30_000})
                assert (await reader.event())["seq"] == told + 1

            await eventually(seen.follows, lambda status: status == 200)


async def test_no_more_than_some_follow_at_once(seen: Seen, monkeypatch: pytest.MonkeyPatch):
    """
    The next is told to ask without following, and a place is free once one has left.
    """
    monkeypatch.setattr(monitor, "_MAX_FOLLOWERS", 1)
    async with seen.following():
        refused = await seen.ask("GET", "/events")
        finite = await seen.ask("GET", "/events?follow=0")

    assert (refused.status, finite.status) == (503, 200)
    assert "follow=0" in json.loads(refused.body)["error"]
    await eventually(seen.follows, lambda status: status == 200)


async def test_a_monitor_that_is_closed_lets_its_readers_go(subject: MadeUp):
    """
    Those of events, and those who only hold a connection.
    """
    served = await serve_monitor(subject)
    seen = Seen(served.port)
    async with asyncio.timeout(BOUND_S), seen.following() as reader:
        await served.close()
        assert await reader.end.ending() in ("fin", "reset")
    with pytest.raises(ConnectionRefusedError):
        await seen.ask("GET", "/health")
