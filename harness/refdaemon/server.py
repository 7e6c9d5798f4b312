"""
The daemon from its port to its end: listen, serve, drain.

Asked to end, it accepts no more, refuses new calls, lets running ones finish within
a bound, cancels the rest, and closes every connection with 1001.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from harness.address import Address
from harness.dialects.exai import CLOSE_GOING_AWAY
from harness.errors import EnvironmentFailed
from harness.refdaemon.collector import Collector
from harness.refdaemon.connection import Connection
from harness.refdaemon.effects import EffectLog
from harness.refdaemon.gauges import Gauges
from harness.refdaemon.settings import Settings, Transport
from harness.refdaemon.state import State
from harness.refdaemon.telling import Telling
from harness.refdaemon.transport.base import Listen, Listener, ListenOptions

if TYPE_CHECKING:
    from harness.refdaemon.monitor import Monitor

__all__ = ["serve"]

log = logging.getLogger(__name__)


async def serve(
    settings: Settings,
    *,
    effects: EffectLog | None,
    stop: asyncio.Event,
    listening: Callable[[Address, Address | None], None],
) -> None:
    """
    Run the daemon until `stop` is set.

    Args:
        settings: Its settings.
        effects: Its effect log, open; the caller closes it.
        stop: Set by whoever wants it to end.
        listening: Told the daemon's address, and its monitor's, once connections are accepted.

    Raises:
        EnvironmentFailed: If it cannot listen there.
    """
    state = State(settings, effects)
    gauges = Gauges(state)
    telling = Telling(state, gauges)
    collector = Collector()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, state.configuring.on_signal)
    async with AsyncExitStack() as ends:
        listener = await _listen(state)
        server = state.config.server
        monitor = await _monitor(telling, state)
        if monitor is not None:
            ends.push_async_callback(monitor.close)
        address = Address(server.host, listener.port)
        log.info("refdaemon: listening on %s, transport %s", address, settings.transport)
        state.listening = True
        collector.start()
        ends.callback(collector.stop)
        gauges.start()
        watched = None if monitor is None else Address(state.config.monitor.host, monitor.port)
        listening(address, watched)
        await stop.wait()
        listener.stop()
        state.listening = False
        await _drain(state)
        if "zombie" in state.defects:
            await asyncio.Event().wait()
        gauges.stop()
        state.pulse.stop()


async def _listen(state: State) -> Listener:
    config = state.config
    options = ListenOptions(
        host=config.server.host,
        port=config.server.port,
        max_bytes=config.server.max_message_bytes,
        upgrade_timeout_s=config.server.hello_timeout_s,
        high_water_bytes=config.connections.high_water_bytes,
    )
    listen = _transport(state.settings.transport)
    try:
        return await listen(lambda: Connection(state), options)
    except OSError as error:
        if "warn-only-bind" in state.defects:
            log.warning("refdaemon: port %d, %s", options.port, error)
            return _Nobody(options.port)
        raise _cannot_listen("the daemon", Address(options.host, options.port), error) from None


class _Nobody:
    """What listens where nothing could."""

    def __init__(self, port: int) -> None:
        self.port = port

    def stop(self) -> None:
        pass


async def _monitor(telling: Telling, state: State) -> Monitor | None:
    where = state.config.monitor
    if where.port is None:
        return None
    # Only who wants it pays for the import.
    from harness.refdaemon.monitor import serve_monitor

    try:
        return await serve_monitor(
            telling, host=where.host, port=where.port, token=state.config.server.admin_token
        )
    except OSError as error:
        raise _cannot_listen("the monitor", Address(where.host, where.port), error) from None


def _cannot_listen(who: str, where: Address, error: OSError) -> EnvironmentFailed:
    return EnvironmentFailed(
        f"{who} cannot listen on {where}",
        [
            ("found", error.strerror or str(error)),
            ("expected", "a free port on an address of this machine"),
            ("next", "stop what listens there, or give port 0 to let the system choose"),
        ],
    )


def _transport(name: Transport) -> Listen:
    """The transport of that name; the other library is not imported, since start time counts."""
    if name == "picows":
        from harness.refdaemon.transport import picows

        return picows.listen
    from harness.refdaemon.transport import websockets

    return websockets.listen


async def _drain(state: State) -> None:
    state.draining = True
    state.note("draining", {"calls_running": len(state.running)})
    log.info("refdaemon: draining, calls running %d", len(state.running))
    server = state.config.server
    if state.running:
        await asyncio.wait(state.running, timeout=server.drain_s)
    for session in state.sessions.values():
        session.calls.cancel_all()
    state.connections.shut_down(within_s=server.close_timeout_s)
    state.pulse.check()
    for guest in list(state.guests):
        # Those with one get what waits for them first, as long as there is time.
        if not guest.has_session:
            guest.dismiss(CLOSE_GOING_AWAY, "the daemon is shutting down")
    if state.guests:
        try:
            # Each connection is cut off after its own bound; the rest is for the loop to turn.
            async with asyncio.timeout(server.close_timeout_s + 1):
                await state.empty.wait()
        except TimeoutError:
            log.warning("refdaemon: connections still open %d", len(state.guests))
    log.info("refdaemon: ended, calls cut off %d", len(state.running))
