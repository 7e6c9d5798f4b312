"""
What a test stands on, whatever backend it runs on.

A `Stack` is a daemon and a proxy server that run somewhere. An `Environment` is one
proxy of that server before that daemon, with a record of its own. Neither keeps
anything that belongs to an event loop, so synchronous fixtures can hand them to
tests on any loop.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

from harness.address import Address
from harness.client.session import Session
from harness.environment.clean_up import put_away
from harness.environment.injection import Injection
from harness.environment.stack import Stack
from harness.errors import HealFailed, ProxyError
from harness.faults.base import Fault
from harness.proxy.control import Control
from harness.records import Effect, ProxyEvent, read_lines

__all__ = ["Environment"]


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
        self._injected = 0

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
        self._injected += 1
        return Injection(
            fault,
            f"{fault.type}-{self._injected}",
            stack=self.stack,
            proxy=self.name,
            collect=self.collect,
        )

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
