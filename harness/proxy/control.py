"""
The one client of Toxiproxy's API, for any Toxiproxy and for ours.

Every call opens a connection of its own and is bounded in time, so a client is
bound to no loop and can be shared by whoever likes.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from harness.address import address_of_url
from harness.errors import ProxyError
from harness.faults.base import Toxic
from harness.http.client import exchange
from harness.records import ProxyEvent, read_lines

T = TypeVar("T")

# The events that our proxy keeps are some megabytes.
_MAX_ANSWER_BYTES = 64 << 20

__all__ = ["About", "Control", "OwnState", "ProxyState", "ToxicState"]


class ToxicState(msgspec.Struct, frozen=True):
    """A toxic as the server shows it; attributes under Toxiproxy's names."""

    name: str
    type: str
    stream: str
    toxicity: float
    attributes: dict[str, Any]


class OwnState(msgspec.Struct, frozen=True):
    """What only our own proxy shows, and only where it was given."""

    seed: int | None = None
    tap: bool = False


class ProxyState(msgspec.Struct, frozen=True):
    """
    A proxy as the server shows it.

    Attributes:
        harness: None where it has no seed of its own; a real Toxiproxy never has.
    """

    name: str
    listen: str
    upstream: str
    enabled: bool
    toxics: list[ToxicState]
    harness: OwnState | None = None

    @property
    def seed(self) -> int | None:
        """The seed of its own, None where it has none."""
        return None if self.harness is None else self.harness.seed


class About(msgspec.Struct, frozen=True):
    """Who answers, and the number of its newest event: only our own proxy tells."""

    harness: str
    pid: int
    seed: int
    events: int


class _Version(msgspec.Struct, frozen=True):
    version: str


