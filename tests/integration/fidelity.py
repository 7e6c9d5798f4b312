"""What a client sees of each fault on each path: the table of docs/fidelity.md, played."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path

from harness.environment.base import Environment
from harness.environment.dialling import session_with
from harness.errors import CallError, ConnectFailed
from harness.faults.armed_reset import ArmedReset
from harness.faults.base import Fault
from harness.faults.disconnect import Disconnect
from harness.faults.down import Down
from harness.faults.kill import Kill
from harness.faults.limit_data import LimitData
from harness.faults.pause import Pause
from harness.faults.reset_peer import ResetPeer
from harness.faults.stop import Stop
from harness.faults.timeout import Timeout

__all__ = ["COLUMNS", "NOTHING", "FAULTS", "Column", "Seen", "documented", "observed"]

PAGE = Path(__file__).resolve().parents[2] / "docs/fidelity.md"
NOTHING = "\N{EN DASH}"
"""On the way past any proxy there is nothing for a toxic to be put on."""

CALL_S = 0.6
OPEN_S = 1.0


@dataclass(frozen=True)
class Column:
    """A path: how the client gets to the daemon."""

    name: str
    path: str
    proxy: str
    direct: bool = False


COLUMNS = (
    Column("bridge", "bridge", "embedded", direct=True),
    Column("published", "published", "embedded", direct=True),
    Column("our proxy", "bridge", "embedded"),
    Column("Toxiproxy, host", "bridge", "toxiproxy"),
    Column("Toxiproxy, published", "published", "toxiproxy"),
)

FAULTS: dict[str, tuple[Fault, ...]] = {
    "pause": (Pause(),),
    "kill": (Kill(),),
    "stop": (Stop(),),
    "disconnect": (Disconnect(),),
    "down": (Down(),),
    "timeout 0": (Timeout(timeout_ms=0),),
    "timeout 300": (Timeout(timeout_ms=300),),
    "limit_data 1": (LimitData(limit_bytes=1),),
    "reset_peer": (ResetPeer(),),
    "armed, then reset_peer": (ArmedReset(), ResetPeer()),
}
"""By the name in the first column; of two the first is put on before the client connects."""


@dataclass(frozen=True)
class Seen:
    """What became of a connection that was open, and of one that is opened then."""

    live: str
    new: str


_ENDINGS = {"eof": "FIN", "reset": "RST", "lost": "lost"}
_REFUSALS = {"closed": "FIN", "reset": "RST", "timeout": "silence"}


async def observed(here: Environment, column: Column, faults: tuple[Fault, ...]) -> Seen:
    """Put a fault on, and look what the client sees."""
    *before, fault = faults
    for first in before:
        await here.inject(first).__aenter__()
    client = here.client(direct=column.direct, call_timeout_s=CALL_S)
    async with client, here.inject(fault):
        live, new = await asyncio.gather(_live(client), _new(here, column))
    await here.heal()
    return Seen(live, new)


async def _live(client) -> str:
    try:
        await client.call("echo", {"text": "x"})
    except CallError as error:
        # A connection whose end is on its way is waited for a moment.
        if error.kind == "time_limit":
            return "silence"
        ending = client.ending
        return f"close {ending.code}" if ending.kind == "closed" else _ENDINGS[ending.kind]
    return "answered"


async def _new(here: Environment, column: Column) -> str:
    site = here.stack.site
    via = None if column.direct else here.address
    client = session_with(site.daemon, site.address, process="new", via=via, open_timeout_s=OPEN_S)
    try:
        async with client:
            return "answered"
    except ConnectFailed as error:
        return _REFUSALS.get(error.kind, error.kind)


def documented() -> dict[tuple[str, str], Seen]:
    """The page's table: by fault and path what is said of a live connection and a new one."""
    table = re.search(r"^\| fault \|.*?(?=\n\n)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert table is not None
    head, _, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table[0].splitlines()
    ]
    found = {}
    for fault, *cells in rows:
        for path, cell in zip(head[1:], cells, strict=True):
            live, _, new = cell.partition(" / ")
            found[fault, path] = Seen(live, new)
    return found
