"""The line at the head of a session, and the mistakes of a project's table before it begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.pytest_plugin.options import Settings
from harness.pytest_plugin.state import ASKED, SETTINGS

if TYPE_CHECKING:
    from harness.daemons.base import Daemon

__all__ = ["asked_for", "header"]


def header(config: pytest.Config) -> str:
    """One line: daemon, backend, proxy, seed, abilities."""
    settings, daemon = config.stash[SETTINGS], config.stash[ASKED]
    attached = daemon is not None and daemon.address is not None
    name = "reference" if daemon is None else daemon.type
    where = f" {daemon.address}" if daemon is not None and attached else ""
    embedded = settings.proxy == "embedded"
    abilities = [] if attached else ["process"]
    abilities += ["events", "seed"] if embedded else []
    seed = f"{settings.seed} (drawn)" if settings.fresh_seed else str(settings.seed)
    return (
        f"harness: daemon {name}{where}, backend {'attached' if attached else 'local'}, "
        f"proxy {settings.proxy}, seed {seed}; abilities: {', '.join(abilities) or 'none'}"
        " (others are probed when first asked for)"
    )


def asked_for(config: pytest.Config, settings: Settings) -> Daemon | None:
    """
    The daemon that was asked for; None for the reference daemon of a project that asks not.

    Raises:
        pytest.UsageError: If it, or the project's table of it, cannot be used.
    """
    project = config.rootpath / "pyproject.toml"
    # Read as text: whoever has no table of ours must not wait for us.
    asked = project.is_file() and "tool.harness" in project.read_text("utf-8", "replace")
    if settings.daemon is None and not asked:
        return None
    from harness.errors import InvalidValue
    from harness.project import choose_daemon

    try:
        return choose_daemon(settings.daemon, folder=config.rootpath)
    except InvalidValue as error:
        where = "" if settings.daemon_from is None else f"{settings.daemon_from}: "
        raise pytest.UsageError(f"harness: {where}{error}") from None
