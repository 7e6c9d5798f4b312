"""
One test's environment: its run directory, its record, its proxy, and what is left of it
when the test is over.

Rule: tear-down goes through all its steps, whatever happens in one, and a complaint of
its own never stands before the test's first error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from harness.daemons.base import Daemon
from harness.environment.abilities import HARMS_THE_DAEMON
from harness.environment.backends import Choice, name_of_proxy
from harness.environment.clean_up import notes_of, put_away
from harness.environment.injection import Injection
from harness.environment.limits import BEGINNING
from harness.environment.stack import Marks, Stack
from harness.errors import HarnessError, InvalidValue
from harness.history import History, Silent
from harness.pytest_plugin.environment import TestEnvironment
from harness.pytest_plugin.house import House, Shared, refuse_no_daemon
from harness.pytest_plugin.leavings import Leavings, seen_ended
from harness.pytest_plugin.options import ISOLATIONS
from harness.pytest_plugin.state import FAILED
from harness.pytest_plugin.watch import Watch, loops_of
from harness.run.store import RunDirectory, load_history, run_name

__all__ = ["Place", "Wish"]

_LOOK_S: Final = 5.0
_SHARED: Final = (
    "other tests use its daemon too; mark the test"
    ' @pytest.mark.harness_isolation("daemon") to have one of its own'
)


@dataclass(frozen=True, kw_only=True)
class Wish:
    """
    What a test asks for.

    Attributes:
        test: Its name, which names the run directory.
        isolation: "proxy", "daemon" or "environment".
        choice: Where it runs, and behind what.

    Raises:
        InvalidValue: If there is no such isolation, or anything else is not what it says.
    """

    test: str
    daemon: Daemon
    choice: Choice
    isolation: str
    seed: int

    def __post_init__(self) -> None:
        refuse_no_daemon(self.daemon)
        if type(self.seed) is not int:
            raise InvalidValue(
                f"the fixture harness_seed gives {self.seed!r}; expected a whole number"
            )
        if self.isolation not in ISOLATIONS:
            raise InvalidValue(
                f"{self.isolation!r} is no isolation; expected one of {', '.join(ISOLATIONS)}",
                [("next", "see what the fixture harness_isolation returns")],
            )


class Place:
    """
    One test's environment, from `open` to `close`.

    Args:
        house: What the tests of this process share.
        wish: What the test asks for.
        request: The test's.

    Raises:
        HarnessError: If it cannot have a run directory.

    Attributes:
        injections: Every fault it asked for.
        proxy_tells: Whether its proxy tells what it did to which connection.
    """

    def __init__(self, house: House, wish: Wish, request: pytest.FixtureRequest) -> None:
        self.house = house
        self.wish = wish
        self.injections: list[Injection] = []
        self.proxy_tells = True
        self._request = request
        self._item: pytest.Item = request.node
        self._tasks: list[asyncio.Task[Any]] = []
        self._left = Leavings()
        self._shared: Shared | None = None
        self._since = Marks()
        self._open: TestEnvironment | None = None
        self._limits_hit: list[str] = []
        self._secrets = [] if wish.daemon.token is None else [wish.daemon.token]
        self._run = RunDirectory.create(house.runs, run_name(wish.test), series=house.series)
        self._history = self._run.history(secrets=self._secrets)
        self._watch = Watch(self._history, self._item)

    @property
    def environment(self) -> TestEnvironment | None:
        """The environment, while it is up."""
        return self._open

    @property
    def failed(self) -> bool:
        """Whether the test failed; then what it left behind is no news."""
        return self._item.stash.get(FAILED, False)

    @property
    def path(self) -> Path:
        """The run directory."""
        return self._run.path

    def open(self) -> TestEnvironment:
        """
        Bring it up. Where that fails, nothing is left but the run directory.

        Raises:
            HarnessError: If it cannot be brought up.
        """
        __tracebackhide__ = True
        self._watch.meet(self.house.portal.loop)
        for loop in loops_of(self._request):
            self._watch.meet(loop)
        try:
            environment = self.house.portal.run(self._build())
            about = {**environment.stack.describe(), **self._described()}
            self._write("environment.json", about)
        except BaseException as error:
            # An interruption may come when it is up already.
            self.house.portal.run(put_away(error, self._give_up(error)))
            raise
        return environment

    async def _give_up(self, error: BaseException) -> None:
        environment, self._open = self._open, None
        logs = error.logs if isinstance(error, HarnessError) else {}
        steps = [
            self._keep({name: text for name, text in logs.items() if text}),
            self._write_results(error, failed=True),
            self._end_record(),
        ]
        if environment is not None:
            steps.insert(0, self._put_back(environment))
        await put_away(None, *steps)

    def _described(self) -> dict[str, Any]:
        wish = self.wish
        return {"test": wish.test, "seed": wish.seed, "isolation": wish.isolation}

    def _write(self, name: str, value: Mapping[str, Any]) -> None:
        self._run.write_json(name, value, secrets=self._secrets)

    async def _build(self) -> TestEnvironment:
        house, wish = self.house, self.wish
        stack = await self._stack()
        own = self._shared is None
        environment = TestEnvironment(
            stack,
            portal=house.portal,
            run_directory=self.path,
            owns=own,
            name=name_of_proxy(wish.choice.proxy),
            seed=wish.seed,
            recorder=self._watch,
            without={} if own else _not_of_others(stack),
        )
        try:
            await environment.__aenter__()
        except BaseException as error:
            if not own:
                await put_away(error, house.distrust(stack))
            raise
        if own:
            try:
                await house.probe(stack, wish.choice)
                # The log of a proxy server that others use begins before this test.
                served = BEGINNING if stack.ends_server else await stack.server.mark()
                self._since = Marks(server=served)
            except BaseException as error:
                await put_away(error, environment.__aexit__(type(error), error, None))
                raise
        self.injections = environment.injections
        self.proxy_tells = environment.abilities.get("events") is None
        self._open = environment
        return environment

    async def _stack(self) -> Stack:
        house, wish = self.house, self.wish
        where: dict[str, Any] = {"directory": self.path, "recorder": self._history}
        match wish.isolation:
            case "environment":
                return await house.fresh_environment(
                    wish.daemon, wish.choice, seed=wish.seed, **where
                )
            case "daemon":
                return await house.fresh_daemon(wish.daemon, wish.choice, seed=wish.seed, **where)
            case _:
                self._shared = await house.shared(wish.daemon, wish.choice, recorder=self._history)
                stack = self._shared.stack
                self._since = await stack.mark()
                return stack

    def call_ended(self) -> None:
        """See which tasks the test began and left; its loop may be closed before we are."""
        if self._open is not None:
            self._tasks = self._watch.begun()

    def logs(self) -> dict[str, str]:
        """What each program wrote meanwhile, by file name; only of those we can read."""
        if self._open is None:
            files = (self.path / f"{name}.log" for name in ("daemon", "proxy", "provider"))
            return {f.name: f.read_text("utf-8", "replace") for f in files if f.exists()}
        since = {
            "daemon": self._since.daemon,
            "proxy": self._since.server,
            "provider": self._since.provider,
        }
        return {
            f"{name}.log": part.written(since=since[name].log_bytes)
            for name, part in self._open.stack.parts.items()
            if part.own
        }

    def history(self) -> History:
        """What was recorded so far; of the proxy's newest events what can be had."""
        if self._open is not None:
            # What is told of a failure must not hang on a proxy that may be its cause.
            with suppress(HarnessError, TimeoutError):
                return self._open.history()
        return load_history(self.path)

    def ended(self) -> list[tuple[str, str]]:
        """What ended by itself while the test needed it: which, and how."""
        if self._open is None:
            return []
        with suppress(HarnessError, TimeoutError):
            return self.house.portal.run(seen_ended(self._open), within_s=_LOOK_S)
        return []

    def limits_hit(self) -> list[str]:
        """The limits that the daemon hit so far, each in words."""
        if self._open is None:
            return self._limits_hit
        with suppress(HarnessError, TimeoutError):
            self._limits_hit = self.house.portal.run(
                self._open.stack.limits_hit(since=self._since), within_s=_LOOK_S
            )
        return self._limits_hit

    def close(self) -> None:
        """
        Heal, put everything away, and see what the test left behind.

        Raises:
            NotIsolated: If it left something, and did not fail anyway.
            ProgramExited: The same, if daemon or proxy server ended meanwhile.
            HarnessError: If something could not be put away.
        """
        __tracebackhide__ = True
        if self._open is None:
            return
        try:
            self.house.portal.run(self._close(self._open))
        except Exception as trouble:
            if (error := self._complaint()) is None:
                raise
            # Told beside what the test left, not instead of it.
            told = f"{type(trouble).__name__}: {trouble}"
            error.add_note("\n".join([f"while putting away: {told}", *notes_of(trouble)]))
            raise error from trouble
        finally:
            self._open = None
        if (error := self._complaint()) is not None:
            raise error

    def _complaint(self) -> HarnessError | None:
        return None if self.failed else self._left.error(self.path)

    async def _close(self, environment: TestEnvironment) -> None:
        trouble: BaseException | None = None
        try:
            logs = self.logs()
            await put_away(
                None,
                self._see_limits(environment),
                self._left.look(
                    environment,
                    self._tasks,
                    own=self._shared is None,
                    others=self.house.proxies_behind(environment.stack.server),
                ),
                self._put_back(environment),
                self._see_daemon(environment),
                self._keep(logs),
            )
        except BaseException as error:
            trouble = error
            raise
        finally:
            await put_away(trouble, self._write_results(trouble), self._end_record())

    async def _see_limits(self, environment: TestEnvironment) -> None:
        self._limits_hit = await environment.stack.limits_hit(since=self._since)

    async def _put_back(self, environment: TestEnvironment) -> None:
        try:
            await environment.__aexit__(None, None, None)
        except BaseException as error:
            await put_away(error, self.house.distrust(environment.stack))
            raise

    async def _see_daemon(self, environment: TestEnvironment) -> None:
        """A daemon that others will use must look as it did before."""
        if self._shared is None:
            return
        found = await self.house.harmed(self._shared)
        if "trouble" in found:
            await self._left.see_ends(environment)
        self._left.compare(found, own=environment.stack.site.own)
        if found:
            await self.house.discard(self._shared)

    async def _keep(self, logs: Mapping[str, str]) -> None:
        """The part of the logs that is this test's, where they are not in its folder anyway."""
        for name, text in logs.items():
            if not (self.path / name).exists():
                self._run.write_text(name, text, secrets=self._secrets)

    async def _write_results(
        self, trouble: BaseException | None, *, failed: bool | None = None
    ) -> None:
        left = self._left
        results = {
            "failed": self.failed if failed is None else failed,
            "left_behind": [f"{what}: {how}" for what, how in (*left.gone, *left.found)],
            "trouble": None if trouble is None else str(trouble),
            "limits_hit": self._limits_hit,
        }
        self._write("results.json", {**self._described(), **results})

    async def _end_record(self) -> None:
        self._watch.end()
        if self._shared is not None:
            self._shared.record.turn_to(Silent())
        try:
            self._history.close()
        finally:
            self._run.close()


def _not_of_others(stack: Stack) -> dict[str, str]:
    """What could be done to a daemon, and is not while other tests use it too."""
    there = stack.abilities
    return {name: _SHARED for name in HARMS_THE_DAEMON if there[name] is None}
