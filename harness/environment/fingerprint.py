"""
What a daemon looks like when nobody uses it: the same before and after a test, or the
test left something in it.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final

from harness.clock import now
from harness.environment.dialling import session_with
from harness.environment.stack import Site
from harness.errors import CallError, ConnectFailed

__all__ = ["changes", "connections_can_be_counted", "fingerprint", "settled"]

_SETTLE_S: Final = 2.0
# Most daemons see it within a millisecond, and every test of a shared daemon waits for it.
_FIRST_PAUSE_S: Final = 0.001
_LONGEST_PAUSE_S: Final = 0.05
_ESTABLISHED: Final = "01"
_TABLES: Final = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))


def connections_can_be_counted() -> bool:
    """Whether this system's kernel shows its table of connections."""
    return _TABLES[0].exists()


async def fingerprint(site: Site) -> dict[str, Any]:
    """
    What the daemon says of itself; where it does not tell its connections, what the kernel
    knows of them.

    Returns:
        Names and values; "trouble" alone where it does not answer.
    """
    if site.trouble is not None:
        return {"trouble": f"the daemon {site.trouble}"}
    seen: dict[str, Any] = {}
    dialect = site.daemon.dialect
    if "health" in dialect.questions:
        try:
            async with session_with(site.daemon, site.address, process="probe") as probe:
                seen = dialect.fingerprint(await probe.health())
        except (ConnectFailed, CallError) as error:
            return {"trouble": error.headline}
    # Not always both: the kernel takes ten times as long to tell as most daemons.
    connections = None if "connections" in seen else _connections(site.address.port)
    return seen if connections is None else {**seen, "tcp_connections": connections}


async def settled(site: Site) -> dict[str, Any]:
    """The fingerprint, once it is the same twice: what came before may just be going away."""
    deadline = now() + _SETTLE_S
    before = await fingerprint(site)
    while (again := await fingerprint(site)) != before and now() < deadline:
        before = again
        await asyncio.sleep(_FIRST_PAUSE_S)
    return again


async def changes(before: dict[str, Any], site: Site) -> dict[str, tuple[Any, Any]]:
    """
    What is not as it was, each with before and now.

    A daemon needs a moment to see that a connection is gone, so it is asked again for up to
    two seconds.
    """
    deadline = now() + _SETTLE_S
    pause_s = _FIRST_PAUSE_S
    while True:
        after = await fingerprint(site)
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


def _connections(port: int) -> int | None:
    """How many connections that port has, as the kernel counts them; None where it does not say."""
    if not connections_can_be_counted():
        return None
    wanted = f":{port:04X}"
    count = 0
    for table in _TABLES:
        lines = table.read_text("ascii").splitlines()[1:] if table.exists() else []
        for line in lines:
            _, local, _, state, *_ = line.split()
            count += local.endswith(wanted) and state == _ESTABLISHED
    return count
