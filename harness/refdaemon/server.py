"""
The daemon from its port to its end: listen, serve, drain.

Asked to end, it accepts no more, refuses new calls, lets running ones finish within
a bound, cancels the rest, and closes every connection with 1001.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from harness.address import Address
from harness.dialects.exai import CLOSE_GOING_AWAY
from harness.errors import EnvironmentFailed
from harness.refdaemon.connection import Connection
from harness.refdaemon.effects import EffectLog
from harness.refdaemon.settings import DRAIN_S, Settings, Transport
from harness.refdaemon.state import State
from harness.refdaemon.tools import Tools
from harness.refdaemon.transport.base import CLOSE_WITHIN_S, Listen, Listener, ListenOptions

__all__ = ["serve"]

log = logging.getLogger(__name__)


async def serve(
    settings: Settings,
    *,
    effects: EffectLog | None,
    stop: asyncio.Event,
    listening: Callable[[Address], None],
) -> None:
    """
    Run the daemon until `stop` is set.

    Args:
        settings: Its settings.
        effects: Its effect log, open; the caller closes it.
        stop: Set by whoever wants it to end.
        listening: Told the address once connections are accepted.

    Raises:
        EnvironmentFailed: If it cannot listen there.
    """
    state = State(settings=settings, tools=Tools(), effects=effects)
    listener = await _listen(state)
    address = Address(settings.listen.host, listener.port)
    log.info("refdaemon: listening on %s, transport %s", address, settings.transport)
    listening(address)
    await stop.wait()
    listener.stop()
    await _drain(state)


async def _listen(state: State) -> Listener:
    settings = state.settings
    options = ListenOptions(
        host=settings.listen.host,
        port=settings.listen.port,
        max_bytes=settings.max_bytes,
        upgrade_timeout_s=settings.hello_timeout_s,
    )
    listen = _transport(settings.transport)
    try:
        return await listen(lambda: Connection(state), options)
    except OSError as error:
        raise EnvironmentFailed(
            f"the daemon cannot listen on {settings.listen}",
            [
                ("found", error.strerror or str(error)),
                ("expected", "a free port on an address of this machine"),
                ("next", "stop what listens there, or give --port 0 to let the system choose"),
            ],
        ) from None


def _transport(name: Transport) -> Listen:
    """The transport of that name; the other library is not imported, since start time counts."""
    if name == "picows":
        from harness.refdaemon.transport import picows

        return picows.listen
    from harness.refdaemon.transport import websockets

    return websockets.listen


async def _drain(state: State) -> None:
    state.draining = True
    log.info("refdaemon: draining, calls running %d", len(state.running))
    if state.running:
        await asyncio.wait(state.running, timeout=DRAIN_S)
    for guest in list(state.connections):
        guest.cancel_calls()
        guest.dismiss(CLOSE_GOING_AWAY, "the daemon is shutting down")
    if state.connections:
        try:
            # Each connection is cut off after its own bound; the rest is for the loop to turn.
            async with asyncio.timeout(CLOSE_WITHIN_S + 1):
                await state.empty.wait()
        except TimeoutError:
            log.warning("refdaemon: connections still open %d", len(state.connections))
    log.info("refdaemon: ended, calls cut off %d", len(state.running))
