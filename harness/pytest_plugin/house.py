"""
What the tests of one pytest process share: a loop of ours, a proxy server, daemons that
were not harmed, and somebody to clean up.

All of it is made when the first test asks for it. Nothing is shared between the workers
of pytest-xdist: each is a process of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from harness.address import Address, address_of_url
from harness.clock import fresh_id
from harness.daemons.base import Daemon
from harness.environment import kernel
from harness.environment.backends import (
    EMBEDDED,
    OWN_PROXIES,
    Choice,
    engine_in_use,
    server_of,
    stack_of,
)
from harness.environment.clean_up import put_away
from harness.environment.fingerprint import changes, settled
from harness.environment.hops import PROVIDER
from harness.environment.household import Household
from harness.environment.parts import Server
from harness.environment.probe import ResetPath
from harness.environment.processes import Reaper
from harness.environment.remains import left_of, sweep
from harness.environment.stack import Stack
from harness.environment.threads import in_thread
from harness.errors import EnvironmentFailed, InvalidValue
from harness.history import Current, Recorder, Silent
from harness.pytest_plugin.interrupts import ended_with_parent, sigterm_as_ctrl_c
from harness.pytest_plugin.portal import Portal
from harness.pytest_plugin.servants import Servants
from harness.run.store import Series, series

__all__ = ["FreshServer", "House", "Shared", "can_be_shared", "refuse_no_daemon"]

# A daemon that is another for each test, in a folder of its own for instance, must not pile up.
_MOST_SHARED: Final = 4


@dataclass
class Shared:
    """
    A daemon that several tests use one after the other.

    Attributes:
        record: Where what is told of it goes: to the test that uses it.
        looks: Its fingerprint when nobody uses it.
    """

    daemon: Daemon
    choice: Choice
    stack: Stack
    record: Current
    looks: dict[str, Any]


def refuse_no_daemon(daemon: object) -> None:
    """
    See that a project's own fixture returned what it must.

    Raises:
        InvalidValue: If it is no daemon.
    """
    if not isinstance(daemon, Daemon):
        raise InvalidValue(
            f"the fixture harness_daemon gives {daemon!r}; expected a harness.daemons.base.Daemon",
            [("next", "return for instance Command(template=(...)) or Running.at(url)")],
        )


def can_be_shared(daemon: Daemon, *, among_runs: bool = False) -> bool:
    """
    Whether it can be seen of a daemon that a test left nothing in it.

    Somebody else's has to be shared in any case.

    Args:
        daemon: Whom.
        among_runs: Whether it is asked for the runs of one test: all do the same to it, so
            that its connections look the same is too little to say that they are alike.

    Raises:
        InvalidValue: If it is none.
    """
    refuse_no_daemon(daemon)
    if daemon.address is not None:
        return True
    if "health" in daemon.dialect.questions:
        return True
    return not among_runs and kernel.is_readable()


class FreshServer:
    """A proxy server of one test's own, with no proxy on it."""

    def __init__(self, reaper: Reaper, proxy: str, *, seed: int) -> None:
        self._household = Household(reaper=reaper)
        # Somebody else's has proxies on it.
        own = proxy if proxy in OWN_PROXIES else EMBEDDED
        self._server = server_of(own, self._household, seed=seed)

    async def open(self) -> None:
        """Bring it up. Whatever becomes of that, `put_away` ends it."""
        self._household.open()
        await self._server.start()
        await self._server.ready()

    @property
    def address(self) -> Address:
        """Where its API listens."""
        return address_of_url(self._server.control.url, schemes=("http",))

    @property
    def trouble(self) -> str | None:
        """How it ended, where nobody asked it to."""
        return self._server.trouble

    async def put_away(self) -> None:
        """End it."""
        await self._household.close(self._server.end())


