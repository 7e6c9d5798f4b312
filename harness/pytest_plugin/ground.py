"""Where daemons run of which nobody said: decided once a session, for each daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.pytest_plugin.state import ASKED, CHOSEN, SETTINGS

if TYPE_CHECKING:
    from harness.daemons.base import Daemon
    from harness.environment.automatic import Chosen

__all__ = ["GIVEN", "chosen", "usual"]

GIVEN = "harness_backend"
"""What workers of pytest-xdist are given of it: backend and reason, of the usual daemon."""


def chosen(config: pytest.Config, daemon: Daemon, proxy: str) -> Chosen:
    """
    The backend of a daemon behind a proxy, and why it and no other.

    An engine that goes away later fails tests; it does not send them elsewhere.
    """
    from harness.environment.automatic import Chosen, backend_for

    known = config.stash.setdefault(CHOSEN, [])
    for its, behind, found in known:
        if (its, behind) == (daemon, proxy):
            return found
    settings = config.stash[SETTINGS]
    given = getattr(config, "workerinput", {}).get(GIVEN)
    if given is not None and (daemon, proxy) == (_usual_daemon(config), settings.proxy):
        found = Chosen(*given)
    else:
        found = backend_for(settings.backend, daemon, proxy)
    known.append((daemon, proxy, found))
    return found


def usual(config: pytest.Config) -> Chosen:
    """The same for the daemon that the session is about, behind its proxy."""
    return chosen(config, _usual_daemon(config), config.stash[SETTINGS].proxy)


def _usual_daemon(config: pytest.Config) -> Daemon:
    from harness.daemons.reference import Reference

    return config.stash[ASKED] or Reference()
