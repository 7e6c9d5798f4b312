"""
What a test stands on, whatever backend it runs on.

A `Stack` is a daemon and a proxy server that run somewhere. An `Environment` is one
proxy of that server before that daemon, with a record of its own. Neither keeps
anything that belongs to an event loop, so synchronous fixtures can hand them to
tests on any loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from harness.address import Address
from harness.client.session import Session
from harness.clock import now_ns
from harness.daemons.base import Daemon
from harness.errors import HarnessError, HealFailed, ProxyError
from harness.faults.base import Fault, Toxic
from harness.history import Recorder
from harness.proxy.control import Control
from harness.records import Effect, ProxyEvent, read_lines

__all__ = ["Environment", "Injection", "Stack"]

_LIFT_TIMEOUT_S = 30.0


class Stack(Protocol):
    """A daemon and a proxy server that run somewhere. Each backend is one."""

    daemon: Daemon
    control: Control
    recorder: Recorder

    @property
    def run_id(self) -> str:
        """Names everything that belongs to it."""

    @property
    def daemon_address(self) -> Address:
        """The daemon's own address."""

    @property
    def effects_file(self) -> Path:
        """Where the daemon's effects go."""

    async def pause_daemon(self) -> None:
        """Freeze the daemon's processes."""

    async def resume_daemon(self) -> None:
        """Let them go on."""

    async def kill_daemon(self) -> None:
        """End them at once."""

    async def stop_daemon(self, *, within_s: float) -> None:
        """Ask them to end."""

    async def start_daemon(self) -> None:
        """Start the daemon where it does not run, and wait for its hello."""


class Environment:
    """
    One proxy before a running daemon.

    Attributes:
        url: Where clients connect, through the proxy.
        daemon_url: The daemon's own address.
        name: The proxy's name in its server's API.
    """

    def __init__(self, stack: Stack, *, name: str = "edge") -> None:
        self.stack = stack
        self.name = name
        self.url = ""
        self._listen: Address | None = None
        self._seen = 0
        self._clients = 0
        self._injections: list[Injection] = []

    @property
    def daemon_url(self) -> str:
        """The daemon's own address, past the proxy."""
        return f"ws://{self.stack.daemon_address}{self.stack.daemon.path}"

    @property
    def control(self) -> Control:
        """The proxy server's API."""
        return self.stack.control

    async def __aenter__(self) -> Self:
        """Make the proxy."""
        upstream = str(self.stack.daemon_address)
        # Events of earlier proxies of this server belong to somebody else's record.
        self._seen = await self._newest_event()
        state = await self.control.create(self.name, upstream=upstream)
        self._listen = Address.parse(state.listen)
        self.url = f"ws://{self._listen}{self.stack.daemon.path}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Lift what is left, take the proxy's events into the record, remove the proxy."""
        await put_away(error, self.heal(), self.collect(), self.control.delete(self.name))

    def client(
        self,
        *,
        process: str | None = None,
        session_id: str | None = None,
        direct: bool = False,
        call_timeout_s: float = 2.0,
    ) -> Session:
        """
        An unopened session; `async with` opens it.

        Args:
            process: Its name in the record (default: client-1, client-2, …).
            session_id: The session to ask the daemon for.
            direct: Go past the proxy, to the daemon's own address.
            call_timeout_s: Give up on a call after so many seconds.
        """
        self._clients += 1
        daemon = self.stack.daemon
        return Session(
            self.daemon_url if direct else self.url,
            dialect=daemon.dialect,
            process=process or f"client-{self._clients}",
            token=daemon.token,
            session_id=session_id,
            headers=daemon.headers,
            subprotocols=daemon.subprotocols,
            recorder=self.stack.recorder,
            call_timeout_s=call_timeout_s,
        )

    def inject(self, fault: Fault) -> Injection:
        """
        A guard: `async with env.inject(Latency(latency_ms=200)):` puts the fault on and takes
        it off again, whatever happens inside.
        """
        injection = Injection(self, fault, f"{fault.type}-{len(self._injections) + 1}")
        self._injections.append(injection)
        return injection

    async def heal(self) -> None:
        """
        Lift every fault of this environment, and read back that none is left.

        Raises:
            HealFailed: If something is still there.
        """
        await self.stack.resume_daemon()
        await self.stack.start_daemon()
        for toxic in await self.control.toxics(self.name):
            await self.control.remove_toxic(self.name, toxic.name)
        state = await self.control.update(self.name, enabled=True)
        if state.toxics or not state.enabled:
            left = [toxic.name for toxic in state.toxics] or ["the proxy is disabled"]
            raise HealFailed(f"proxy {self.name} is not healed: {', '.join(left)}")

    async def collect(self) -> list[ProxyEvent]:
        """
        Take the proxy's new events into the record.

        Returns:
            Those that are new since the last time.
        """
        fresh = [event for event in await self._events() if event.seq > self._seen]
        for event in fresh:
            self._seen = event.seq
            if event.proxy in (self.name, None):
                self._record(event)
        return [event for event in fresh if event.proxy in (self.name, None)]

    async def _newest_event(self) -> int:
        try:
            return (await self.control.about()).events
        except ProxyError as error:
            # A real Toxiproxy tells nothing of its connections.
            if error.status == 404:
                return 0
            raise

    async def _events(self) -> list[ProxyEvent]:
        try:
            return await self.control.events(since=self._seen)
        except ProxyError as error:
            if error.status == 404:
                return []
            raise

    def _record(self, event: ProxyEvent) -> None:
        value = {
            "seq": event.seq,
            "connection": event.connection,
            "stream": event.stream,
            "toxic": event.toxic,
            "bytes": event.bytes,
            "detail": event.detail,
        }
        self.stack.recorder.record(
            process="proxy",
            type="info",
            f=event.kind,
            value={key: item for key, item in value.items() if item is not None},
            time_ns=event.time_ns,
            clock=event.clock,
        )

    def effects(self) -> list[Effect]:
        """The daemon's effect log so far; a torn last line is left out."""
        try:
            data = self.stack.effects_file.read_bytes()
        except FileNotFoundError:
            return []
        return read_lines(data, Effect)[0]


