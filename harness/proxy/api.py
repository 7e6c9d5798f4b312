"""
Toxiproxy's HTTP API without HTTP: a method, a path and a body in, an answer out.

Statuses and error texts are Toxiproxy 2.12's, so that its clients read them as
they always did. Beyond it: `GET /harness/events?since=N`, `GET /harness/about`, and a
seed for one proxy, given as `"harness": {"seed": 7}` when it is made.
Where we refuse what it takes (values that make no sense, targets that are not on
this machine), the answer is a 400 that says why.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Final, cast
from urllib.parse import parse_qs, unquote

from harness import __version__
from harness.address import Address, refuse_remote
from harness.errors import InvalidValue
from harness.faults.base import STREAMS, Fault, Stream, Toxic
from harness.proxy.bodies import (
    Answer,
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
from harness.proxy.ports import reason, resolved
from harness.proxy.proxies import NamedToxic, Proxy
from harness.records import write_line
from harness.registry import catalogue

__all__ = ["Answer", "Api"]

TOXIPROXY_VERSION: Final = "2.12.0"
"""The version whose API this is."""


class Api:
    """
    The proxies of one server.

    Args:
        seed: Root seed of the draws of proxies that bring none.
        allow_remote: Whether proxies may listen on, and connect to, other machines.
    """

    def __init__(self, *, seed: int, allow_remote: bool = False) -> None:
        self.seed = seed
        self.events = EventLog()
        self._allow_remote = allow_remote
        self._proxies: dict[str, Proxy] = {}
        # Whatever starts, moves or removes a proxy awaits; one at a time.
        self._changing = asyncio.Lock()
        faults = catalogue("harness.faults", Fault)
        self._toxics = {name: f for name, f in faults.items() if issubclass(f, Toxic)}

    async def handle(self, method: str, target: str, body: bytes) -> Answer:
        """Answer one request; whatever is wrong with it is an answer too."""
        path, _, query = target.partition("?")
        route = self._route([unquote(part) for part in path.split("/")[1:]])
        if route is None:
            return Answer(404, b"404 page not found\n", "text/plain; charset=utf-8")
        handler = route.get(method)
        if handler is None:
            return Answer(405, content_type=None)
        try:
            return await handler(Request(body, parse_qs(query)))
        except Refused as refused:
            return error(refused.status, refused.text)
        except InvalidValue as invalid:
            rows = "; ".join(f"{label}: {text}" for label, text in invalid.details)
            return error(400, f"{invalid.headline}; {rows}" if rows else invalid.headline)

    async def close(self) -> None:
        """Close every proxy."""
        await asyncio.gather(*(proxy.close() for proxy in self._proxies.values()))

    def _route(self, path: list[str]) -> dict[str, Handler] | None:
        if "" in path:
            return None
        match path:
            case ["version"]:
                return {"GET": self._version}
            case ["proxies"]:
                return {"GET": self._list, "POST": self._alone(self._create)}
            case ["proxies", name]:
                update = self._alone(_bind(self._update, name))
                return {
                    "GET": _bind(self._show, name),
                    "POST": update,
                    "PATCH": update,
                    "DELETE": self._alone(_bind(self._delete, name)),
                }
            case ["proxies", name, "toxics"]:
                return {
                    "GET": _bind(self._list_toxics, name),
                    "POST": _bind(self._add_toxic, name),
                }
            case ["proxies", name, "toxics", toxic]:
                change = _bind(self._change_toxic, name, toxic)
                return {
                    "GET": _bind(self._show_toxic, name, toxic),
                    "POST": change,
                    "PATCH": change,
                    "DELETE": _bind(self._remove_toxic, name, toxic),
                }
            case ["reset"]:
                return {"POST": self._alone(self._reset)}
            case ["harness", "events"]:
                return {"GET": self._events_since}
            case ["harness", "about"]:
                return {"GET": self._about}
        return None

    def _alone(self, handler: Handler) -> Handler:
        async def handle(request: Request) -> Answer:
            async with self._changing:
                return await handler(request)

        return handle

    async def _version(self, request: Request) -> Answer:
        body = f'{{"version": "{TOXIPROXY_VERSION}"}}\n'.encode()
        return Answer(200, body, "application/json;charset=utf-8")

    async def _about(self, request: Request) -> Answer:
        about = {"harness": __version__, "pid": os.getpid(), "seed": self.seed}
        return json_answer(200, about | {"events": self.events.newest})

    async def _events_since(self, request: Request) -> Answer:
        text = request.query.get("since", ["0"])[-1]
        if not (text.isascii() and text.isdigit() and len(text) < 20):
            raise Refused(400, f"since was invalid, expected a whole number, found {text}")
        lines = b"".join(write_line(event) for event in self.events.since(int(text)))
        return Answer(200, lines, "application/x-ndjson")

    async def _list(self, request: Request) -> Answer:
        return json_answer(
            200, {name: proxy_json(proxy) for name, proxy in sorted(self._proxies.items())}
        )

    async def _create(self, request: Request) -> Answer:
        fields = request.fields(
            {"name": str, "listen": str, "upstream": str, "enabled": bool, "harness": dict}
        )
        for name in ("name", "upstream"):
            if not fields.get(name):
                raise Refused(400, f"missing required field: {name}")
        if fields["name"] in self._proxies:
            raise Refused(409, "proxy already exists")
        proxy = Proxy(
            fields["name"],
            self._address(fields.get("listen") or self._default_listen, "listen"),
            self._address(fields["upstream"], "upstream"),
            events=self.events,
            seed=self.seed,
            own=own_of(fields),
        )
        if fields.get("enabled", True):
            await _start(proxy)
        self._proxies[proxy.name] = proxy
        return json_answer(201, proxy_json(proxy))

    @property
    def _default_listen(self) -> str:
        # Toxiproxy listens on every address where none is given.
        return "0.0.0.0:0" if self._allow_remote else "127.0.0.1:0"

    def _address(self, text: str, what: str) -> Address:
        try:
            address = Address.parse(text)
        except InvalidValue as invalid:
            raise Refused(500 if what == "listen" else 400, invalid.headline) from None
        refuse_remote(address, what=what, allow_remote=self._allow_remote)
        return address

    async def _show(self, request: Request, name: str) -> Answer:
        return json_answer(200, proxy_json(self._find(name)))

    async def _update(self, request: Request, name: str) -> Answer:
        proxy = self._find(name)
        fields = request.fields({"listen": str, "upstream": str, "enabled": bool, "harness": dict})
        # What was read may be sent back whole.
        if "harness" in fields and own_of(fields) != proxy.own:
            raise Refused(400, "harness cannot be changed; remove the proxy and make it anew")
        listen, upstream = proxy.listen, proxy.upstream
        if "listen" in fields:
            listen = self._address(fields["listen"], "listen")
            try:
                same = await resolved(listen) == proxy.listen
            except OSError as failure:
                raise _listen_failed(listen, failure) from None
            listen = proxy.listen if same else listen
        if "upstream" in fields:
            upstream = self._address(fields["upstream"], "upstream")
        wanted = fields.get("enabled", proxy.enabled)
        if (listen, upstream) != (proxy.listen, proxy.upstream):
            await proxy.move(listen, upstream)
        if wanted:
            await _start(proxy)
        else:
            await proxy.stop()
        return json_answer(200, proxy_json(proxy))

    async def _delete(self, request: Request, name: str) -> Answer:
        proxy = self._find(name)
        del self._proxies[name]
        await proxy.close()
        return Answer(204, content_type=None)

    async def _list_toxics(self, request: Request, name: str) -> Answer:
        return json_answer(200, [toxic_json(entry) for entry in self._find(name).listed()])

    async def _add_toxic(self, request: Request, name: str) -> Answer:
        proxy = self._find(name)
        fields = request.fields(
            {"name": str, "type": str, "stream": str, "toxicity": float, "attributes": dict}
        )
        stream = fields.get("stream") or "downstream"
        if stream.lower() not in STREAMS:
            raise Refused(400, "stream was invalid, can be either upstream or downstream")
        shape = self._toxics.get(fields.get("type", ""))
        if shape is None:
            raise Refused(400, "invalid toxic type")
        toxic_name = fields.get("name") or f"{shape.type}_{stream}"
        if proxy.find(toxic_name) is not None:
            raise Refused(409, "toxic already exists")
        toxic = shape.from_attributes(
            lowered(fields.get("attributes", {})),
            stream=cast("Stream", stream.lower()),
            toxicity=fields.get("toxicity", 1.0),
        )
        entry = NamedToxic(toxic_name, toxic)
        proxy.add(entry)
        return json_answer(200, toxic_json(entry))

    async def _show_toxic(self, request: Request, name: str, toxic: str) -> Answer:
        return json_answer(200, toxic_json(_find_toxic(self._find(name), toxic)))

    async def _change_toxic(self, request: Request, name: str, toxic: str) -> Answer:
        proxy = self._find(name)
        old = _find_toxic(proxy, toxic).toxic
        fields = request.fields({"toxicity": float, "attributes": dict})
        # Merged as a whole: a value that is refused changes nothing.
        attributes = old.attributes() | lowered(fields.get("attributes", {}))
        new = type(old).from_attributes(
            attributes, stream=old.stream, toxicity=fields.get("toxicity", old.toxicity)
        )
        entry = NamedToxic(toxic, new)
        proxy.change(entry)
        return json_answer(200, toxic_json(entry))

    async def _remove_toxic(self, request: Request, name: str, toxic: str) -> Answer:
        proxy = self._find(name)
        proxy.remove(_find_toxic(proxy, toxic))
        return Answer(204, content_type=None)

    async def _reset(self, request: Request) -> Answer:
        failures = []
        for proxy in self._proxies.values():
            for entry in list(proxy.toxics):
                proxy.remove(entry)
            try:
                await _start(proxy)
            except Refused as failure:
                # The others are healed all the same; Toxiproxy would leave them as they are.
                failures.append(failure)
        if failures:
            raise failures[0]
        return Answer(204, content_type=None)

    def _find(self, name: str) -> Proxy:
        if name not in self._proxies:
            raise Refused(404, "proxy not found")
        return self._proxies[name]


Handler = Callable[[Request], Awaitable[Answer]]


def _bind(handler: Callable[..., Awaitable[Answer]], *names: str) -> Handler:
    return lambda request: handler(request, *names)


def _find_toxic(proxy: Proxy, name: str) -> NamedToxic:
    entry = proxy.find(name)
    if entry is None:
        raise Refused(404, "toxic not found")
    return entry


async def _start(proxy: Proxy) -> None:
    try:
        await proxy.start()
    except OSError as failure:
        raise _listen_failed(proxy.listen, failure) from None


def _listen_failed(address: Address, failure: OSError) -> Refused:
    return Refused(500, f"listen tcp {address}: bind: {reason(failure)}")
