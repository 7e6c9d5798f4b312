"""What a test ought to have put away itself: found, put away, and put into words."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from harness.clock import now
from harness.environment import kernel
from harness.environment.base import Environment
from harness.errors import HarnessError, NotIsolated, ProgramExited, ProxyError
from harness.pytest_plugin.watch import shown

__all__ = ["Leavings", "seen_ended"]

_TASKS_S: Final = 5.0
# An engine that has much to do tells late of an end.
_ENDING_S: Final = 5.0
_CLOSING_S: Final = 2.0
_POLL_S: Final = 0.005
_NEXT: Final = {
    "put it away in the test: `async with` does, whatever happens": {
        "toxic",
        "connection",
        "task",
        "link",
        "proxy",
    },
    "write `async with env.inject(...):` around what it should harm": {"fault"},
    'a test that changes its daemon: @pytest.mark.harness_isolation("daemon")': {"daemon"},
    "does anybody else use it at the same time?": {"their daemon"},
}


def ended(environment: Environment) -> list[tuple[str, str]]:
    """What ended by itself while the test needed it: which, and how."""
    troubles = ((name, part.trouble) for name, part in environment.stack.parts.items())
    return [(name, f"{how} in the middle of the test, unasked") for name, how in troubles if how]


async def seen_ended(
    environment: Environment, *, but: Collection[str] = ()
) -> list[tuple[str, str]]:
    """The same; where an end has begun, it is waited for. Not asked are those named."""
    if gone := ended(environment):
        return gone
    for name, part in environment.stack.parts.items():
        if name not in but and await part.ending():
            return await _ends(environment)
    return []


async def _ends(environment: Environment) -> list[tuple[str, str]]:
    deadline = now() + _ENDING_S
    while not (gone := ended(environment)) and now() < deadline:
        await asyncio.sleep(_POLL_S)
    return gone


def _in_place(environment: Environment) -> list[str]:
    return [injection.name for injection in environment.injections if injection.in_place]


async def _all_closed(environment: Environment) -> bool:
    if environment.abilities.get("events") is not None:
        return False
    # Where it cannot be asked, its tear-down says so.
    with suppress(HarnessError):
        await environment.collect()
    numbers = {
        kind: {event.connection for event in environment.events if event.kind == kind}
        for kind in ("opened", "closed")
    }
    return numbers["opened"] <= numbers["closed"]


class Leavings:
    """
    What one test left.

    Attributes:
        gone: What ended by itself meanwhile.
        found: Kinds of things, and what became of them.
    """

    def __init__(self) -> None:
        self.gone: list[tuple[str, str]] = []
        self.found: list[tuple[str, str]] = []

    async def look(
        self,
        environment: Environment,
        tasks: Sequence[asyncio.Task[Any]],
        *,
        own: bool,
        others: Collection[str] = (),
    ) -> None:
        """
        Find what is there, and put away what nobody else does.

        Args:
            environment: The test's, still up.
            tasks: Those that the test began and that ran when it was over.
            own: Whether its daemon is its own; else somebody will look at that.
            others: Proxies of its server that are neither its own nor left by it.
        """
        self.gone = await seen_ended(environment, but=() if own else ("daemon",))
        self.found += [("fault", f"{name} was never put on") for name in environment.idle]
        self.found += [("fault", f"{name} was still in place") for name in _in_place(environment)]
        self.found += [
            ("connection", f"{session.process} was never closed")
            for session in environment.sessions
            if session.is_entered
        ]
        await self._end(tasks)
        if environment.stack.server.trouble is not None:
            self.gone = ended(environment)
            return
        try:
            await self._look_at_proxies(environment, others)
        except ProxyError:
            await self.see_ends(environment)
            if environment.stack.server.trouble is None:
                raise
        if not self.gone and not self.found:
            await self._look_at_connections(environment)

    async def _look_at_connections(self, environment: Environment) -> None:
        """Those through the proxy that the test's own clients hold."""
        # Where the proxy tells that there is none it is not asked of the kernel, which is slow.
        seen = kernel.is_readable() and environment.address.is_loopback
        if not seen or await _all_closed(environment):
            return
        deadline = now() + _CLOSING_S
        while (held := kernel.held_open(environment.address.port)) and now() < deadline:
            await asyncio.sleep(_POLL_S)
        if held:
            many = "1 was" if held == 1 else f"{held} were"
            self.found.append(("connection", f"{many} still open to {environment.url}"))

    async def see_ends(self, environment: Environment) -> None:
        """Something does not answer: what was just killed takes a moment to be gone."""
        self.gone = await _ends(environment)

    async def _end(self, tasks: Sequence[asyncio.Task[Any]]) -> None:
        # Those that a fixture of the test's has put away meanwhile were not left.
        left = [task for task in tasks if not task.done() and not task.cancelling()]
        left = [task for task in left if not task.get_loop().is_closed()]
        for task in left:
            self.found.append(("task", f"{shown(task)} was still running"))
            # Where the loop is at rest, it ends when that goes on or is closed.
            task.get_loop().call_soon_threadsafe(task.cancel)
        here = asyncio.get_running_loop()
        if ours := [task for task in left if task.get_loop() is here]:
            await asyncio.wait(ours, timeout=_TASKS_S)

    async def _look_at_proxies(self, environment: Environment, others: Collection[str]) -> None:
        server = environment.stack.server
        proxies = await environment.control.proxies()
        told = _in_place(environment)
        hops = {environment.name: ""}
        if (behind := environment.stack.behind) is not None:
            hops[behind.hop.proxy] = " to the provider"
        for name, where in hops.items():
            if (state := proxies.pop(name, None)) is None:
                continue
            left = [toxic.name for toxic in state.toxics if toxic.name not in told]
            self.found += [("toxic", f"{toxic} was still on the wire{where}") for toxic in left]
            if not state.enabled and not told:
                self.found.append(("link", f"the proxy{where} was still disabled"))
        # On somebody else's server the others are none of ours.
        for other in sorted(proxies.keys() - set(others)) if server.own else ():
            self.found.append(("proxy", f"{other} was still on the proxy server"))
            await server.remove(other)

    def compare(self, changes: Mapping[str, tuple[Any, Any]], *, own: bool) -> None:
        """
        Take what a test changed in a daemon that others use too.

        Args:
            changes: What was before, and what is now, by name.
            own: Whether the daemon is ours.
        """
        if "trouble" in changes and self.gone:
            return
        whose = "daemon" if own else "their daemon"
        for name, (before, after) in changes.items():
            said = f"{name} {before} before, {after} after" if name != "trouble" else str(after)
            self.found.append((whose, said))

    def error(self, path: Path) -> HarnessError | None:
        """
        What to raise for it, None where nothing was left.

        Args:
            path: The run directory.
        """
        if not self.gone and not self.found:
            return None
        left = {what for what, _ in self.found}
        rows = [*self.found, *(("next", how) for how, what in _NEXT.items() if what & left)]
        if self.gone:
            headline = "; ".join(f"the {name} {how}" for name, how in self.gone)
            return ProgramExited(headline, [*rows, ("next", f"{path} has the logs")])
        return NotIsolated("the test left something behind; all of it was put away", rows)
