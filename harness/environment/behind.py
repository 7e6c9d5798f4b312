"""
What stands behind a daemon: the provider it calls, and the proxy before that.

Its proxy belongs to the stack and not to one environment: the daemon is started with its address,
and keeps that.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import Any

from harness.address import Address
from harness.environment.clean_up import put_away
from harness.environment.hops import PROVIDER, Hop
from harness.environment.parts import ProviderSite, Server

__all__ = ["Behind"]


class Behind:
    """
    The hop from a daemon to its provider.

    Args:
        site: Where the provider runs.
        server: Who has the proxy before it.
        proxy: That proxy's name.
        seed: Root seed of that proxy's draws; None: the server's.

    Attributes:
        hop: What a fault there acts upon.
    """

    def __init__(
        self, site: ProviderSite, server: Server, *, proxy: str, seed: int | None = None
    ) -> None:
        self.site = site
        self.hop = Hop(name=PROVIDER, proxy=proxy, site=site)
        self._server = server
        self._seed = seed
        self._found_at: Address | None = None

    async def ready(self) -> Address:
        """
        Wait for the provider, and make the proxy before it.

        Returns:
            Where daemons find it.

        Raises:
            EnvironmentFailed: If it does not get ready, or the proxy cannot be made.
        """
        await self.site.ready()
        site, server = self.site, self._server
        listens_on, called = server.host_for_daemons
        state = await server.make(
            self.hop.proxy,
            upstream=site.inner_address if server.inside else site.address,
            listen=Address(listens_on, 0),
            seed=self._seed,
        )
        self._found_at = Address(called, Address.parse(state.listen).port)
        return self._found_at

    async def end(self, *, with_server: bool) -> None:
        """
        End the provider.

        Args:
            with_server: Whether the server ends, too, and with it the proxy.
        """
        steps: list[Coroutine[Any, Any, object]] = [self.site.end()]
        made = self._found_at is not None
        if made and not with_server and self._server.trouble is None:
            # First: a server takes seconds to remove one that is about to connect to nobody.
            steps.insert(0, self._server.remove(self.hop.proxy))
        await put_away(None, *steps)

    def describe(self) -> Mapping[str, Any]:
        """What environment.json says of it. No secret is in it."""
        return {
            **self.site.describe(),
            "proxy": self.hop.proxy,
            "found_at": None if self._found_at is None else str(self._found_at),
        }
