"""
What somebody else started: a daemon, a proxy server. Both are left as they were found.

Rule: nothing here starts, pauses or ends a process, and of a foreign server only the
proxies that we made are touched.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from harness.address import Address, address_of_url, refuse_remote
from harness.daemons.base import Daemon, Limits
from harness.environment import kernel
from harness.environment.abilities import OF_THE_DAEMON
from harness.environment.dialling import session_with
from harness.environment.household import Household
from harness.environment.legs import StandIn, nobody
from harness.environment.limits import BEGINNING, Mark
from harness.environment.making import make_proxy, remove_proxy, taken
from harness.environment.parts import ANY_PORT, LOOPBACK
from harness.environment.processes import Started
from harness.errors import EnvironmentFailed, InvalidValue, ProxyError
from harness.proxy.control import Control, ProxyState

if TYPE_CHECKING:
    from harness.environment.networks import Network

__all__ = ["AttachedDaemon", "AttachedProxy"]

_NOT_OURS: Final = "the daemon was started by somebody else"
_SILENT: Final = "a real Toxiproxy tells nothing of its connections"
_UNSEEDED: Final = "a real Toxiproxy cannot be seeded"


class AttachedDaemon:
    """
    A daemon that runs already.

    Args:
        daemon: Which; it has an address.
    """

    backend: Final = "attached"
    own: Final = False
    effects_file: Final = None
    trouble: Final = None

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon

    @property
    def program(self) -> Started:
        """Refused: nobody here started it."""
        raise self._refused("known")

    @property
    def address(self) -> Address:
        """The daemon's own address."""
        assert self.daemon.address is not None
        return self.daemon.address

    @property
    def inner_address(self) -> Address:
        """The same: it has no network of its own."""
        return self.address

    @property
    def limits(self) -> Limits:
        """Nobody here knows; none can be put on it."""
        return self.daemon.limits

    @property
    def abilities(self) -> Mapping[str, str | None]:
        """Nothing can be done to what is somebody else's."""
        return dict.fromkeys(OF_THE_DAEMON, _NOT_OURS)

    async def start(self) -> None:
        """It runs."""

    async def ready(self) -> None:
        """
        See that it answers.

        Raises:
            ConnectFailed: If it does not.
        """
        async with session_with(self.daemon, self.address, process="probe"):
            pass

    async def pause(self) -> None:
        """Refused."""
        raise self._refused("paused")

    async def resume(self) -> None:
        """It was never paused."""

    async def kill(self) -> None:
        """Refused."""
        raise self._refused("killed")

    async def stop(self, *, within_s: float) -> None:
        """Refused."""
        raise self._refused("stopped")

    async def revive(self) -> None:
        """It was never ended."""

    async def disconnect(self) -> None:
        """Refused."""
        raise self._refused("cut off")

    async def connect(self) -> None:
        """It was never cut off."""

    async def limit(
        self,
        *,
        memory_bytes: int | None = None,
        cpus: float | None = None,
        descriptors: int | None = None,
    ) -> None:
        """Refused."""
        raise self._refused("limited")

    async def unlimit(self) -> None:
        """It was never limited."""

    async def connections(self) -> int | None:
        """How many connections it has, as the kernel tells; None where it does not."""
        # Of another machine's connections it knows nothing.
        seen = self.address.is_loopback and kernel.is_readable()
        return kernel.connections(self.address.port) if seen else None

    def stand_in(self) -> StandIn:
        """None: where it stands is not ours."""
        return nobody(_NOT_OURS)

    async def ending(self) -> bool:
        """Nobody waits for the end of what others run."""
        return False

    async def mark(self) -> Mark:
        """Nobody here knows."""
        return BEGINNING

    async def limits_hit(self, *, since: Mark = BEGINNING) -> list[str]:
        """Nobody here knows."""
        return []

    def _refused(self, what: str) -> InvalidValue:
        return InvalidValue(
            f"the daemon at {self.address} is not {what}: {_NOT_OURS}",
            [("next", "give the command that starts it instead of its address")],
        )

    async def end(self) -> None:
        """It runs on."""

    def written(self, *, since: int = 0) -> str:
        """Nobody here knows."""
        return ""

    def log_bytes(self) -> int:
        """Nobody here knows."""
        return 0

    def describe(self) -> Mapping[str, Any]:
        """Where it is."""
        return {
            "type": self.daemon.type,
            "dialect": self.daemon.dialect.name,
            "address": str(self.address),
            "promises": list(self.daemon.promises),
        }


