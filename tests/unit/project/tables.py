"""What the tests of projects share: a token, two tables, and what they become."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.daemons.base import Daemon
from harness.errors import InvalidValue
from harness.project import daemon_from_table

TOKEN = "right-4711"
WHERE: Any = {"host": "127.0.0.1", "port": 8079, "effects": "effects.jsonl"}
SERVE = {"command": "{python} serve.py {port}"}
THERE = {"address": "ws://localhost:8079"}


def daemon_of(folder: Path, table: dict[str, Any]) -> Daemon:
    return daemon_from_table(table, where="pyproject.toml", folder=folder)


def refused(folder: Path, table: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    with pytest.raises(InvalidValue) as caught:
        daemon_of(folder, table)
    return caught.value.details
