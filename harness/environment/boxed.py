"""
A program in a container, as `processes.Program` is one in a process.

Its output is followed by a thread of its own, into the same kind of log; where that ends,
the container has ended, and how is known without asking.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final

from harness.clock import now, now_ns
from harness.daemons.base import Limits
from harness.environment import kernel
from harness.environment.cgroup import Use, read_use
from harness.environment.containers import Box, BoxState, Engine, Order, Said
from harness.environment.limits import Mark, used_up, with_words
from harness.environment.logs import Log
from harness.environment.processes import ending
from harness.errors import EnvironmentFailed

__all__ = ["Boxed", "Heard"]

_FOLLOWED_S: Final = 5.0
_BROKEN_OFF_S: Final = 0.1
# An engine takes its time about it.
_GONE: Final = ("removing", "dead", "removed")
# Where an engine answers for names, in each container on a network of one's own.
_ENGINES_NAMES: Final = "127.0.0.11"
Heard = Callable[[Said, tuple[int, int]], None]
"""Takes what a container said, and the interval, on our clock, in which it was received."""

_OUT_OF_MEMORY: Final = "killed for want of memory (OOM)"


class Boxed:
    """
    One container of a run, started as often as needed. Its methods block.

    Args:
        name: "daemon", "proxy" or "provider".
        engine: Where it runs.
        order: What is wanted.
        log: Where its output goes.
        heard: Who else is told of it: what it said, and when that was received here.

    Attributes:
        started_at: When it was last started, in seconds of the monotonic clock.
    """

    def __init__(
        self, name: str, engine: Engine, order: Order, *, log: Log, heard: Heard | None = None
    ) -> None:
        self.name = name
        self.order = order
        self.started_at = 0.0
        self._engine = engine
        self._log = log
        self._heard = heard
        # The engine's stamp of the last thing it said.
        self._last_ns = 0
        self._box: Box | None = None
        self._follower: threading.Thread | None = None
        self._last = BoxState(status="created")
        self._lost: str | None = None
        self._pid = 0
        # Whether that process is seen from here.
        self._seen = False
        self._use = Use()

    @property
    def box(self) -> Box:
        """Its container."""
        assert self._box is not None
        return self._box

    @property
    def started(self) -> bool:
        """Whether it was ever started."""
        return self._box is not None

    @property
    def command(self) -> list[str]:
        """What it was started with, for a person."""
        return ["docker", "run", self.order.image, *(self.order.command or ())]

    @property
    def identity(self) -> dict[str, Any]:
        """Which container it is, and how it ended, where it has."""
        who = {"container": self.order.name, "image": self.order.image}
        if self._last.exit_code is None:
            return who
        return {**who, "exit_code": self._last.exit_code, "oom_killed": self._last.oom_killed}

    @property
    def alive(self) -> bool:
        """Whether it runs, as far as its output tells."""
        return self._last.alive

    @property
    def state(self) -> str:
        """How it is, in words."""
        if self._lost is not None:
            return self._lost
        last = self._last
        if last.status in _GONE:
            return "was removed by somebody else"
        if last.oom_killed:
            return _OUT_OF_MEMORY
        code = last.exit_code
        # As a shell tells of signals.
        return ending(code if code is None or code <= 128 else 128 - code)

    @property
    def out_of_memory(self) -> bool:
        """Whether the kernel ended it for want of memory."""
        return self._last.oom_killed

    def start(self) -> None:
        """
        Make it and start it; the second time, start it again.

        Raises:
            EnvironmentFailed: If that cannot be done.
        """
        self.started_at = now()
        self._lost = None
        if self._box is None:
            self._box = self._engine.run(self.order)
        else:
            self._box.start()
        self._follow(self._box)

    def adopt(self, box: Box) -> None:
        """Take a container that somebody else made and started, Compose for instance."""
        self.started_at = now()
        self._box = box
        self._follow(box)

    def _follow(self, box: Box) -> None:
        stream, hang_up = box.read(after_ns=self._last_ns)
        self._last = BoxState(status="running")
        self._pid, self._seen = 0, False
        thread = threading.Thread(
            target=self._take, args=(stream, hang_up), name=f"log of {self.order.name}", daemon=True
        )
        self._follower = thread
        thread.start()

    def _take(self, stream: Iterator[Said], hang_up: Callable[[], None]) -> None:
        """Write down what comes until it ends, and see how it ended."""
        try:
            # Its process is looked up while there is one: after its end nobody knows its number.
            self.use(quickly=True)
            while True:
                self._write_down(stream)
                self._last = self.box.state()
                if not self.alive:
                    break
                # It was the stream that ended: an engine may have been busy with other things.
                hang_up()
                threading.Event().wait(_BROKEN_OFF_S)
                stream, hang_up = self.box.read(after_ns=self._last_ns)
        except Exception as error:  # noqa: BLE001 - whatever it is, it would run for ever
            # Nor is what it writes taken down any more: nobody must take what there is for all.
            said = str(error) or type(error).__name__
            self._lost = f"cannot be seen any more: {said.splitlines()[0]}"
            self._last = BoxState(status="unknown")
        finally:
            hang_up()

    def _write_down(self, stream: Iterator[Said]) -> None:
        # There also where nothing is written: errors point at it.
        self._log.append(b"")
        since_ns = now_ns()
        for said in stream:
            received_ns = now_ns()
            self._log.append(said.text)
            self._last_ns = max(self._last_ns, said.time_ns)
            if self._heard is not None:
                self._heard(said, (since_ns, received_ns))
            since_ns = received_ns

    def _await_end(self) -> None:
        """Wait until the rest of its output is on file, and its state is what it is."""
        if self._follower is not None:
            self._follower.join(_FOLLOWED_S)
        self._last = self.box.state()

    def freeze(self) -> None:
        """Stop its processes without telling them."""
        self.box.pause()

    def thaw(self) -> bool:
        """Let them go on. Returns whether they were frozen."""
        return self.box.unpause()

    def kill(self) -> None:
        """End its processes at once."""
        self.box.unpause()
        self.box.kill()
        self._await_end()

    def stop(self, *, within_s: float) -> None:
        """Ask it to end (SIGTERM); kill it after that many seconds."""
        self.box.unpause()
        self.box.stop(within_s=within_s)
        self._await_end()

    def use(self, *, quickly: bool = False) -> Use:
        """
        What it has used and been refused since it was last started.

        Args:
            quickly: Where this machine's kernel does not tell, say what was known last instead
                of asking the engine, which takes a second.
        """
        if self.alive:
            self._pid = self._pid or self.box.state().pid
            seen = read_use(self._pid, self.box.id)
            self._seen = self._seen or seen is not None
            if seen is None and not quickly:
                seen = Use.of_engine(self.box.use())
            self._use = seen or self._use
        return self._use

    def mark(self) -> Mark:
        """This moment, for what is asked of it later."""
        return Mark(self.log_bytes(), self.use(quickly=True))

    def limits_hit(self, limits: Limits, *, since: Mark) -> list[str]:
        """Those of its limits that it hit after that, each in words; never an error."""
        found = []
        with suppress(EnvironmentFailed):
            if self.out_of_memory:
                found.append("memory: the kernel killed it for want of memory (OOM)")
            found += used_up(self.use().since(since.use), limits)
        return with_words(found, self.written(since=since.log_bytes))

    def connections_on(self, port: int) -> int | None:
        """How many connections a port of it has; None where this machine does not see it."""
        self.use(quickly=True)
        return kernel.connections(port, of=self._pid) if self._seen else None

    def listeners(self) -> list[tuple[str, int]]:
        """Where it listens in there, addresses and ports; none where that is not seen here."""
        self.use(quickly=True)
        there = kernel.listeners(of=self._pid) if self._seen else []
        return [(ip, port) for ip, port in there if ip != _ENGINES_NAMES]

    def silent_on(self, port: int) -> bool:
        """Whether nobody in it listens there any more; False where this machine does not see it."""
        self.use(quickly=True)
        return self._seen and not kernel.listens(port, of=self._pid)

    def is_dying(self) -> bool:
        """Whether its first process ends; False where this machine does not see it."""
        self.use(quickly=True)
        return self._seen and kernel.is_dying(self._pid)

    def end(self, *, within_s: float | None = None) -> None:
        """
        End its processes, after that many seconds of asking them to; None: at once, and so where
        they would not hear that.
        """
        if self.alive and (within_s is None or self._is_deaf()):
            self.kill()
        elif self.alive and within_s is not None:
            self.stop(within_s=within_s)

    def remove(self, *, within_s: float | None = None) -> None:
        """End it as `end` does, and remove it."""
        if self._box is None:
            return
        try:
            # First, so that it is known how: of what is gone nobody tells.
            self.end(within_s=within_s)
        finally:
            self._box.remove()
            if self._follower is not None:
                self._follower.join(_FOLLOWED_S)
            self._log.clean()

    def _is_deaf(self) -> bool:
        """Whether SIGTERM is none to it: as the first process in there it gets what it handles."""
        self.use(quickly=True)
        return self._seen and not kernel.hears(self._pid, signal.SIGTERM)

    def written(self, *, since: int = 0) -> str:
        """What it wrote to its log from that byte on, without secrets."""
        return self._log.written(since=since)

    def log_bytes(self) -> int:
        """How much it wrote so far."""
        return self._log.size()

    def tail(self, lines: int = 12) -> str:
        """The last lines of its log."""
        return self._log.tail(lines)

    def next_step(self) -> tuple[str, str]:
        """The row of an error that says what to do next."""
        return self._log.next_step()
