"""What stands behind a daemon: the table [tool.harness.daemon.provider]."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from harness.complaints import Complaint, found
from harness.daemons.base import Container, Provider
from harness.errors import InvalidValue
from harness.project.command import read_command
from harness.project.container import KEYS as CONTAINER_KEYS
from harness.project.container import read_container
from harness.project.table import Table

__all__ = ["read_provider"]

_NAME: Final = "daemon.provider"
_KEYS: Final = (
    *("command", "environment", "directory", "start_timeout_s", "ready_path", "container"),
)
_NONE: Final = "none"
# What the constructor calls otherwise.
_KEY_OF: Final = {"template": "command"}
# Stand in for what is wrong, so that the rest can be judged.
_SOME_COMMAND: Final = ("{port}",)
_SOME_CONTAINER: Final = Container(image="some", port=1)


def read_provider(
    values: Mapping[str, Any], *, folder: Path
) -> tuple[Provider | None, list[Complaint]]:
    """
    The provider that a table describes, and what is wrong with it: then there is none.

    Args:
        values: The table.
        folder: What paths are relative to.
    """
    table = Table(values, name=_NAME, known=_KEYS)
    table.refuse_unknown()
    words = read_command(table, folder=folder)
    container = _container(table, folder)
    given: dict[str, Any] = {
        "template": _SOME_COMMAND if words.template is None else words.template,
        "directory": words.directory,
        "environment": words.environment,
        "start_timeout_s": table.number("start_timeout_s"),
        "container": container,
    }
    chosen = {key: value for key, value in given.items() if value is not None}
    if "command" not in table:
        chosen["template"] = ()
        if "container" not in table:
            table.complaints.append((_NAME, "wants a command that starts it, or a container"))
            chosen["template"] = _SOME_COMMAND
        for key in ("environment", "directory"):
            if key in table and "container" in table:
                table.complain(key, "is for a command; a container's stands in its own table")
    path = table.text("ready_path")
    if path is not None:
        chosen["ready_path"] = None if path == _NONE else path
    try:
        provider = Provider(**chosen)
    except InvalidValue as error:
        for field, text in error.details:
            key = _KEY_OF.get(field, field)
            if key not in table.bad:
                table.complain(key, text)
        return None, table.complaints
    return (None if table.complaints else provider), table.complaints


def _container(table: Table, folder: Path) -> Container | None:
    values = table.values.get("container")
    if values is None:
        return None
    if not isinstance(values, dict):
        table.complain("container", f"expected a table, found {found(values)}")
        return _SOME_CONTAINER
    # A Compose project is the daemon's, with all that it needs in it.
    known = tuple(key for key in CONTAINER_KEYS if key not in ("compose", "service"))
    container, complaints = read_container(
        values, folder=folder, name=f"{_NAME}.container", known=known
    )
    table.complaints += complaints
    return container or _SOME_CONTAINER
