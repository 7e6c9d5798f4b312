"""The proxy servers that the daemons of one pytest process are put behind."""

from __future__ import annotations

from dataclasses import dataclass

from harness.environment.attached import AttachedProxy
from harness.environment.backends import EMBEDDED
from harness.environment.clean_up import put_away
from harness.environment.household import Household
from harness.environment.local import LocalProxy
from harness.environment.processes import Reaper
from harness.environment.stack import Server

__all__ = ["Servants"]


@dataclass
class _Servant:
    """
    A proxy server, and whose it is.

    Attributes:
        allow_remote: Whether it may connect to other machines.
        proven: Whether something was ever brought up behind it.
    """

    proxy: str
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
        await put_away(None, self.server.end(), self.household.close())


class Servants:
    """One proxy server of each kind, made when it is first asked for."""

    def __init__(self, reaper: Reaper) -> None:
        self._reaper = reaper
        self._all: list[_Servant] = []

    async def get(self, proxy: str, *, allow_remote: bool) -> Server:
        """The server to put something behind; a new one, where the last did not serve."""
        for servant in self._all:
            if (servant.proxy, servant.allow_remote) == (proxy, allow_remote):
                if servant.serves:
                    return servant.server
                self._all.remove(servant)
                await servant.dismiss()
                break
        household = Household(reaper=self._reaper)
        server: Server = (
            LocalProxy(household, allow_remote=allow_remote)
            if proxy == EMBEDDED
            else AttachedProxy(proxy, household, allow_remote=allow_remote)
        )
        household.open()
        # First on the list: should it not start, it is put away at the end all the same.
        self._all.append(_Servant(proxy, allow_remote, household, server))
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
        """End them."""
        there, self._all = self._all, []
        await put_away(None, *(servant.dismiss() for servant in there))