class House:
    """
    What one pytest process shares; up from construction until `close`.

    Args:
        runs: Where run directories are kept.
        tell: Keeps a line for the end of the session; called in a signal handler, too.
        seen: What is known of paths already.
    """

    def __init__(
        self, runs: Path, *, tell: Callable[[str], None], seen: Mapping[Choice, ResetPath]
    ) -> None:
        self.runs = runs
        self._stack = ExitStack()
        # What dead runs left could be in the way; containers wait until an engine is needed.
        sweep(None)
        self._shared: list[Shared] = []
        self._resets = dict(seen)
        self.series: Series = self._stack.enter_context(series(runs))
        self.reaper = Reaper()
        self._stack.callback(self.reaper.dismiss)
        self._servants = Servants(self.reaper)
        self.portal = Portal()
        self._stack.callback(self.portal.close)
        self._stack.enter_context(sigterm_as_ctrl_c(tell))
        if "PYTEST_XDIST_WORKER" in os.environ:
            self._stack.enter_context(ended_with_parent())

    def close(self) -> None:
        """End everything, whatever fails meanwhile."""
        with self._stack:
            self.portal.run(self._end_all())

    async def _end_all(self) -> None:
        ends = [shared.stack.__aexit__(None, None, None) for shared in self._shared]
        await put_away(None, *ends, self._servants.dismiss_all(), self._audit())

    async def _audit(self) -> None:
        """
        See that nothing of this session is left.

        Raises:
            EnvironmentFailed: If something is; it is named, and the reaper removes it.
        """
        left = await in_thread(left_of, self.reaper.run_ids, engine_in_use())
        if left:
            raise EnvironmentFailed(
                "this session left something behind", [("left", name) for name in left]
            )

    @property
    def set_up_again(self) -> list[str]:
        """A line for each attempt to make something on the engine that was made again."""
        engine = engine_in_use()
        return [] if engine is None else engine.again.told

    async def shared(
        self, daemon: Daemon, choice: Choice, *, recorder: Recorder | None = None
    ) -> Shared:
        """
        A running daemon that others used before, and left as it was.

        Args:
            recorder: Where what is told of it goes, from now until it is told otherwise; None:
                nowhere.
        """
        recorder = Silent() if recorder is None else recorder
        for shared in self._shared:
            if shared.daemon == daemon and shared.choice == choice:
                # Whoever was not asked for the longest stands first.
                self._shared.remove(shared)
                self._shared.append(shared)
                if not _troubled(shared.stack) and self._servants.serves(shared.stack.server):
                    shared.record.turn_to(recorder)
                    return shared
                await self.discard(shared)
                break
        if len(self._shared) >= _MOST_SHARED:
            await self.discard(self._shared[0])
        record = Current(recorder)
        # Several of them stand behind one server, each with a provider of its own.
        name = f"{PROVIDER}-{fresh_id()}"
        stack = await self._behind_servant(
            daemon, choice, directory=None, recorder=record, provider_proxy=name
        )
        await stack.__aenter__()
        try:
            await self.probe(stack, choice)
            shared = Shared(daemon, choice, stack, record, await settled(stack.site))
        except BaseException as error:
            await put_away(error, stack.__aexit__(None, None, None))
            raise
        self._shared.append(shared)
        return shared

    async def discard(self, shared: Shared) -> None:
        """End a daemon that is not what it was; the next test gets a new one."""
        if shared in self._shared:
            self._shared.remove(shared)
            await shared.stack.__aexit__(None, None, None)

    async def harmed(self, shared: Shared) -> dict[str, tuple[Any, Any]]:
        """What a test changed in a shared daemon; nothing, in one that was discarded."""
        return await changes(shared.looks, shared.stack.site) if shared in self._shared else {}

    def proxies_behind(self, server: Server) -> set[str]:
        """The proxies of a server that stand before the providers of daemons of all."""
        stacks = (shared.stack for shared in self._shared)
        return {
            stack.behind.hop.proxy
            for stack in stacks
            if stack.server is server and stack.behind is not None
        }

    async def distrust(self, stack: Stack) -> None:
        """End what could not be put in order, and its proxy server; the next is new."""
        its = [self.discard(shared) for shared in self._shared if shared.stack is stack]
        # What else stands behind that server is replaced when it is next asked for.
        await put_away(None, *its, self._servants.dismiss(stack.server))

    async def fresh_daemon(
        self, daemon: Daemon, choice: Choice, *, directory: Path, recorder: Recorder, seed: int
    ) -> Stack:
        """
        A stack with a daemon of its own behind the proxy server of all; not yet up.

        Raises:
            InvalidValue: If the daemon is somebody else's.
        """
        _refuse_somebody_elses(daemon, "daemon")
        return await self._behind_servant(
            daemon, choice, directory=directory, recorder=recorder, seed=seed
        )

    async def fresh_environment(
        self, daemon: Daemon, choice: Choice, *, directory: Path, recorder: Recorder, seed: int
    ) -> Stack:
        """
        A stack with nothing shared; not yet up.

        Raises:
            InvalidValue: If daemon or proxy server is somebody else's.
        """
        _refuse_somebody_elses(daemon, "environment")
        if choice.proxy not in OWN_PROXIES:
            whose = f"{choice.proxy} is somebody else's"
            raise InvalidValue(
                f"a fresh environment has a proxy server of its own; {whose}",
                [("next", 'mark the test @pytest.mark.harness_isolation("daemon")')],
            )
        return stack_of(
            daemon,
            choice=choice,
            directory=directory,
            recorder=recorder,
            seed=seed,
            reaper=self.reaper,
        )

    async def probe(self, stack: Stack, choice: Choice) -> None:
        """
        See whether resets reach the client, once for each choice.

        Asked for whenever a stack came up.
        """
        self._servants.prove(stack.server)
        self._resets[choice] = await stack.probe(self._resets.get(choice))

    def fresh_server(self, proxy: str, *, seed: int) -> FreshServer:
        """A proxy server of a test's own, not yet up."""
        return FreshServer(self.reaper, proxy, seed=seed)

    async def _behind_servant(
        self,
        daemon: Daemon,
        choice: Choice,
        *,
        directory: Path | None,
        recorder: Recorder | None,
        seed: int = 0,
        provider_proxy: str | None = None,
    ) -> Stack:
        server = await self._servants.get(choice, allow_remote=daemon.allow_remote)
        return stack_of(
            daemon,
            choice=choice,
            directory=directory,
            recorder=recorder,
            seed=seed,
            reaper=self.reaper,
            server=server,
            network=await self._servants.network(choice),
            provider_proxy=provider_proxy,
        )


def _troubled(stack: Stack) -> bool:
    """Whether its daemon, or the provider behind that, has ended by itself."""
    behind = None if stack.behind is None else stack.behind.site.trouble
    return stack.site.trouble is not None or behind is not None


def _refuse_somebody_elses(daemon: Daemon, level: str) -> None:
    if daemon.address is not None:
        raise InvalidValue(
            f'isolation "{level}" wants a daemon of its own; {daemon.address} is somebody else\'s',
            [("next", "give the command that starts it, or leave the isolation out")],
        )
