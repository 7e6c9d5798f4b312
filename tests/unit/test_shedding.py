"""A reader that is given up, as the daemon counts it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from harness.refdaemon.connection import Connection


def test_who_is_shed_is_shed_once():
    """
    However many answers are dropped before its connection is gone.
    """
    notes: list[str] = []
    counters = SimpleNamespace(readers_shed=0)
    state: Any = SimpleNamespace(
        config=SimpleNamespace(server=SimpleNamespace(close_timeout_s=1)),
        connections=SimpleNamespace(came=None),
        figures=SimpleNamespace(counters=counters),
        note=lambda kind, about: notes.append(kind),
    )
    connection = Connection(state)
    connection._peer = "127.0.0.1"
    wire: Any = SimpleNamespace(
        buffered=lambda: 1, close=lambda code, reason, *, within_s: connection.closing()
    )
    connection.wire = wire

    connection.shed()
    connection.shed()

    assert (counters.readers_shed, notes) == (1, ["reader shed"])
