"""What a test is given: an environment for asynchronous and for plain tests alike."""

from __future__ import annotations

from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from harness.environment.base import Environment
from harness.environment.hops import EDGE, HopName
from harness.environment.injection import Injection
from harness.environment.stack import Stack
from harness.faults.base import Fault
from harness.history import History
from harness.pytest_plugin.portal import Portal
from harness.run.store import load_history

__all__ = ["Guard", "TestEnvironment"]

T = TypeVar("T")


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

    def __repr__(self) -> str:
        where = self.url if self._open else "put away"
        return f"TestEnvironment({self.name!r}, {where}, {self.stack.daemon.type})"

    def inject(self, fault: Fault, *, hop: HopName = EDGE) -> Guard:  # type: ignore[override]
        """A guard for `async with` and for `with`; see `Environment.inject`."""
        return Guard(super().inject(fault, hop=hop), self._portal)

    def run(self, work: Coroutine[Any, Any, T], *, within_s: float = 60.0) -> T:
        """
        Carry out a coroutine on a loop of our own, for a test that is none.

        Raises:
            InvalidValue: If the test is over.
            TimeoutError: If it does not end within `within_s` seconds.
        """
        __tracebackhide__ = True
        if not self._open:
            work.close()
            raise self._not_up()
        return self._portal.run(work, within_s=within_s)

    def history(self) -> History:
        """What was recorded so far, the proxy's newest events included."""
        if self._open:
            self._portal.run(self.collect(), within_s=10.0)
        return load_history(self.run_directory)

    async def _complain(self) -> None:
        """The place says it, with all else that was left."""


class Guard:
    """One injection, entered by `async with` on the test's loop, or by `with` on ours."""

    def __init__(self, injection: Injection, portal: Portal) -> None:
        self.injection = injection
        self._portal = portal

    async def __aenter__(self) -> Injection:
        __tracebackhide__ = True
        return await self.injection.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.injection.__aexit__(kind, error, trace)

    def __enter__(self) -> Injection:
        __tracebackhide__ = True
        return self._portal.run(self.injection.__aenter__())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._portal.run(self.injection.__aexit__(kind, error, trace))
