"""The proxy servers and networks that the daemons of one pytest process stand behind and on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.environment.backends import DOCKER, Choice, network_of, server_of
from harness.environment.clean_up import put_away
from harness.environment.household import Household
from harness.environment.parts import Server
from harness.environment.processes import Reaper
from harness.environment.threads import in_thread

if TYPE_CHECKING:
    from harness.environment.networks import Network
    from harness.environment.paths import NetworkPath

__all__ = ["Servant", "Servants"]


@dataclass
class Servant:
    """
    A proxy server, and whose it is.

    Attributes:
        allow_remote: Whether it may connect to other machines.
        proven: Whether something was ever brought up behind it.
    """

    choice: Choice
    allow_remote: bool
    household: Household
    server: Server
    proven: bool = False

    @property
    def serves(self) -> bool:
        """Whether something can be put behind it."""
        return self.proven and self.server.trouble is None

    async def dismiss(self) -> None:
        """End it."""
        await self.household.close(self.server.end())


class Servants:
    """One proxy server of each kind, and one network, made when they are first asked for."""

    def __init__(self, reaper: Reaper) -> None:
        self._reaper = reaper
        self._all: list[Servant] = []
        self._networks: dict[NetworkPath | None, tuple[Household, Network]] = {}

    async def network(self, choice: Choice) -> Network | None:
        """
        The network that the containers of all stand on; None where there are none.

        Raises:
            EnvironmentFailed: If there is no container engine, or it makes no network.
        """
        if choice.backend != DOCKER:
            return None
        if choice.path not in self._networks:
            household = Household(reaper=self._reaper)
            network = network_of(household, path=choice.path)
            household.open()
            # First on the list: should it not open, it is put away at the end all the same.
            self._networks[choice.path] = household, network
            try:
                await in_thread(network.open)
            except BaseException as error:
                await put_away(error, self._close_network(choice.path))
                raise
        return self._networks[choice.path][1]

    async def _close_network(self, path: NetworkPath | None) -> None:
        household, network = self._networks.pop(path)
        await household.close(in_thread(network.close))

    async def get(self, choice: Choice, *, allow_remote: bool) -> Server:
        """The server to put something behind; a new one, where the last did not serve."""
        for servant in self._all:
            if (servant.choice, servant.allow_remote) == (choice, allow_remote):
                if servant.serves:
                    return servant.server
                self._all.remove(servant)
                await servant.dismiss()
                break
        household = Household(reaper=self._reaper)
        network = await self.network(choice)
        server = server_of(
            choice.proxy,
            household,
            network=network,
            allow_remote=allow_remote,
            tap=choice.tap,
        )
        household.open()
        # First on the list: should it not start, it is put away at the end all the same.
        self._all.append(Servant(choice, allow_remote, household, server))
        return server

    def serves(self, server: Server) -> bool:
        """Whether something can be put behind this one."""
        return any(servant.server is server and servant.serves for servant in self._all)

    def prove(self, server: Server) -> None:
        """Something came up behind it."""
        for servant in self._all:
            servant.proven = servant.proven or servant.server is server

    async def dismiss(self, server: Server) -> None:
        """End this one; whoever asks next gets a new one."""
        there = [servant for servant in self._all if servant.server is server]
        self._all = [servant for servant in self._all if servant.server is not server]
        await put_away(None, *(servant.dismiss() for servant in there))

    async def dismiss_all(self) -> None:
        """End them, and the networks after them."""
        there, self._all = self._all, []
        networks = [self._close_network(path) for path in list(self._networks)]
        await put_away(None, *(servant.dismiss() for servant in there), *networks)
