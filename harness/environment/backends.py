"""The two choices, made: where the daemon runs, and which proxy server stands before it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from harness.clock import fresh_id
from harness.daemons.base import Daemon
from harness.environment.attached import AttachedDaemon, AttachedProxy
from harness.environment.base import Environment
from harness.environment.household import Household
from harness.environment.local import LocalDaemon, LocalProxy
from harness.environment.processes import Reaper
from harness.environment.stack import Server, Site, Stack
from harness.history import Recorder

__all__ = ["EMBEDDED", "AttachedEnvironment", "name_of_proxy", "stack_of"]

EMBEDDED: Final = "embedded"
"""The word for a proxy server of our own; anything else is the address of one that runs."""


def stack_of(
    daemon: Daemon,
    *,
    proxy: str = EMBEDDED,
    directory: Path | None = None,
    recorder: Recorder | None = None,
    seed: int = 0,
    proxy_command: Sequence[str] | None = None,
    proxy_port: int = 0,
    reaper: Reaper | None = None,
) -> Stack:
    """
    A stack, not yet up.

    Args:
        daemon: Whom to test: started here, or attached where it has an address.
        proxy: "embedded", or the URL of a Toxiproxy's API.
        directory: Where logs and effects go; None keeps them only while it runs.
        recorder: Where starts and ends are noted.
        seed: Root seed of our proxy's draws.
        proxy_command: What to start as our proxy, without its options.
        proxy_port: The port of our proxy's API; 0 lets the system choose.
        reaper: Who cleans up if the harness dies; None: one of its own.

    Raises:
        InvalidValue: If the proxy's URL is none.
    """
    household = Household(directory=directory, reaper=reaper)
    site: Site = (
        LocalDaemon(daemon, household, recorder=recorder)
        if daemon.address is None
        else AttachedDaemon(daemon)
    )
    server: Server = (
        LocalProxy(
            household,
            seed=seed,
            command=proxy_command,
            port=proxy_port,
            allow_remote=daemon.allow_remote,
            recorder=recorder,
        )
        if proxy == EMBEDDED
        else AttachedProxy(proxy, household, allow_remote=daemon.allow_remote)
    )
    return Stack(household, site, server, recorder=recorder)


def name_of_proxy(proxy: str) -> str:
    """
    What an environment's proxy is called: on a server of ours always the same, for draws hang
    on it; on somebody else's as nobody else's is.
    """
    return "edge" if proxy == EMBEDDED else f"edge-{fresh_id()}"


class AttachedEnvironment(Environment):
    """
    A proxy before a daemon that runs already. The daemon is left as it was found.

    Args:
        daemon: Which; for instance `Running.at("ws://localhost:8079")`.
        proxy: "embedded" starts a proxy server of our own; a URL takes a Toxiproxy that
            runs already and leaves its other proxies alone.
        name: The proxy's name in its server's API; None: one that nobody else has.
        directory: Where logs are kept; None keeps them only meanwhile.
        recorder: Where ops go.
        seed: Root seed of the proxy's draws.

    Raises:
        ConnectFailed: On entering, if the daemon does not answer.
        EnvironmentFailed: On entering, if no Toxiproxy answers at that URL, or it has a proxy
            of that name.
    """

    def __init__(
        self,
        daemon: Daemon,
        *,
        proxy: str = EMBEDDED,
        name: str | None = None,
        directory: Path | None = None,
        recorder: Recorder | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            stack_of(daemon, proxy=proxy, directory=directory, recorder=recorder, seed=seed),
            owns=True,
            name=name or name_of_proxy(proxy),
            seed=seed,
        )