class AttachedProxy:
    """
    A Toxiproxy, or a server of ours, that runs already.

    Args:
        url: Its API.
        household: Who has our proxies removed should the harness die.
        allow_remote: Whether it may be on another machine.
        network: Where the daemons behind it stand, if they are containers.

    Raises:
        InvalidValue: If the URL is none, or not on this machine without leave.
    """

    own: Final = False
    inside: Final = False
    tapped: Final = False
    host_of_harness: Final = LOOPBACK
    trouble: Final = None

    def __init__(
        self,
        url: str,
        household: Household,
        *,
        allow_remote: bool = False,
        network: Network | None = None,
    ) -> None:
        address = address_of_url(url, schemes=("http",))
        refuse_remote(address, what="proxy server", allow_remote=allow_remote)
        self.control = Control(f"http://{address}")
        self._household = household
        self._network = network
        self._version = ""
        self._tells = False

    @property
    def program(self) -> Started:
        """Refused: nobody here started it."""
        raise InvalidValue(f"the proxy server at {self.control.url} was started by somebody else")

    @property
    def host_for_daemons(self) -> tuple[str, str]:
        """What this machine has on their network; without one, loopback."""
        return LOOPBACK if self._network is None else self._network.host_of_here

    @property
    def backend(self) -> str:
        """Which of the two it is."""
        return "embedded" if self._tells else "toxiproxy"

    @property
    def witness(self) -> Control | None:
        """A server of ours tells itself."""
        return self.control if self._tells else None

    async def ending(self) -> bool:
        """Nobody waits for the end of what others run."""
        return False

    async def mark(self) -> Mark:
        """Nobody here knows."""
        return BEGINNING

    async def limits_hit(self, *, since: Mark = BEGINNING) -> list[str]:
        """Nobody here knows."""
        return []

    @property
    def abilities(self) -> Mapping[str, str | None]:
        """What a real Toxiproxy lacks."""
        return {
            "events": None if self._tells else _SILENT,
            "seed": None if self._tells else _UNSEEDED,
        }

    async def start(self) -> None:
        """It runs."""

    async def ready(self) -> None:
        """
        See who answers.

        Raises:
            EnvironmentFailed: If nobody does, or it is no Toxiproxy.
        """
        try:
            self._version = await self.control.version()
            self._tells = await self._is_ours()
        except ProxyError as error:
            raise EnvironmentFailed(
                f"no Toxiproxy answers at {self.control.url}: {error.headline}",
                [("next", "start it (`harness proxy` is one), or leave the address out")],
            ) from None

    async def _is_ours(self) -> bool:
        try:
            await self.control.about()
        except ProxyError as error:
            if error.status == 404:
                return False
            raise
        return True

    async def make(
        self, name: str, *, upstream: Address, listen: Address | None, seed: int | None
    ) -> ProxyState:
        """Make a proxy, and have it removed should the harness die."""
        # Looked for first: the reaper must not be told to delete what is somebody else's.
        if await self._has(name):
            raise taken(self.control, name)
        reaper, order = self._household.reaper, (self._household.run_id, self._url(name))
        reaper.delete(*order)
        try:
            return await make_proxy(
                self.control, name, upstream=upstream, listen=listen or ANY_PORT, seed=seed
            )
        except EnvironmentFailed:
            reaper.leave(*order)
            raise

    async def _has(self, name: str) -> bool:
        try:
            await self.control.proxy(name)
        except ProxyError as error:
            if error.status == 404:
                return False
            raise
        return True

    def _url(self, name: str) -> str:
        return f"{self.control.url}/proxies/{quote(name, safe='')}"

    async def remove(self, name: str) -> None:
        """Remove it; nothing, where it is gone already."""
        await remove_proxy(self.control, name)
        self._household.reaper.leave(self._household.run_id, self._url(name))

    async def end(self) -> None:
        """It runs on."""

    def written(self, *, since: int = 0) -> str:
        """Nobody here knows."""
        return ""

    def log_bytes(self) -> int:
        """Nobody here knows."""
        return 0

    def describe(self) -> Mapping[str, Any]:
        """Where it is and which version it says it has."""
        return {"api": self.control.url, "version": self._version}
