"""
One test's environment: its run directory, its record, its proxy, and what is left of it
when the test is over.

Rule: tear-down goes through all its steps, whatever happens in one, and a complaint of
its own never stands before the test's first error.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TypeVar

from harness.daemons.base import Daemon
from harness.environment.base import Environment
from harness.environment.clean_up import put_away
from harness.environment.injection import Injection
from harness.environment.stack import Stack
from harness.errors import NotIsolated, ProxyError
from harness.faults.base import Fault
from harness.history import History
from harness.pytest_plugin.house import House, Shared
from harness.pytest_plugin.portal import Portal
from harness.pytest_plugin.watch import Watch
from harness.run.store import RunDirectory, load_history, run_name

__all__ = ["Place", "TestEnvironment", "Wish"]

T = TypeVar("T")

_SHARED: Final = (
    "other tests use its daemon too; mark the test"
    ' @pytest.mark.harness_isolation("daemon") to have one of its own'
)


class TestEnvironment(Environment):
    """
    The environment of one test, for asynchronous and for plain tests.

    `inject` serves `async with` and `with`; `run` carries out a coroutine for a test that
    is none itself.

    Attributes:
        run_directory: Where the record and the logs of this test are kept.
    """

    # Not a test, whatever its name says to pytest.
    __test__ = False

    def __init__(
        self, stack: Stack, *, portal: Portal, run_directory: Path, **options: Any
    ) -> None:
        super().__init__(stack, **options)
        self.run_directory = run_directory
        self._portal = portal

    def inject(self, fault: Fault) -> Guard:  # type: ignore[override]
        """A guard for `async with` and for `with`; see `Environment.inject`."""
        return Guard(super().inject(fault), self._portal)

    def run(self, work: Coroutine[Any, Any, T], *, within_s: float = 60.0) -> T:
        """Carry out a coroutine on a loop of our own, for a test that is none."""
        return self._portal.run(work, within_s=within_s)

    def history(self) -> History:
        """What was recorded so far, the proxy's newest events included."""
        self._portal.run(self.collect(), within_s=10.0)
        return load_history(self.run_directory)


class Guard:
    """One injection, entered by `async with` on the test's loop, or by `with` on ours."""

    def __init__(self, injection: Injection, portal: Portal) -> None:
        self.injection = injection
        self._portal = portal

    async def __aenter__(self) -> Injection:
        return await self.injection.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.injection.__aexit__(kind, error, trace)

    def __enter__(self) -> Injection:
        return self._portal.run(self.injection.__aenter__())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._portal.run(self.injection.__aexit__(kind, error, trace))


@dataclass(frozen=True, kw_only=True)
class Wish:
    """
    What a test asks for.

    Attributes:
        test: Its name, which names the run directory.
        isolation: "proxy", "daemon" or "environment".
        proxy: "embedded", or the URL of a Toxiproxy's API.
    """

    test: str
    daemon: Daemon
    proxy: str
    isolation: str
    seed: int