class Injection:
    """
    A fault put on and taken off: an async context manager, and at the same time what
    the fault may act upon (`faults.base.Target`).
    """

    def __init__(self, environment: Environment, fault: Fault, name: str) -> None:
        self.fault = fault
        self.name = name
        self._environment = environment
        self._stack = environment.stack

    async def __aenter__(self) -> Self:
        """Put it on. Where that fails half-way, it is taken off again."""
        self._note("invoke")
        try:
            await self.fault.inject(self)
        except BaseException as error:
            self._note("info", error=f"not injected: {error!r}")
            await put_away(error, self._lift())
            raise
        self._note("ok")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """
        Take it off and take the proxy's events into the record.

        Raises:
            HealFailed: If it could not be lifted, and nothing worse was under way.
        """
        await put_away(error, self._lift(), self._environment.collect())

    async def _lift(self) -> None:
        started_ns = now_ns()
        try:
            async with asyncio.timeout(_LIFT_TIMEOUT_S):
                await self.fault.lift(self)
        except (HarnessError, TimeoutError) as error:
            self._note("info", error=f"not lifted: {error}", f="heal")
            raise HealFailed(
                f"{self.name} could not be lifted: {error or f'no end in {_LIFT_TIMEOUT_S:g} s'}",
                [("next", "use a fresh environment; this one may still be harmed")],
            ) from error
        self._note("ok", f="heal", elapsed_ms=round((now_ns() - started_ns) / 1e6, 3))

    def _note(self, kind: str, *, f: str | None = None, **more: object) -> None:
        error = more.pop("error", None)
        self._stack.recorder.record(
            process="nemesis",
            type=kind,  # type: ignore[arg-type]
            f=f or self.fault.type,
            value={"name": self.name, **self.fault.settings(), **more},
            error=None if error is None else str(error),
        )

    async def add_toxic(self, toxic: Toxic) -> None:
        """Put this injection's toxic on the wire."""
        await self._environment.control.add_toxic(self._environment.name, toxic, name=self.name)

    async def remove_toxic(self) -> None:
        """Take it off, and read back that it is gone."""
        control, proxy = self._environment.control, self._environment.name
        try:
            await control.remove_toxic(proxy, self.name)
        except ProxyError as error:
            # Somebody took it off already (a heal, a reset): reading back decides.
            if error.status != 404:
                raise
        if self.name in [toxic.name for toxic in await control.toxics(proxy)]:
            raise HealFailed(f"toxic {self.name} is still on proxy {proxy} after its removal")

    async def close_link(self) -> None:
        """Refuse new connections and close the live ones."""
        await self._environment.control.update(self._environment.name, enabled=False)

    async def open_link(self) -> None:
        """Accept connections again."""
        state = await self._environment.control.update(self._environment.name, enabled=True)
        if not state.enabled:
            raise HealFailed(f"proxy {state.name} is still disabled")

    async def pause_daemon(self) -> None:
        """Freeze the daemon's processes."""
        await self._stack.pause_daemon()

    async def resume_daemon(self) -> None:
        """Let them go on."""
        await self._stack.resume_daemon()

    async def kill_daemon(self) -> None:
        """End the daemon's processes at once."""
        await self._stack.kill_daemon()

    async def stop_daemon(self, *, within_s: float) -> None:
        """Ask the daemon to end."""
        await self._stack.stop_daemon(within_s=within_s)

    async def start_daemon(self) -> None:
        """Start the daemon where it does not run."""
        await self._stack.start_daemon()


async def put_away(first: BaseException | None, *steps: Awaitable[object]) -> None:
    """
    Carry out clean-up steps, all of them, whatever happens.

    A cancellation that comes meanwhile waits until they are done. What goes wrong here
    never hides the error that was first: it becomes a note on it.

    Raises:
        BaseException: The error of the first step that failed, where `first` is None.
    """
    own: BaseException | None = None
    cancelled: asyncio.CancelledError | None = None
    for step in steps:
        task = asyncio.ensure_future(step)
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                cancelled = error
        failure = task.exception()
        if failure is None:
            continue
        if first is None and own is None:
            own = failure
        else:
            (first or own or failure).add_note(f"while putting away: {failure}")
    if cancelled is not None:
        raise cancelled from (first or own)
    if own is not None:
        raise own
