"""
A daemon and a proxy server that run somewhere: two choices, independent of each other. Where
the daemon has a provider behind it that is started first, with a proxy of the same server
before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from types import TracebackType
from typing import Any, Final, Self

from harness.clock import clock_id
from harness.daemons.base import Daemon
from harness.environment.abilities import abilities_of, reset_abilities
from harness.environment.behind import Behind
from harness.environment.clean_up import begin, put_away, side_by_side
from harness.environment.household import Household
from harness.environment.legs import Leg, try_leg
from harness.environment.limits import BEGINNING, Mark
from harness.environment.own import own_use, refuse_when_full
from harness.environment.parts import DaemonSite, Network, Part, Server
from harness.environment.probe import ResetPath, probe_reset
from harness.environment.threads import in_thread
from harness.errors import HarnessError
from harness.history import Recorder, Silent
from harness.proxy.control import Control

__all__ = ["Marks", "Stack"]

_INSIDE: Final = "not tried: both stand on the daemon's network, with nothing between them"
_LOOPBACK: Final = "not tried: both are on this machine's loopback, with nothing between them"
_NO_PROVIDER: Final = "this daemon has no provider behind it that we know of"


@dataclass(frozen=True, kw_only=True)
class Marks:
    """A moment of a daemon, of the proxy server before it, and of the provider behind it."""

    daemon: Mark = BEGINNING
    server: Mark = BEGINNING
    provider: Mark = BEGINNING


_BEGINNING: Final = Marks()


class Stack:
    """
    A daemon and a proxy server, up while the block lasts.

    Args:
        household: Whose they are.
        site: Where the daemon runs.
        server: What stands before it.
        behind: The provider that it calls, and the proxy before that; None: it has none.
        recorder: Where starts and ends are noted.
        network: Where the daemon stands, opened and closed with the stack; None where there is
            none, or it is others' too.
        lent: Whether others use the server too: it is started where it does not run yet, and
            not ended.

    Attributes:
        tightened: The limits of the daemon that faults in place have tightened, by fault.
    """

    def __init__(
        self,
        household: Household,
        site: DaemonSite,
        server: Server,
        *,
        behind: Behind | None = None,
        lent: bool = False,
        network: Network | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        self.household = household
        self.site = site
        self.server = server
        self.behind = behind
        self.ends_server = server.own and not lent
        self.recorder: Recorder = Silent() if recorder is None else recorder
        self.tightened: dict[object, dict[str, Any]] = {}
        self._network = network
        self._resets: ResetPath | None = None

    @property
    def run_id(self) -> str:
        """Names everything that belongs to it."""
        return self.household.run_id

    @property
    def daemon(self) -> Daemon:
        """Who is tested."""
        return self.site.daemon

    @property
    def control(self) -> Control:
        """The proxy server's API."""
        return self.server.control

    @property
    def resets(self) -> ResetPath | None:
        """What became of resets on the way to a client, once that was probed."""
        return self._resets

    @property
    def abilities(self) -> dict[str, str | None]:
        """What can be done here: None, or why it cannot. Resets are among them once probed."""
        return {
            **self.site.abilities,
            **self.server.abilities,
            **abilities_of(self.daemon),
            **self._abilities_behind,
            **({} if self._resets is None else reset_abilities(self._resets)),
        }

    @property
    def _abilities_behind(self) -> dict[str, str | None]:
        """Those that hang on the provider."""
        if self.behind is None:
            return dict.fromkeys(("provider", "executions"), _NO_PROVIDER)
        return {"provider": None, "executions": self.behind.site.abilities["executions"]}

    async def probe(self, known: ResetPath | None = None) -> ResetPath:
        """Look at the path, where it is not known. From then on what cannot be done is refused."""
        self._resets = known or self._resets
        if self._resets is None:
            self._resets = await self.look_at_path()
        return self._resets

    async def look_at_path(self) -> ResetPath:
        """Find out whether a reset gets over each leg of this path; nothing is refused for it."""
        name = f"harness-probe-{self.run_id}"
        found = await probe_reset(self.control, name=name, maker=self.server)
        return replace(found, legs=await self._legs(found))

    async def _legs(self, found: ResetPath) -> tuple[Leg, ...]:
        """From the client to the daemon; and past the server, where that is another way."""
        server = self.server.backend
        legs = [
            Leg(
                begins="client",
                ends=server,
                reset=found.live or found.armed,
                seen=found.reason,
                round_trip_ms=found.round_trip_ms,
            )
        ]
        if self.server.inside:
            legs.append(Leg(begins=server, ends="daemon", reset=None, seen=_INSIDE))
            return *legs, await try_leg("harness", "daemon", self.site.stand_in())
        if self.server.tapped:
            legs.append(Leg(begins=server, ends="tap", reset=None, seen=_LOOPBACK))
        dials = "tap" if self.server.tapped else server
        return *legs, await try_leg(dials, "daemon", self.site.stand_in())

    @property
    def parts(self) -> dict[str, Part]:
        """Who is there, by the name of the log."""
        there: dict[str, Part] = {"daemon": self.site, "proxy": self.server}
        return there if self.behind is None else {**there, "provider": self.behind.site}

    async def mark(self) -> Marks:
        """This moment of all of them."""
        behind = BEGINNING if self.behind is None else await self.behind.site.mark()
        return Marks(
            daemon=await self.site.mark(), server=await self.server.mark(), provider=behind
        )

    async def limits_hit(self, *, since: Marks = _BEGINNING) -> list[str]:
        """The limits that any of them hit after that, each in words."""
        asked = {
            "": self.site.limits_hit(since=since.daemon),
            " (the proxy server's)": self.server.limits_hit(since=since.server),
        }
        if self.behind is not None:
            behind = self.behind.site.limits_hit(since=since.provider)
            asked[" (the provider's)"] = behind
        # Side by side: where no kernel is at hand, an engine takes a second for each.
        found = await asyncio.gather(*asked.values())
        return [line + whose for whose, hit in zip(asked, found, strict=True) for line in hit]

    async def __aenter__(self) -> Self:
        """Start all and wait until all answer. Where that fails, nothing is left."""
        refuse_when_full()
        try:
            self.household.open()
            if self._network is not None:
                await in_thread(self._network.open)
            await self._start()
        except BaseException as error:
            if isinstance(error, HarnessError) and not self.household.kept:
                # They help; that they cannot be read must keep nothing from being put away.
                with suppress(OSError):
                    error.logs = self.household.logs()
            await self._close(error)
            raise
        return self

    async def _start(self) -> None:
        first = self.site if self.behind is None else self.behind.site
        await begin(self.server.start(), first.start())
        await self.server.ready()
        if self.behind is not None:
            # The daemon is told where its provider is, so that must be known before it starts.
            found_at = await self.behind.ready()
            self.site.daemon = self.site.daemon.finding(found_at)
            await self.site.start()
        await self.site.ready()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End all, bounded in time, and look that nothing is left."""
        await self._close(error)

    async def _close(self, error: BaseException | None) -> None:
        """Everything that was started is ended; each step, whatever the others did."""
        steps: list[Coroutine[Any, Any, object]] = [self._end_all()]
        if self._network is not None:
            steps.append(in_thread(self._network.close))
        await put_away(error, self.household.close(*steps))

    async def _end_all(self) -> None:
        ends: list[Coroutine[Any, Any, object]] = [self.site.end()]
        if self.ends_server:
            ends.append(self.server.end())
        if self.behind is not None:
            ends.append(self.behind.end(with_server=self.ends_server))
        await put_away(None, *side_by_side(*ends))

    def describe(self) -> dict[str, Any]:
        """What environment.json says of it. No secret is in it."""
        return {
            "backend": self.site.backend,
            "proxy": self.server.backend,
            "run_id": self.run_id,
            "clock": clock_id(),
            "daemon": dict(self.site.describe()),
            "server": dict(self.server.describe()),
            "provider": None if self.behind is None else dict(self.behind.describe()),
            "abilities": self.abilities,
            "path": None if self._resets is None else asdict(self._resets),
            "harness": own_use(),
        }
