"""
The user's own project: which daemon it is about.

It says so in the table [tool.harness.daemon] of its pyproject.toml; the command line
may say otherwise. docs/configuration.md has the keys.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from harness.address import Address
from harness.complaints import Complaint, did_you_mean, found, refused
from harness.daemons.base import Daemon
from harness.daemons.reference import Reference
from harness.daemons.running import Running
from harness.errors import InvalidValue
from harness.project.daemon import at_address, daemon_from_table, read_daemon
from harness.project.table import Table
from harness.registry import catalogue

__all__ = ["Project", "choose_daemon", "daemon_from_table", "read_project"]

_KEYS: Final = ("daemon",)


@dataclass(frozen=True, kw_only=True)
class Project:
    """
    What stands in [tool.harness].

    Attributes:
        file: Where it stands.
        daemon: The table [tool.harness.daemon], None where there is none.
    """

    file: Path
    # Its headers may hold secrets.
    daemon: Mapping[str, Any] | None = field(default=None, repr=False)


def read_project(folder: Path) -> Project | None:
    """
    Read the pyproject.toml of a folder, and of that folder alone.

    Returns:
        None where it has none, or one without [tool.harness].

    Raises:
        InvalidValue: If it cannot be read as TOML, or has keys there that nobody knows; what is
            wrong with the daemon's table shows when the daemon is made.
    """
    file = folder / "pyproject.toml"
    if not file.exists():
        return None
    project, complaints = _tool_harness(file, _parsed(file))
    if complaints:
        raise refused(str(file), complaints)
    return project


def choose_daemon(text: str | None, *, folder: Path) -> Daemon:
    """
    The daemon that a command line and a project mean.

    Args:
        text: None (the folder's [tool.harness.daemon]; without one, the reference daemon), the
            name of a daemon that needs no arguments, a URL, or a .toml file, relative to the
            folder, with [tool.harness.daemon] or [daemon]. A URL takes the place of the table's
            command or address; all else that the table says of the daemon stays.
        folder: Where the pyproject.toml is, if any.

    Raises:
        InvalidValue: If it is none of these, or if anything is wrong with the table.
    """
    if text is None or text.lower().startswith(("ws://", "wss://")):
        return _of_the_folder(text, folder)
    if text.endswith(".toml"):
        return _of_a_file(folder / text)
    daemons = catalogue("harness.daemons", Daemon)
    if text in daemons and _needs_nothing(daemons[text]):
        return daemons[text]()
    raise _no_daemon(text, [name for name in daemons if _needs_nothing(daemons[name])])


def _of_the_folder(address: str | None, folder: Path) -> Daemon:
    file = folder / "pyproject.toml"
    values = _parsed(file) if file.exists() else {}
    project, complaints = _tool_harness(file, values)
    table = None if project is None else project.daemon
    where = str(file)
    daemon: Daemon | None = None
    if table is not None:
        if address is not None:
            table, where = at_address(table, address), f"{where} with the address that was given"
        daemon, more = read_daemon(table, folder=folder)
        complaints += more
    if complaints:
        raise refused(where, complaints)
    if daemon is not None:
        return daemon
    return Reference() if address is None else Running.at(address)


def _of_a_file(file: Path) -> Daemon:
    values = _parsed(file)
    project, complaints = _tool_harness(file, values)
    tables = [] if project is None or project.daemon is None else [project.daemon]
    if "daemon" in values:
        tables += _inner(values, "daemon", "daemon", complaints)
    if len(tables) > 1:
        complaints.append(("daemon", "stands beside tool.harness.daemon; expected one of the two"))
    if not tables and not complaints:
        complaints.append(("daemon", "expected a table [tool.harness.daemon] or [daemon]"))
    daemons = [read_daemon(table, folder=file.parent) for table in tables]
    complaints += [complaint for _, more in daemons for complaint in more]
    if complaints:
        raise refused(str(file), complaints)
    return daemons[0][0]


def _parsed(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        why, then = f"cannot be read: {error.strerror or error}", "see that it is there, a file"
    except UnicodeDecodeError as error:
        why, then = f"is no TOML: byte {error.start} is not UTF-8", "save it as UTF-8"
    # Beside its own error: numbers of too many digits, and brackets nested too deep.
    except (ValueError, RecursionError) as error:
        why, then = f"is no TOML: {error}", "mend that line; texts stand in quotes"
    raise InvalidValue(f"{file} {why}", [("next", then)])


def _tool_harness(file: Path, values: Mapping[str, Any]) -> tuple[Project | None, list[Complaint]]:
    complaints: list[Complaint] = []
    for tool in _inner(values, "tool", "tool", complaints):
        for harness in _inner(tool, "harness", "tool.harness", complaints):
            table = Table(harness, name="tool.harness", known=_KEYS)
            table.refuse_unknown()
            complaints += table.complaints
            daemons = _inner(harness, "daemon", "tool.harness.daemon", complaints)
            return Project(file=file, daemon=daemons[0] if daemons else None), complaints
    return None, complaints


def _inner(
    values: Mapping[str, Any], key: str, name: str, complaints: list[Complaint]
) -> list[Mapping[str, Any]]:
    """The table under that key, as a list of one; of none, where it is absent or no table."""
    value = values.get(key)
    if value is not None and not isinstance(value, dict):
        complaints.append((name, f"expected a table, found {found(value)}"))
    return [value] if isinstance(value, dict) else []


def _needs_nothing(kind: type[Daemon]) -> bool:
    return all(
        spec.default is not MISSING or spec.default_factory is not MISSING for spec in fields(kind)
    )


def _no_daemon(text: str, names: list[str]) -> InvalidValue:
    hint = did_you_mean(text, names)
    try:
        Address.parse(text)
    except InvalidValue:
        pass
    else:
        hint = f'; did you mean "ws://{text}"?'
    return InvalidValue(
        f'"{text}" is no daemon{hint}',
        [
            ("by name", ", ".join(names)),
            ("by address", "ws://host:port/path or wss://host:port/path, where it runs already"),
            ("by file", "a .toml file with a table [tool.harness.daemon] or [daemon]"),
        ],
    )
