"""A daemon from a table: its keys, and all that can be wrong with them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from harness.address import Address
from harness.complaints import Complaint, did_you_mean, found, refused
from harness.daemons.base import Container, Daemon, Limits, Provider
from harness.daemons.command import Command
from harness.daemons.container import Containerized
from harness.daemons.running import Running, split_url
from harness.dialects.base import Dialect
from harness.errors import InvalidValue
from harness.project.command import read_command
from harness.project.container import read_container
from harness.project.dialect import dialect_named
from harness.project.limits import read_limits
from harness.project.provider import read_provider
from harness.project.table import Table

__all__ = ["at_address", "daemon_from_table", "read_daemon"]

_EITHER: Final = ("command", "address")
_OF_THE_PROCESS: Final = ("token_variable", "environment", "directory", "start_timeout_s", "tls")
_KEYS: Final = (
    *_EITHER,
    *("dialect", "path", "headers", "subprotocols", "token_from", "promises", "ca_file"),
    *("allow_remote", "container", "limits", "provider"),
    *_OF_THE_PROCESS,
)
_LITERAL: Final = (
    "a token has no place in a file; put it into an environment variable, and the variable's "
    "name into token_from"
)
# What the constructors call otherwise.
_KEY_OF: Final = {"template": "command"}
# Stand in for what is wrong, so that the rest can be judged.
_SOME_PROVIDER: Final = Provider(template=("{port}",))
_SOME_ADDRESS: Final = Address("localhost", 1)
_SOME_TOKEN: Final = "token"  # noqa: S105 - no secret


def daemon_from_table(table: Mapping[str, Any], *, where: str, folder: Path) -> Daemon:
    """
    The daemon that a table describes; docs/configuration.md has its keys.

    Args:
        table: As `tomllib` reads it.
        where: What errors call the file.
        folder: What paths, and the modules of dialects, are relative to.

    Raises:
        InvalidValue: If anything is wrong with it; all complaints at once.
    """
    daemon, complaints = read_daemon(table, folder=folder)
    if complaints:
        raise refused(where, complaints)
    return daemon


def at_address(table: Mapping[str, Any], address: str) -> dict[str, Any]:
    """The table of the same daemon where it runs already, at that address."""
    gone = {*_EITHER, *_OF_THE_PROCESS, "container", "limits", "provider"}
    try:
        _, tls, path = split_url(address)
    except InvalidValue:
        # Reading the table complains of it.
        tls, path = True, ""
    if not tls:
        gone.add("ca_file")
    if path.strip("/"):
        gone.add("path")
    return {key: value for key, value in table.items() if key not in gone} | {"address": address}


def read_daemon(values: Mapping[str, Any], *, folder: Path) -> tuple[Daemon, list[Complaint]]:
    """The daemon that a table describes, and what is wrong with it: then it is of no use."""
    folder = folder.absolute()
    table = Table(values, name="daemon", known=_KEYS)
    table.refuse_unknown(advice={"token": _LITERAL})
    either = [key for key in _EITHER if key in table]
    misspelt = any(did_you_mean(key, _EITHER) for key in values if key not in _KEYS)
    container = _container(table, folder)
    provider = _provider(table, folder)
    provided = provider is not None
    boxed = "container" in table and not either
    if not either and not misspelt and not boxed:
        why = "wants a command that starts it, a container, or an address"
        table.complaints.append(("daemon", why))
    elif len(either) > 1:
        table.complain("address", "stands beside command; expected one of the two")
    given = {
        "dialect": _dialect(table, folder),
        "token": _token(table),
        "path": table.text("path"),
        "headers": _headers(table),
        "subprotocols": table.texts("subprotocols"),
        "promises": table.texts("promises"),
        "ca_file": _file(table, folder),
        "allow_remote": table.flag("allow_remote"),
        "limits": _limits(table),
        "provider": provider,
    }
    kind: type[Daemon]
    if either == ["address"]:
        kind, more = Running, _running(table)
    elif boxed:
        kind, more = Containerized, {**_in_a_container(table), "container": container}
        some = Container(image="some", port=1, command=_some_command(provided))
        more["container"] = container or some
    else:
        words = _command(table, folder, provided=provided)
        kind, more = Command, {**words, "container": container}
    chosen = {key: value for key, value in {**given, **more}.items() if value is not None}
    try:
        daemon = kind(**chosen)
    except InvalidValue as error:
        daemon = Running(address=_SOME_ADDRESS)
        for field, text in error.details:
            table.complain(_KEY_OF.get(field, field), text)
    return daemon, table.complaints


def _container(table: Table, folder: Path) -> Container | None:
    values = table.values.get("container")
    if values is None:
        return None
    if "address" in table:
        table.complain("container", "is for a daemon that is started here, not for an address")
        return None
    if not isinstance(values, dict):
        table.complain("container", f"expected a table, found {found(values)}")
        return None
    container, complaints = read_container(values, folder=folder)
    table.complaints += complaints
    return container


def _provider(table: Table, folder: Path) -> Provider | None:
    values = table.values.get("provider")
    if values is None:
        return None
    if "address" in table:
        table.complain("provider", "is for a daemon that is started here, not for an address")
        return None
    if not isinstance(values, dict):
        table.complain("provider", f"expected a table, found {found(values)}")
        return _SOME_PROVIDER
    provider, complaints = read_provider(values, folder=folder)
    table.complaints += complaints
    return provider or _SOME_PROVIDER


def _limits(table: Table) -> Limits | None:
    values = table.values.get("limits")
    if values is None:
        return None
    if "address" in table:
        table.complain("limits", "are for a daemon that is started here, not for an address")
        return None
    if not isinstance(values, dict):
        table.complain("limits", f"expected a table, found {found(values)}")
        return None
    limits, complaints = read_limits(values)
    table.complaints += complaints
    return limits


def _in_a_container(table: Table) -> dict[str, Any]:
    for key in ("environment", "directory"):
        if key in table:
            table.complain(key, "is for a command; a container's stands in daemon.container")
    name = table.text("token_variable") if "token_from" in table else None
    return {
        "start_timeout_s": table.number("start_timeout_s"),
        "tls": table.flag("tls"),
        "token_variable": name or table.text("token_from"),
    }


def _dialect(table: Table, folder: Path) -> Dialect | None:
    name = table.text("dialect")
    if name is None:
        return None
    try:
        return dialect_named(name, folder=folder)
    except InvalidValue as error:
        table.complain("dialect", str(error))
        return None


def _token(table: Table) -> str | None:
    if "token_from" not in table:
        if "token_variable" in table:
            table.complain("token_variable", "means nothing without token_from")
        return None
    name = table.text("token_from")
    if name is None:
        return _SOME_TOKEN
    token = os.environ.get(name)
    # The name is not repeated: it may be a token in the wrong place.
    if token is None:
        why = "there is no environment variable of that name; export it before the harness starts"
        table.complain("token_from", why)
    elif not token:
        table.complain("token_from", "the environment variable of that name is empty")
    return token or _SOME_TOKEN


def _headers(table: Table) -> dict[str, str] | None:
    headers = table.named_texts("headers")
    for name, value in (headers or {}).items():
        if name.lower() == "authorization" and "{token}" not in value:
            table.complain(f"headers.{name}", f"has no {{token}}; {_LITERAL}")
    return headers


def _file(table: Table, folder: Path) -> Path | None:
    path = table.path("ca_file", under=folder)
    if path is not None and not path.is_file():
        table.complain("ca_file", f"there is no file {path}")
        return None
    # Whether there is TLS nobody can tell.
    return None if "tls" in table and type(table.values["tls"]) is not bool else path


def _running(table: Table) -> dict[str, Any]:
    for key in _OF_THE_PROCESS:
        if key == "tls" and key in table:
            table.complain(key, "the address says it: wss:// is with TLS, ws:// without")
        elif key in table and key not in table.bad:
            table.complain(key, "is for a command; what runs at an address has its own already")
    text = table.text("address")
    if text is None:
        return {"address": _SOME_ADDRESS, "tls": True}
    try:
        address, tls, path = split_url(text)
    except InvalidValue as error:
        table.complain("address", str(error))
        return {"address": _SOME_ADDRESS, "tls": True}
    if not path.strip("/"):
        return {"address": address, "tls": tls}
    if "path" in table:
        table.complain("path", "the address has a path already; expected one of the two")
    return {"address": address, "tls": tls, "path": path}


def _command(table: Table, folder: Path, *, provided: bool) -> dict[str, Any]:
    words = read_command(table, folder=folder)
    tls = table.flag("tls")
    name = table.text("token_variable") if "token_from" in table else None
    return {
        "template": _some_command(provided) if words.template is None else words.template,
        "directory": words.directory,
        "environment": words.environment,
        "start_timeout_s": table.number("start_timeout_s"),
        # Without a command there might be an address with TLS.
        "tls": tls if "command" in table else True,
        "token_variable": name or table.text("token_from"),
    }


def _some_command(provided: bool) -> tuple[str, ...]:  # noqa: FBT001
    """In place of one that is wrong: it complains of nothing else."""
    return ("{port}", "{provider}") if provided else ("{port}",)
