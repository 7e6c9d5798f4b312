"""
The monitor: how a daemon is, on a port of its own.

    GET  /health          200 where it is live and ready, else 503: {live, ready, why_not: [str]}
    GET  /health/live     the same, 200 where it is live
    GET  /health/ready    the same, 200 where it is ready
    GET  /metrics         for Prometheus, text or OpenMetrics, as it asks; 501 without the extra
    GET  /status          all there is to know, JSON
    GET  /events?since=N  what happened after event N (0: all that is kept), one JSON object a line,
                          and then what happens, until the reader leaves; an empty line now and
                          then says that all is quiet. With follow=0 it ends after what is there.
    POST /reload          read the configuration's sources again
    PUT  /config          {"section.key": value}: change the configuration
        200 what changed; 400 {error, complaints: [{where, what}]}, and nothing has changed

Whoever reaches the port may read. A change needs `Authorization: Bearer TOKEN`: 401 without it.
Where no token is set nothing is changed here, wherever the port is: 403. (A web page can make its
reader's browser ask a loopback address for anything, but not with a token it does not have.)
All else is 404, another method 405, each {error}.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

import msgspec

from harness.errors import InvalidValue
from harness.http.messages import Header, Options, Request, Response, Stream
from harness.http.server import Listening, listen
from harness.refdaemon.events import Event
from harness.refdaemon.subject import Health, Subject

__all__ = ["Health", "Monitor", "Subject", "serve_monitor"]

_JSON: Final = "application/json"
_LINES: Final = "application/x-ndjson"
_EVENTS_AT_ONCE: Final = 200
_MAX_FOLLOWERS: Final = 32
_QUIET_S: Final = 15.0
_MAX_SEQ_DIGITS: Final = 18


class Monitor:
    """
    A monitor that is there, had from `serve_monitor`. Whoever has it closes it.

    Attributes:
        host: The address it listens on.
        port: The port it listens on.
    """

    def __init__(self, listening: Listening) -> None:
        self._listening = listening
        self.host, self.port = listening.host, listening.port

    async def close(self) -> None:
        """Listen no more, and let its readers go."""
        await self._listening.close()


async def serve_monitor(
    subject: Subject,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    token: str = "",
    options: Options = Options(),  # noqa: B008 (frozen)
    quiet_s: float = _QUIET_S,
) -> Monitor:
    """
    Tell how something is.

    Args:
        subject: What is monitored.
        host: The address to listen on.
        port: The port; 0 lets the system choose.
        token: What a change must carry; "" allows none.
        options: The bounds of its server; its name and its words for failures are the monitor's.
        quiet_s: After so many seconds without an event its followers get an empty line, so that
            one whose machine is gone is noticed.

    Raises:
        OSError: If it cannot listen there.
    """
    desk = _Desk(subject, token.encode(), quiet_s)
    own = replace(options, name="monitor", failed=_error)
    return Monitor(await listen(desk.handle, host, port, options=own))


class _Desk:
    """Answers the requests."""

    def __init__(self, subject: Subject, token: bytes, quiet_s: float) -> None:
        self._subject = subject
        self._token = token
        self._quiet_s = quiet_s
        self._followers = 0
        self._paths: dict[str, tuple[str, Callable[[Request], Response | Stream]]] = {
            "/health": ("GET", lambda _: self._health(live=True, ready=True)),
            "/health/live": ("GET", lambda _: self._health(live=True)),
            "/health/ready": ("GET", lambda _: self._health(ready=True)),
            "/metrics": ("GET", self._metrics),
            "/status": ("GET", lambda _: _json(200, subject.status())),
            "/events": ("GET", self._events),
            "/reload": ("POST", lambda _: _changed(subject.reload)),
            "/config": ("PUT", self._config),
        }

    async def handle(self, request: Request) -> Response | Stream:
        if request.path not in self._paths:
            return _error(404, f"nothing is here; there are {', '.join(self._paths)}")
        method, answer = self._paths[request.path]
        allowed = ("GET", "HEAD") if method == "GET" else (method,)
        if request.method not in allowed:
            return _error(405, f"expected {method}", ("Allow", ", ".join(allowed)))
        refused = None if method == "GET" else self._refused(request)
        return answer(request) if refused is None else refused

    def _refused(self, request: Request) -> Response | None:
        if not self._token:
            return _error(403, "no token for changes is set; so nothing can be changed here")
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        # Headers are read as latin-1, whatever they are; a token is UTF-8.
        same = hmac.compare_digest(given.strip().encode("latin-1"), self._token)
        if scheme.lower() == "bearer" and same:
            return None
        return _error(401, "expected Authorization: Bearer TOKEN", ("WWW-Authenticate", "Bearer"))

    def _health(self, *, live: bool = False, ready: bool = False) -> Response:
        health = self._subject.health()
        well = (health.live or not live) and (health.ready or not ready)
        return _json(200 if well else 503, health)

    def _metrics(self, request: Request) -> Response:
        try:
            # An extra, and slow to import: only whoever is scraped pays for it.
            from harness.refdaemon.scraping import page
        except ImportError:
            return _error(
                501, "prometheus-client is not installed: pip install ws-harness[metrics]"
            )
        accept = request.headers.get("accept", "")
        content_type, body = page(self._subject.families, accept=accept)
        return Response(200, body, content_type)

    def _events(self, request: Request) -> Response | Stream:
        query = request.query
        since, follow = query.get("since", "0"), query.get("follow", "1")
        if not (since.isascii() and since.isdigit()) or len(since) > _MAX_SEQ_DIGITS:
            return _error(400, "since: expected the number of an event")
        if follow not in ("0", "1"):
            return _error(400, "follow: expected 0 or 1")
        if follow == "0" or request.method == "HEAD":
            return Response(200, _lines(self._subject.events.since(int(since))), _LINES)
        if self._followers >= _MAX_FOLLOWERS:
            return _error(503, f"{_MAX_FOLLOWERS} follow already; ask with follow=0")
        return Stream(200, _LINES, self._follow(int(since)))

    async def _follow(self, seq: int) -> AsyncGenerator[bytes, None]:
        events = self._subject.events
        self._followers += 1
        try:
            while True:
                found = events.since(seq, most=_EVENTS_AT_ONCE)
                if found:
                    seq = found[-1]["seq"]
                    yield _lines(found)
                    continue
                try:
                    async with asyncio.timeout(self._quiet_s):
                        await events.news(seq)
                except TimeoutError:
                    yield b"\n"
        finally:
            self._followers -= 1

    def _config(self, request: Request) -> Response:
        try:
            values = msgspec.json.decode(request.body, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError) as wrong:
            return _error(400, f'expected an object of "section.key" to value: {wrong}')
        return _changed(lambda: self._subject.reconfigure(values))


def _changed(change: Callable[[], Mapping[str, Any]]) -> Response:
    try:
        return _json(200, change())
    except InvalidValue as wrong:
        complaints = [{"where": where, "what": what} for where, what in wrong.details]
        return _json(400, {"error": wrong.headline, "complaints": complaints})


def _lines(events: Iterable[Event]) -> bytes:
    return b"".join(msgspec.json.encode(event) + b"\n" for event in events)


def _json(status: int, value: Any, *headers: Header) -> Response:
    return Response(status, msgspec.json.encode(value) + b"\n", _JSON, headers)


def _error(status: int, text: str, *headers: Header) -> Response:
    return _json(status, {"error": text}, *headers)
