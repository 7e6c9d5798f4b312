"""
What a daemon looks like when nobody uses it: the same before and after a test, or the
test left something in it.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from harness.clock import now
from harness.environment.dialling import session_with
from harness.environment.parts import DaemonSite
from harness.errors import CallFailed, CallUnknown, ConnectFailed, EnvironmentFailed

__all__ = ["changes", "settled"]

_SETTLE_S: Final = 2.0
# Most daemons see it within a millisecond, and every test of a shared daemon waits for it.
_FIRST_PAUSE_S: Final = 0.001
_LONGEST_PAUSE_S: Final = 0.05
# Longer than a daemon takes to forget a connection: two looks in a row show the same one twice.
_SETTLING_PAUSE_S: Final = 0.01


async def _fingerprint(site: DaemonSite) -> dict[str, Any]:
    """
    What the daemon says of itself once it has taken us in; where it does not tell its
    connections, what the kernel knows of them.

    Returns:
        Names and values; "trouble" alone where it does not answer.
    """
    if site.trouble is not None:
        return {"trouble": f"the daemon {site.trouble}"}
    seen: dict[str, Any] = {}
    dialect = site.daemon.dialect
    try:
        async with session_with(site.daemon, site.address, process="probe") as probe:
            if "health" in dialect.questions:
                seen = dialect.fingerprint(await probe.health())
    except CallFailed as error:
        # Its language has the question, this daemon has no answer.
        seen = {"health": error.kind}
    except (ConnectFailed, CallUnknown) as error:
        return {"trouble": error.headline}
    # Not always both: the kernel takes ten times as long to tell as most daemons.
    if "connections" not in seen and (counted := await site.connections()) is not None:
        seen = {**seen, "tcp_connections": counted}
    return seen


async def settled(site: DaemonSite) -> dict[str, Any]:
    """
    The fingerprint, once it is the same twice: what came before may just be going away.

    Raises:
        EnvironmentFailed: If the daemon does not answer.
    """
    deadline = now() + _SETTLE_S
    pause_s = _SETTLING_PAUSE_S
    seen = await _fingerprint(site)
    while "trouble" not in seen:
        await asyncio.sleep(pause_s)
        before, seen = seen, await _fingerprint(site)
        if "trouble" not in seen and (seen == before or now() >= deadline):
            return seen
        pause_s *= 2
    raise EnvironmentFailed(
        f"the daemon does not say how it is: {seen['trouble']}",
        [
            ("log tail", site.written()[-1000:] or "(it wrote nothing)"),
            ("next", 'isolation "daemon" asks it nothing'),
        ],
    )


async def changes(before: dict[str, Any], site: DaemonSite) -> dict[str, tuple[Any, Any]]:
    """
    What is not as it was, each with before and now.

    A daemon needs a moment to see that a connection is gone, so it is asked again for up to
    two seconds. "trouble" stands alone, where it does not answer.
    """
    deadline = now() + _SETTLE_S
    pause_s = _FIRST_PAUSE_S
    while True:
        after = await _fingerprint(site)
        names = sorted(before.keys() | after.keys())
        found = {
            name: (before.get(name), after.get(name))
            for name in names
            if before.get(name) != after.get(name)
        }
        if not found or "trouble" in found or now() >= deadline:
            return found
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