class Place:
    """
    One test's environment, from `open` to `close`.

    Attributes:
        failed: Whether the test failed; then what it left behind is no news.
        complaints: What it left behind.
        injections: Every fault it asked for.
        proxy_tells: Whether its proxy tells what it did to which connection.
    """

    def __init__(self, house: House, wish: Wish) -> None:
        self.house = house
        self.wish = wish
        self.failed = False
        self.complaints: list[tuple[str, str]] = []
        self.injections: list[Injection] = []
        self.proxy_tells = True
        self._tasks: list[str] = []
        self._shared: Shared | None = None
        self._since = (0, 0)
        self._open: TestEnvironment | None = None
        self._secrets = [] if wish.daemon.token is None else [wish.daemon.token]

    @property
    def environment(self) -> TestEnvironment | None:
        """The environment, while it is up."""
        return self._open

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
        name = run_name(self.wish.test)
        self._run = RunDirectory.create(self.house.runs, name, series=self.house.series)
        self._history = self._run.history(secrets=self._secrets)
        try:
            environment = self.house.portal.run(self._build())
        except BaseException:
            self._end_record()
            raise
        self._open = environment
        self.injections = environment.injections
        self.proxy_tells = environment.abilities.get("events") is None
        self._write("environment.json", {**environment.stack.describe(), **self._described()})
        return environment

    def _described(self) -> dict[str, Any]:
        wish = self.wish
        return {"test": wish.test, "seed": wish.seed, "isolation": wish.isolation}

    def _write(self, name: str, value: Mapping[str, Any]) -> None:
        self._run.write_json(name, value, secrets=self._secrets)

    async def _build(self) -> TestEnvironment:
        house, wish = self.house, self.wish
        self._watch = Watch(self._history)
        where: dict[str, Any] = {"directory": self.path, "recorder": self._history}
        match wish.isolation:
            case "environment":
                stack = await house.fresh_environment(
                    wish.daemon, wish.proxy, seed=wish.seed, **where
                )
            case "daemon":
                stack = await house.fresh_daemon(wish.daemon, wish.proxy, **where)
            case _:
                self._shared = await house.shared(wish.daemon, wish.proxy)
                stack = self._shared.stack
                self._since = stack.site.log_bytes(), stack.server.log_bytes()
        own = self._shared is None
        environment = TestEnvironment(
            stack,
            portal=house.portal,
            run_directory=self.path,
            owns=own,
            name=house.name_of_proxy(wish.proxy),
            seed=wish.seed,
            recorder=self._watch,
            without={} if own or not stack.site.own else {"process": _SHARED},
        )
        await environment.__aenter__()
        if own:
            try:
                await house.probe(stack, wish.proxy)
                # The log of a proxy server that others use begins before this test.
                self._since = 0, 0 if stack.ends_server else stack.server.log_bytes()
            except BaseException as error:
                await put_away(error, environment.__aexit__(type(error), error, None))
                raise
        return environment

    def call_begins(self) -> None:
        """Whatever runs now on the test's loops is not the test's own."""
        if self._open is not None:
            self._watch.look()

    def call_ended(self) -> None:
        """See which tasks the test began and left; its loop may be closed before we are."""
        if self._open is not None:
            self._tasks = self._watch.left(besides=self.house.portal.loop)

    def logs(self) -> dict[str, str]:
        """What daemon and proxy wrote meanwhile, by file name; only of those we can read."""
        if self._open is None:
            files = (self.path / name for name in ("daemon.log", "proxy.log"))
            return {f.name: f.read_text("utf-8", "replace") for f in files if f.exists()}
        stack = self._open.stack
        daemon, proxy = self._since
        texts = {"daemon.log": (stack.site, daemon), "proxy.log": (stack.server, proxy)}
        return {name: part.written(since=n) for name, (part, n) in texts.items() if part.own}

    def history(self) -> History:
        """What was recorded so far."""
        if self._open is not None:
            return self._open.history()
        return load_history(self.path)

    def close(self) -> None:
        """
        Heal, put everything away, and see what the test left behind.

        Raises:
            NotIsolated: If it left something, and did not fail anyway.
            HarnessError: If something could not be put away.
        """
        environment = self._open
        if environment is None:
            return
        trouble: BaseException | None = None
        try:
            self.house.portal.run(self._close(environment))
        except BaseException as error:
            trouble = error
            raise
        finally:
            self._open = None
            self._write("results.json", {**self._described(), **self._result(trouble)})
            self._end_record()
            # Then a trouble of ours is told beside what the test left, not instead of it.
            if self.complaints and not self.failed:
                raise self._not_isolated() from trouble

    async def _close(self, environment: TestEnvironment) -> None:
        logs = self.logs()
        await put_away(
            None,
            self._look_behind(environment),
            environment.__aexit__(None, None, None),
            self._see_daemon(),
            self._keep(logs),
        )

    async def _look_behind(self, environment: TestEnvironment) -> None:
        """What the test ought to have put away itself."""
        left = self.complaints
        site = environment.stack.site
        if site.trouble is not None:
            left.append(("daemon", f"{site.trouble} in the middle of the test, unasked"))
        try:
            state = await environment.control.proxy(environment.name)
        except ProxyError as error:
            left.append(("proxy", error.headline))
        else:
            left += [("toxic", f"{toxic.name} was still on the wire") for toxic in state.toxics]
            if not state.enabled:
                left.append(("link", "the proxy was still disabled"))
        left += [
            ("connection", f"{session.process} was never closed")
            for session in environment.sessions
            if session.is_entered
        ]
        left += [("task", f"{name} was still running") for name in self._tasks]

    async def _see_daemon(self) -> None:
        """A daemon that others will use must look as it did before."""
        if self._shared is None:
            return
        found = await self.house.harmed(self._shared)
        if "trouble" in found and any(what == "daemon" for what, _ in self.complaints):
            return
        for name, (before, after) in found.items():
            said = f"{name} {before} before, {after} after" if name != "trouble" else str(after)
            self.complaints.append(("daemon", said))

    async def _keep(self, logs: Mapping[str, str]) -> None:
        """The part of the logs that is this test's, where they are not in its folder anyway."""
        for name, text in logs.items():
            if not (self.path / name).exists():
                self._run.write_text(name, text, secrets=self._secrets)

    def _result(self, trouble: BaseException | None) -> dict[str, Any]:
        return {
            "failed": self.failed,
            "left_behind": [f"{what}: {how}" for what, how in self.complaints],
            "trouble": None if trouble is None else str(trouble),
        }

    def _not_isolated(self) -> NotIsolated:
        rows = [*self.complaints]
        what_was_left = {what for what, _ in self.complaints}
        if what_was_left & {"toxic", "connection", "task", "link"}:
            rows.append(("next", "put it away in the test: `async with` does, whatever happens"))
        if self._shared is not None and "daemon" in what_was_left:
            rows.append(
                ("next", 'a test that changes its daemon: @pytest.mark.harness_isolation("daemon")')
            )
        return NotIsolated("the test left something behind; all of it was put away", rows)

    def _end_record(self) -> None:
        self._history.close()
        self._run.close()
