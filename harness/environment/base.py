"""
What a test stands on, whatever backend it runs on.

An `Environment` is one proxy before a running daemon, with a record of its own, and the hop
from that daemon to its provider, where it has one. It keeps nothing that belongs to an event
loop, so synchronous fixtures can hand it to tests on any loop.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from harness.address import Address
from harness.client.session import Session
from harness.environment.clean_up import put_away
from harness.environment.dialling import session_with
from harness.environment.healing import heal
from harness.environment.hops import EDGE, PROVIDER, Hop, HopName, refuse_no_hop
from harness.environment.injection import Injection
from harness.environment.own import refuse_when_full
from harness.environment.stack import Stack
from harness.errors import InvalidValue, ProgramExited
from harness.faults.base import Fault
from harness.history import Recorder
from harness.proxy.control import Control
from harness.records import Effect, Execution, ProxyEvent, read_lines

__all__ = ["Environment"]

T = TypeVar("T")


class Environment:
    """
    One proxy before a running daemon.

    Args:
        stack: Daemon and proxy server: up already, or up only meanwhile where `owns`.
        owns: Whether the stack is brought up and put away with this environment.
        name: The proxy's name in its server's API.
        listen: Where the proxy listens; None: a port of loopback that the system chooses.
        seed: Root seed of this proxy's draws; None: the server's.
        recorder: Where ops go; None: where the stack's go.
        without: Abilities that are not to be used here, each with the reason.

    Attributes:
        name: The proxy's name in its server's API.
        injections: Every fault that was asked for, in order.
        sessions: Every client that was made, in order.
        events: What the proxy told so far.
    """

    def __init__(
        self,
        stack: Stack,
        *,
        owns: bool = False,
        name: str = "edge",
        listen: Address | None = None,
        seed: int | None = None,
        recorder: Recorder | None = None,
        without: Mapping[str, str] | None = None,
    ) -> None:
        self.stack = stack
        self.name = name
        self.injections: list[Injection] = []
        self.sessions: list[Session] = []
        self.events: list[ProxyEvent] = []
        self._owns = owns
        self._seed = seed
        self._recorder = stack.recorder if recorder is None else recorder
        self._without = dict(without or {})
        self._wanted = listen
        self._listen: Address | None = None
        self._open = False
        self._seen = 0
        self._effects_from = 0
        self._executions_from = 0

    @property
    def address(self) -> Address:
        """
        Where clients connect: the proxy's host and port.

        Raises:
            InvalidValue: If this environment is not up.
        """
        if self._listen is None or not self._open:
            raise self._not_up()
        return self._listen

    def _not_up(self) -> InvalidValue:
        state = "has not been entered" if self._listen is None else "was put away"
        return InvalidValue(
            f"this environment {state}",
            [("next", "use it inside its `async with` block, or inside the test it is for")],
        )

    @property
    def url(self) -> str:
        """Where clients connect, through the proxy."""
        where, own = self.address, self.stack.site.address
        if self.stack.daemon.tls and own.host == "localhost":
            # A certificate for that name is none for 127.0.0.1, where the proxy listens.
            where = Address(own.host, where.port)
        return self.stack.daemon.url(where)

    @property
    def daemon_url(self) -> str:
        """The daemon's own address, past the proxy."""
        return self.stack.daemon.url(self.stack.site.address)

    @property
    def provider_url(self) -> str:
        """
        The provider's own address, past the proxy before it: "http://host:port".

        Raises:
            InvalidValue: If this daemon has none that we know of, or this environment is not up.
        """
        behind = self.stack.behind
        if behind is None:
            why = self.stack.abilities["provider"]
            raise InvalidValue(f"there is no provider: {why}")
        if not self._open:
            raise self._not_up()
        return f"http://{behind.site.address}"

    @property
    def control(self) -> Control:
        """The proxy server's API."""
        return self.stack.control

    @property
    def abilities(self) -> dict[str, str | None]:
        """What can be done here: None, or why it cannot."""
        return {**self.stack.abilities, **self._without}

    async def __aenter__(self) -> Self:
        """Make the proxy. Where that fails, nothing of ours is left."""
        refuse_when_full()
        if self._owns:
            await self.stack.__aenter__()
        try:
            await self._begin()
        except BaseException as error:
            if self._owns:
                ended = self.stack.__aexit__(type(error), error, error.__traceback__)
                await put_away(error, ended)
            raise
        return self

    async def _begin(self) -> None:
        # What a daemon did that others used belongs to somebody else's record.
        self._effects_from = _size(self.stack.site.effects_file)
        if self.stack.behind is not None:
            self._executions_from = _size(self.stack.behind.site.executions_file)
        # So do the events of earlier proxies of this server.
        self._seen = await self._newest_event()
        site, server = self.stack.site, self.stack.server
        upstream = site.inner_address if server.inside else site.address
        state = await server.make(
            self.name, upstream=upstream, listen=self._wanted, seed=self._seed
        )
        self._listen = Address.parse(state.listen)
        self._open = True

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """
        Lift what is left, take the proxy's events into the record, remove the proxy; each
        step, whatever the others did.
        """
        self._open = False
        steps: list[Coroutine[Any, Any, object]] = [self._complain()]
        # From a proxy server that is gone nothing can be lifted, and nothing be learnt.
        if self.stack.server.trouble is None:
            # What ends with us need not be healed.
            if not (self._owns and self.stack.site.own):
                steps.append(self.heal())
            steps.append(self.collect())
            if not (self._owns and self.stack.ends_server):
                steps.append(self.stack.server.remove(self.name))
        if self._owns:
            steps.append(self.stack.__aexit__(kind, error, trace))
        await put_away(error, *steps)

    async def _complain(self) -> None:
        """
        Say what is wrong although nobody raised it.

        Raises:
            InvalidValue: If a fault was made and never put on: the test tested nothing.
            ProgramExited: If the proxy server is gone.
        """
        if idle := self.idle:
            raise InvalidValue(
                f"{', '.join(idle)} was never put on",
                [("next", "write `async with env.inject(...):` around what it should harm")],
            )
        if (ended := self.stack.server.trouble) is not None:
            raise ProgramExited(
                f"the proxy server {ended}, unasked",
                [("log", self.stack.server.written() or "(it wrote nothing)")],
            )

    @property
    def idle(self) -> list[str]:
        """The faults that were asked for and never put on."""
        return [injection.name for injection in self.injections if not injection.entered]

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

        Raises:
            InvalidValue: If this environment is not up.
        """
        proxy = self.address
        session = session_with(
            self.stack.daemon,
            self.stack.site.address,
            process=process or f"client-{len(self.sessions) + 1}",
            via=None if direct else proxy,
            session_id=session_id,
            recorder=self._recorder,
            call_timeout_s=call_timeout_s,
        )
        self.sessions.append(session)
        return session

    def inject(self, fault: Fault, *, hop: HopName = EDGE) -> Injection:
        """
        A guard: `async with env.inject(Latency(latency_ms=200)):` puts the fault on and takes
        it off again, whatever happens inside.

        Args:
            fault: What to put on.
            hop: Where: "edge", between client and daemon, or "provider", between the daemon and
                the provider behind it. What harms a process harms the one at the far end.

        Raises:
            InvalidValue: If it is no fault or no hop, or this environment cannot do what it
                needs, or is not up.
        """
        if not isinstance(fault, Fault):
            raise InvalidValue(
                f"{fault!r} is no fault; expected for instance Latency(latency_ms=200)",
                [("next", "the faults are in harness.faults, one file each")],
            )
        if not self._open:
            raise self._not_up()
        refuse_no_hop(hop)
        self._refuse_unable(fault, hop)
        injection = Injection(
            fault,
            f"{fault.type}-{len(self.injections) + 1}",
            hop=self._hops[hop],
            control=self.control,
            recorder=self._recorder,
            collect=self.collect,
        )
        self.injections.append(injection)
        return injection

    @property
    def _hops(self) -> dict[HopName, Hop]:
        stack = self.stack
        edge = Hop(name=EDGE, proxy=self.name, site=stack.site, tightened=stack.tightened)
        return {EDGE: edge} if stack.behind is None else {EDGE: edge, PROVIDER: stack.behind.hop}

    def _refuse_unable(self, fault: Fault, hop: HopName) -> None:
        needs, there = fault.needs, self.abilities
        where = "here"
        if hop == PROVIDER:
            needs, where = needs | {PROVIDER}, "on the way to the provider"
            # What resets do was tried on the way to the client, which is another.
            of_it = {} if self.stack.behind is None else self.stack.behind.site.abilities
            there = {**self.stack.server.abilities, **of_it, PROVIDER: there[PROVIDER]}
        # What was not probed is tried.
        lacking = [(name, why) for name in sorted(needs) if (why := there.get(name)) is not None]
        if lacking:
            raise InvalidValue(f"{fault.type} cannot be done {where}", lacking)

    async def heal(self) -> None:
        """
        Lift every fault of this environment, and read back that none is left. Each step is
        taken, whatever becomes of the others.

        Raises:
            HealFailed: If something is still there.
        """
        await heal(list(self._hops.values()), self.control)

    async def collect(self) -> list[ProxyEvent]:
        """
        Take the new events of the proxies on its hops into the record.

        Returns:
            Those that are new since the last time.
        """
        fresh = await self._events()
        mine = [event for event in fresh if event.seq > self._seen]
        self._seen = max([self._seen, *(event.seq for event in mine)])
        hops = {hop.proxy: name for name, hop in self._hops.items()}
        mine = [event for event in mine if event.proxy is None or event.proxy in hops]
        for event in mine:
            self._record(event, hops.get(event.proxy or self.name, EDGE))
        self.events += mine
        return mine

    async def _newest_event(self) -> int:
        witness = self.stack.server.witness
        return 0 if witness is None else (await witness.about()).events

    async def _events(self) -> Sequence[ProxyEvent]:
        witness = self.stack.server.witness
        return [] if witness is None else await witness.events(since=self._seen)

    def _record(self, event: ProxyEvent, hop: HopName) -> None:
        value = {
            "hop": None if hop == EDGE else hop,
            "seq": event.seq,
            "connection": event.connection,
            "stream": event.stream,
            "toxic": event.toxic,
            "bytes": event.bytes,
            "detail": event.detail,
        }
        self._recorder.record(
            process="proxy",
            type="info",
            f=event.kind,
            value={key: item for key, item in value.items() if item is not None},
            time_ns=event.time_ns,
            clock=event.clock,
        )

    def effects(self) -> list[Effect]:
        """
        What the daemon's effect log got since this environment was entered; a torn last line
        is left out.

        Raises:
            InvalidValue: If this daemon writes no effect log that we can read.
        """
        file = self.stack.site.effects_file
        why = self.abilities["effects"]
        if file is None or why:
            raise InvalidValue(f"there is no effect log to read: {why}")
        return _new_in(file, self._effects_from, Effect)

    def executions(self) -> list[Execution]:
        """
        What the provider's log of executions got since this environment was entered; a torn last
        line is left out.

        Raises:
            InvalidValue: If there is no provider, or it writes no such log that we can read.
        """
        behind, why = self.stack.behind, self.abilities["executions"]
        if behind is None or why:
            raise InvalidValue(f"there is no log of executions to read: {why}")
        return _new_in(behind.site.executions_file, self._executions_from, Execution)


def _size(file: Path | None) -> int:
    """How long a file is, in bytes; 0 where there is none."""
    return file.stat().st_size if file is not None and file.exists() else 0


def _new_in(file: Path, since: int, shape: type[T]) -> list[T]:
    """The records of a file from that byte on; none where there is no file."""
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return []
    return read_lines(data[since:], shape)[0]