@dataclass(frozen=True)
class Control:
    """
    One server's API.

    Every method raises `ProxyError` when the server refuses (its text is in the
    error), does not answer within the bound, or answers what cannot be read.

    Args:
        url: "http://host:port".
        timeout_s: Bound of each call, in seconds.
    """

    url: str
    timeout_s: float = 5.0

    async def version(self) -> str:
        """The version of Toxiproxy, or the one ours stands for."""
        return self._read(_Version, "GET", "/version", await self._ask("GET", "/version")).version

    async def about(self) -> About:
        """Who answers. A real Toxiproxy refuses with status 404."""
        path = "/harness/about"
        return self._read(About, "GET", path, await self._ask("GET", path))

    async def proxies(self) -> dict[str, ProxyState]:
        """All proxies by name."""
        body = await self._ask("GET", "/proxies")
        return self._read(dict[str, ProxyState], "GET", "/proxies", body)

    async def create(
        self,
        name: str,
        *,
        upstream: str,
        listen: str = "127.0.0.1:0",
        enabled: bool = True,
        seed: int | None = None,
        tap: bool = False,
    ) -> ProxyState:
        """
        Make a proxy.

        Args:
            name: Its name; draws hang on it as well as on the seed.
            upstream: Where it connects to, "host:port".
            listen: Where it listens. Port 0 lets the system choose; the answer shows which
                it was.
            enabled: Whether it accepts.
            seed: What its jitter and toxicity are drawn from; None: the server's seed. A
                real Toxiproxy ignores it, and the answer then carries none.
            tap: Whether it only looks on: it tells of each chunk, and passes an RST on as one.
                Only ours can.
        """
        values: dict[str, object] = {
            "name": name,
            "upstream": upstream,
            "listen": listen,
            "enabled": enabled,
        }
        ours = {
            **({} if seed is None else {"seed": seed}),
            **({"tap": True} if tap else {}),
        }
        if ours:
            values["harness"] = ours
        body = await self._ask("POST", "/proxies", values)
        return self._read(ProxyState, "POST", "/proxies", body)

    async def proxy(self, name: str) -> ProxyState:
        """One proxy."""
        return await self._proxy("GET", name)

    async def update(
        self,
        name: str,
        *,
        listen: str | None = None,
        upstream: str | None = None,
        enabled: bool | None = None,
    ) -> ProxyState:
        """Change what is given. Another address closes the live connections, so does disabling."""
        values = {"listen": listen, "upstream": upstream, "enabled": enabled}
        # Toxiproxy's own Go client uses POST here: older servers know no PATCH.
        given = {key: value for key, value in values.items() if value is not None}
        return await self._proxy("POST", name, given)

    async def _proxy(self, method: str, name: str, values: object = None) -> ProxyState:
        path = f"/proxies/{quote(name, safe='')}"
        return self._read(ProxyState, method, path, await self._ask(method, path, values))

    async def delete(self, name: str) -> None:
        """Remove a proxy and close its connections."""
        await self._do("DELETE", f"/proxies/{quote(name, safe='')}")

    async def toxics(self, proxy: str) -> list[ToxicState]:
        """The toxics of a proxy: upstream ones first, each stream in chain order."""
        path = f"/proxies/{quote(proxy, safe='')}/toxics"
        return self._read(list[ToxicState], "GET", path, await self._ask("GET", path))

    async def add_toxic(self, proxy: str, toxic: Toxic, *, name: str) -> ToxicState:
        """Put a toxic at the end of its stream's chain."""
        path = f"/proxies/{quote(proxy, safe='')}/toxics"
        values = {
            "name": name,
            "type": toxic.type,
            "stream": toxic.stream,
            "toxicity": toxic.toxicity,
            "attributes": toxic.attributes(),
        }
        return self._read(ToxicState, "POST", path, await self._ask("POST", path, values))

    async def change_toxic(self, proxy: str, toxic: Toxic, *, name: str) -> ToxicState:
        """Give a toxic other attributes and another toxicity."""
        path = f"/proxies/{quote(proxy, safe='')}/toxics/{quote(name, safe='')}"
        values = {"toxicity": toxic.toxicity, "attributes": toxic.attributes()}
        return self._read(ToxicState, "POST", path, await self._ask("POST", path, values))

    async def remove_toxic(self, proxy: str, name: str) -> None:
        """Take a toxic away."""
        path = f"/proxies/{quote(proxy, safe='')}/toxics/{quote(name, safe='')}"
        await self._do("DELETE", path)

    async def reset(self) -> None:
        """Enable every proxy and remove all toxics, foreign ones too."""
        await self._do("POST", "/reset")

    async def events(self, *, since: int = 0) -> list[ProxyEvent]:
        """What happened after that event. A real Toxiproxy refuses with status 404."""
        path = f"/harness/events?since={since}"
        body = await self._ask("GET", path)
        try:
            events, torn = read_lines(body, ProxyEvent)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise self._unreadable("GET", path, str(error)) from None
        if torn:
            raise self._unreadable("GET", path, "its last line has no end")
        return events

    async def _do(self, method: str, path: str) -> None:
        """A request whose success has no body: something else may answer 200 to anything."""
        if await self._ask(method, path):
            raise self._unreadable(method, path, "expected none to this request")

    def _read(self, shape: type[T], method: str, path: str, body: bytes) -> T:
        try:
            return msgspec.json.decode(body, type=shape)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise self._unreadable(method, path, str(error)) from None

    def _unreadable(self, method: str, path: str, why: str) -> ProxyError:
        return ProxyError(
            f"{method} {path}: the answer is not Toxiproxy's: {why}",
            [("server", self.url), ("next", "see what listens there")],
        )

    async def _ask(self, method: str, path: str, values: object = None) -> bytes:
        """One request and the body of its answer."""
        body = b"" if values is None else msgspec.json.encode(values)
        try:
            async with asyncio.timeout(self.timeout_s):
                answer = await exchange(
                    address_of_url(self.url, schemes=("http",)),
                    method,
                    path,
                    headers={"Content-Type": "application/json"},
                    body=body,
                    max_bytes=_MAX_ANSWER_BYTES,
                )
        except OSError as error:
            found = (
                f"no answer within {self.timeout_s:g} s"
                if isinstance(error, TimeoutError)
                else f"no answer: {error}"
            )
            raise ProxyError(
                f"{method} {path}: {found}",
                [("server", self.url), ("next", "see whether the proxy runs and listens there")],
            ) from None
        if answer.status >= 300:
            text = _error_text(answer.body)
            raise ProxyError(
                f"{method} {path}: the proxy answered {answer.status}: {text}",
                [("server", self.url)],
                status=answer.status,
                text=text,
            )
        return answer.body


def _error_text(body: bytes) -> str:
    """The server's words: its JSON's `error`, else the body's first line."""
    try:
        return str(msgspec.json.decode(body, type=dict[str, Any])["error"])
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError):
        lines = body.decode("utf-8", "replace").strip().splitlines()
        return lines[0] if lines else "no words"
