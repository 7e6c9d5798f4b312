"""How a daemon runs in a container: the table [tool.harness.daemon.container]."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from harness.complaints import Complaint
from harness.daemons.base import Container
from harness.errors import InvalidValue
from harness.project.table import Table

__all__ = ["KEYS", "read_container"]

KEYS: Final = ("image", "build", "compose", "service", "port", "command", "environment")
"""The keys that a daemon's may have."""

_SOME_PORT: Final = 1


def read_container(
    values: Mapping[str, Any],
    *,
    folder: Path,
    name: str = "daemon.container",
    known: tuple[str, ...] = KEYS,
) -> tuple[Container | None, list[Complaint]]:
    """
    The container that a table describes, and what is wrong with it: then there is none.

    Args:
        values: The table.
        folder: What paths are relative to.
        name: What complaints call the table.
        known: The keys it may have.
    """
    table = Table(values, name=name, known=known)
    table.refuse_unknown()
    given: dict[str, Any] = {
        "image": table.text("image"),
        "build": _path(table, "build", folder),
        "compose": _path(table, "compose", folder),
        "service": table.text("service"),
        "port": _port(table),
        "command": table.texts("command"),
        "environment": table.named_texts("environment"),
    }
    chosen = {key: value for key, value in given.items() if value is not None}
    # What is wrong with a key was told; the others are judged all the same.
    for key in table.bad & {"image", "build", "compose"}:
        chosen.setdefault(key, "some" if key == "image" else folder)
    try:
        container = Container(**chosen)
    except InvalidValue as error:
        for field, text in error.details:
            if field.partition(".")[0] not in table.bad:
                table.complain(field, text)
        return None, table.complaints
    return container, table.complaints


def _path(table: Table, key: str, folder: Path) -> Path | None:
    path = table.path(key, under=folder)
    if path is None:
        return None
    if key == "compose" and not path.is_file():
        table.complain(key, f"there is no file {path}")
    elif key == "build" and not (path.is_file() or (path / "Dockerfile").is_file()):
        what = f"there is no Dockerfile in {path}" if path.is_dir() else f"there is no {path}"
        table.complain(key, what)
    return path


def _port(table: Table) -> int:
    port = table.values.get("port")
    if type(port) is int:
        return port
    if port is None:
        table.complain("port", "is missing: on which port does it listen, in there?")
    else:
        table.complain("port", "expected a whole number, 1 to 65535")
    return _SOME_PORT
