"""The lines at the head of a session, and the mistakes of a project's table before it begins."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.pytest_plugin.options import Settings
from harness.pytest_plugin.state import ASKED, SEEN, SETTINGS

if TYPE_CHECKING:
    from harness.daemons.base import Daemon

__all__ = ["asked_for", "header"]


def header(config: pytest.Config) -> str:
    """Daemon, backend, proxy, seed, abilities; and what a client meets on the way, if anything."""
    settings, daemon = config.stash[SETTINGS], config.stash[ASKED]
    attached = daemon is not None and daemon.address is not None
    backend, why = ("attached", "") if attached else _backend(config)
    name = "reference" if daemon is None else daemon.type
    where = f" {daemon.address}" if daemon is not None and attached else ""
    embedded = settings.proxy == "embedded"
    abilities = [] if attached else ["process"]
    abilities += ["docker", "network"] if backend == "docker" else []
    abilities += ["events", "seed"] if embedded else []
    seed = f"{settings.seed} (drawn)" if settings.fresh_seed else str(settings.seed)
    line = (
        f"harness: daemon {name}{where}, backend {backend}{why}, "
        f"proxy {settings.proxy}, seed {seed}; abilities: {', '.join(abilities) or 'none'}"
        " (others are probed when first asked for)"
    )
    if embedded and backend == "local":
        # Processes of this machine on its loopback, with nothing between them to try.
        return f"{line}; path local"
    return line if embedded and attached else f"{line}\n{_path(config, backend)}"


def _path(config: pytest.Config, backend: str) -> str:
    """What a client meets on the way to a daemon: tried, for it decides what can be tested."""
    if config.option.collectonly:
        return "harness: the path was not looked at"
    from harness.environment.backends import LOCAL, Choice
    from harness.environment.path_seen import see_path
    from harness.errors import HarnessError

    settings = config.stash[SETTINGS]
    try:
        where = LOCAL if backend == "attached" else backend
        choice = Choice(backend=where, proxy=settings.proxy, path=settings.path)
        seen = see_path(choice)
    except HarnessError as error:
        todo = dict(error.details).get("next")
        then = "" if todo is None else f" ({todo})"
        return f"harness: the path cannot be looked at: {error.headline}{then}"
    # Looked at once: the tests' own environments stand on the same one.
    config.stash[SEEN] = {choice: seen.probed}
    return "harness: " + "\n  ".join(seen.lines)


def _backend(config: pytest.Config) -> tuple[str, str]:
    """Where a daemon will run, and why where nobody said."""
    settings = config.stash[SETTINGS]
    if settings.backend != "auto":
        return settings.backend, ""
    from harness.pytest_plugin.ground import usual

    found = usual(config)
    return found.backend, f" ({found.why})"


def asked_for(config: pytest.Config, settings: Settings) -> Daemon | None:
    """
    The daemon that was asked for; None for the reference daemon of a project that asks not.

    Raises:
        pytest.UsageError: If it, or the project's table of it, cannot be used.
    """
    folder = _project(config)
    if settings.daemon is None and not _has_table(folder):
        return None
    from harness.errors import InvalidValue
    from harness.project import choose_daemon

    try:
        return choose_daemon(settings.daemon, folder=folder)
    except InvalidValue as error:
        where = "" if settings.daemon_from is None else f"{settings.daemon_from}: "
        raise pytest.UsageError(f"harness: {where}{error}") from None


def _project(config: pytest.Config) -> Path:
    """
    The folder of the project that is tested: the nearest one with a table of ours, from the
    tests that were asked for up to the root directory, which it is where there is none.
    """
    root = config.rootpath
    asked = [config.invocation_params.dir / arg.split("::")[0] for arg in config.args]
    try:
        start = Path(os.path.commonpath(asked))
    except ValueError:
        return root
    above = [start, *start.parents] if start.is_relative_to(root) else []
    inside = [folder for folder in above if folder.is_relative_to(root)]
    return next((folder for folder in inside if _has_table(folder)), root)


def _has_table(folder: Path) -> bool:
    # Read as text: whoever has no table of ours must not wait for us.
    file = folder / "pyproject.toml"
    return file.is_file() and "tool.harness" in file.read_text("utf-8", "replace")
