"""
A relay of ours behind a real Toxiproxy: what stands in its way there is seen from the other
side. A Toxiproxy tells nothing of its connections; what it did to them shows in what the
relay saw, and the client did not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from harness.address import Address
from harness.environment.clean_up import begin, put_away, side_by_side
from harness.environment.limits import BEGINNING, Mark
from harness.environment.local import LocalProxy
from harness.environment.making import make_proxy, remove_proxy
from harness.environment.parts import ANY_PORT, Server
from harness.environment.processes import Started
from harness.proxy.control import Control, ProxyState

__all__ = ["Tapped"]


class Tapped:
    """
    A proxy server with a relay behind each of its proxies.

    Args:
        server: The one whose doings are looked at. Where it does not reach loopback of this
            machine, there is no relay behind it.
        tap: The server of the relays. They have no toxics, and tell of each chunk.
    """

    own: Final = True

    def __init__(self, server: Server, tap: LocalProxy) -> None:
        self._server = server
        self._tap = tap

    @property
    def backend(self) -> str:
        """The word for the server that is looked at."""
        return self._server.backend

    @property
    def control(self) -> Control:
        """Its API."""
        return self._server.control

    @property
    def program(self) -> Started:
        """The process or container of the server."""
        return self._server.program

    @property
    def inside(self) -> bool:
        """Whether the server stands on the daemon's network: from there no relay is reached."""
        return self._server.inside

    @property
    def tapped(self) -> bool:
        """Whether its relays are reached."""
        return not self.inside

    @property
    def host_of_harness(self) -> tuple[str, str]:
        """As the server has it."""
        return self._server.host_of_harness

    @property
    def host_for_daemons(self) -> tuple[str, str]:
        """As the server has it."""
        return self._server.host_for_daemons

    @property
    def witness(self) -> Control | None:
        """Who tells what went through."""
        return None if self.inside else self._tap.control

    @property
    def trouble(self) -> str | None:
        """How either ended, where nobody asked it to."""
        return self._server.trouble or self._tap.trouble

    async def ending(self) -> bool:
        """Whether either was killed, or exits."""
        return await self._server.ending() or await self._tap.ending()

    @property
    def abilities(self) -> Mapping[str, str | None]:
        """Those of the server. The relays tell what passed, not what a toxic did to it."""
        return self._server.abilities

    async def start(self) -> None:
        """Start both, where they do not run yet."""
        await begin(self._server.start(), self._tap.start())

    async def ready(self) -> None:
        """Wait until both answer."""
        await self._server.ready()
        await self._tap.ready()

    async def make(
        self, name: str, *, upstream: Address, listen: Address | None, seed: int | None
    ) -> ProxyState:
        """Make a relay, and the proxy before it."""
        if self.inside:
            return await self._server.make(name, upstream=upstream, listen=listen, seed=seed)
        behind = await make_proxy(
            self._tap.control, name, upstream=upstream, listen=ANY_PORT, tap=True
        )
        try:
            return await self._server.make(
                name, upstream=Address.parse(behind.listen), listen=listen, seed=seed
            )
        except BaseException as error:
            await put_away(error, remove_proxy(self._tap.control, name))
            raise

    async def remove(self, name: str) -> None:
        """Remove both; nothing, where they are gone already."""
        await put_away(None, self._server.remove(name), remove_proxy(self._tap.control, name))

    async def end(self) -> None:
        """End both."""
        await put_away(None, *side_by_side(self._server.end(), self._tap.end()))

    async def mark(self) -> Mark:
        """This moment of the server: the relays have nothing to do but what it does."""
        return await self._server.mark()

    async def limits_hit(self, *, since: Mark = BEGINNING) -> list[str]:
        """The limits that the server hit, each in words."""
        return await self._server.limits_hit(since=since)

    def written(self, *, since: int = 0) -> str:
        """What the server wrote to its log from that byte on."""
        return self._server.written(since=since)

    def log_bytes(self) -> int:
        """How long that log is."""
        return self._server.log_bytes()

    def describe(self) -> Mapping[str, Any]:
        """The server, and the relays behind it."""
        return {**self._server.describe(), "tap": self._tap.describe()}
