"""One fault, put on and taken off again, whatever happens in between."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Final, Self

from harness.clock import now_ns
from harness.environment.clean_up import put_away
from harness.environment.hops import EDGE, Hop
from harness.errors import HarnessError, HealFailed, InvalidValue, ProxyError
from harness.faults.base import Fault, Toxic
from harness.history import OpType, Recorder
from harness.proxy.control import Control

__all__ = ["Injection"]

_LIFT_TIMEOUT_S: Final = 30.0


class Injection:
    """
    A fault put on and taken off: an async context manager, and at the same time what
    the fault may act upon (`faults.base.Target`).

    Args:
        fault: What to put on.
        name: Names this injection: its toxic on the proxy, its lines in the record.
        hop: Where.
        control: The API of the server that has the proxy there.
        recorder: Where it is noted.
        collect: Takes the proxy's new events into the record.

    Attributes:
        entered: Whether it was ever put on.
        in_place: Whether it is on at the moment.
        hop: Where it is.
        left_by: What was raised out of its block, if anything was.
    """

    def __init__(
        self,
        fault: Fault,
        name: str,
        *,
        hop: Hop,
        control: Control,
        recorder: Recorder,
        collect: Callable[[], Awaitable[object]],
    ) -> None:
        self.fault = fault
        self.name = name
        self.hop = hop
        self._site = hop.site
        self._control = control
        self._proxy = hop.proxy
        self._recorder = recorder
        self._collect = collect
        self.entered = False
        self.in_place = False
        self.left_by: BaseException | None = None

    async def __aenter__(self) -> Self:
        """
        Put it on. Where that fails half-way, it is taken off again.

        Raises:
            InvalidValue: If it is on already.
        """
        if self.in_place:
            raise InvalidValue(
                f"{self.name} is in place already",
                [("next", "make another one with `inject` to have the fault twice")],
            )
        self.entered = True
        self._note("invoke")
        try:
            await self.fault.inject(self)
            self._note("ok")
        except BaseException as error:
            self._note("info", error=f"not injected: {error!r}")
            await put_away(error, self._lift())
            raise
        self.in_place = True
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
        self.left_by = error
        await put_away(error, self._lift(), self._collect())

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
        self.in_place = False
        self._note("ok", f="heal", elapsed_ms=round((now_ns() - started_ns) / 1e6, 3))

    def _note(
        self,
        type: OpType,
        *,
        f: str | None = None,
        error: str | None = None,
        **more: float,
    ) -> None:
        self._recorder.record(
            process="nemesis",
            type=type,
            f=f or self.fault.type,
            value={"name": self.name, **self.settings(), **more},
            error=error,
        )

    def settings(self) -> dict[str, Any]:
        """What was asked for, for the record. Most are on the edge, and say nothing of it."""
        hop = {} if self.hop.name == EDGE else {"hop": self.hop.name}
        return {**hop, **self.fault.settings()}

    async def add_toxic(self, toxic: Toxic) -> None:
        """Put this injection's toxic on the wire."""
        await self._control.add_toxic(self._proxy, toxic, name=self.name)

    async def remove_toxic(self) -> None:
        """Take it off, and read back that it is gone."""
        try:
            await self._control.remove_toxic(self._proxy, self.name)
        except ProxyError as error:
            # Somebody took it off already (a heal, a reset): reading back decides.
            if error.status != 404:
                raise
        if self.name in [toxic.name for toxic in await self._control.toxics(self._proxy)]:
            raise HealFailed(f"toxic {self.name} is still on proxy {self._proxy} after its removal")

    async def close_link(self) -> None:
        """Refuse new connections and close the live ones."""
        await self._control.update(self._proxy, enabled=False)

    async def open_link(self) -> None:
        """Accept connections again."""
        state = await self._control.update(self._proxy, enabled=True)
        if not state.enabled:
            raise HealFailed(f"proxy {state.name} is still disabled")

    async def pause_program(self) -> None:
        """Freeze the processes at the far end."""
        await self._site.pause()

    async def resume_program(self) -> None:
        """Let them go on."""
        await self._site.resume()

    async def kill_program(self) -> None:
        """End them at once."""
        await self._site.kill()

    async def stop_program(self, *, within_s: float) -> None:
        """Ask them to end."""
        await self._site.stop(within_s=within_s)

    async def start_program(self) -> None:
        """Start what does not run there."""
        await self._site.revive()

    async def disconnect_program(self) -> None:
        """Cut it off its network."""
        await self._site.disconnect()

    async def connect_program(self) -> None:
        """Put it back."""
        await self._site.connect()

    async def limit_program(
        self,
        *,
        memory_bytes: int | None = None,
        cpus: float | None = None,
        descriptors: int | None = None,
    ) -> None:
        """
        Tighten its limits.

        Raises:
            InvalidValue: If one is not tighter than what it usually has.
        """
        given = {"memory_bytes": memory_bytes, "cpus": cpus, "descriptors": descriptors}
        tight = {name: value for name, value in given.items() if value is not None}
        for name, value in tight.items():
            usual = getattr(self._site.limits, name)
            if usual is not None and value >= usual:
                raise InvalidValue(
                    f"{self.name} would limit nothing",
                    [(name, f"{value:g} is not below {usual:g}, which it has in any case")],
                )
        self.hop.tightened[self] = tight
        await self._site.limit(memory_bytes=memory_bytes, cpus=cpus, descriptors=descriptors)

    async def unlimit_program(self) -> None:
        """Put its usual limits back, but for those that other faults have tightened."""
        self.hop.tightened.pop(self, None)
        await self._site.unlimit()
        still = {name: n for given in self.hop.tightened.values() for name, n in given.items()}
        if still:
            await self._site.limit(**still)
