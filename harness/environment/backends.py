"""
The two choices, made: where the daemon runs, and which proxy server stands before it.

What containers need is imported where they are chosen: it takes a quarter of a second, and
is an extra that not everybody installed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from harness.clock import fresh_id
from harness.daemons.base import Daemon
from harness.environment.attached import AttachedProxy
from harness.environment.base import Environment
from harness.environment.behind import Behind
from harness.environment.hops import EDGE, PROVIDER, HopName
from harness.environment.household import Household
from harness.environment.local import LocalProxy
from harness.environment.parts import Server
from harness.environment.paths import PATHS, NetworkPath
from harness.environment.processes import Reaper
from harness.environment.sites import provider_site_of, site_of
from harness.environment.stack import Stack
from harness.environment.tapped import Tapped
from harness.errors import EnvironmentFailed, InvalidValue
from harness.history import Recorder

if TYPE_CHECKING:
    from harness.environment.containers import Engine
    from harness.environment.networks import Network

__all__ = [
    "BACKENDS",
    "DOCKER",
    "EMBEDDED",
    "LOCAL",
    "OWN_PROXIES",
    "TOXIPROXY",
    "AttachedEnvironment",
    "Choice",
    "OwnEnvironment",
    "engine",
    "engine_in_use",
    "name_of_proxy",
    "network_of",
    "server_of",
    "stack_of",
]

LOCAL: Final = "local"
DOCKER: Final = "docker"
BACKENDS: Final = (LOCAL, DOCKER)
"""Where a daemon that is started here runs: a process of this machine, or a container."""

EMBEDDED: Final = "embedded"
TOXIPROXY: Final = "toxiproxy"
OWN_PROXIES: Final = (EMBEDDED, TOXIPROXY)
"""A proxy server of our own; the real one, in a container. Else the address of one that runs."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """
    Where a daemon runs that is started here, and what stands before it.

    Attributes:
        backend: "local" or "docker".
        proxy: "embedded", "toxiproxy", or the URL of a Toxiproxy's API.
        path: How a daemon in a container is reached; None: as this machine can.
        tap: Whether relays of ours stand behind the real Toxiproxy, which tells nothing itself.

    Raises:
        InvalidValue: If there is no such backend or path.
    """

    backend: str = LOCAL
    proxy: str = EMBEDDED
    path: NetworkPath | None = None
    tap: bool = True

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise InvalidValue(f"{self.backend!r} is no backend; expected {' or '.join(BACKENDS)}")
        if self.path is not None and self.path not in PATHS:
            raise InvalidValue(f"{self.path!r} is no path; expected one of {', '.join(PATHS)}")

    def boxes(self, daemon: Daemon) -> bool:
        """Whether that daemon is put into a container."""
        return self.backend == DOCKER and daemon.address is None


_USUAL: Final = Choice()
_ONE_AT_A_TIME: Final = threading.Lock()


def engine() -> Engine:
    """
    The container engine, for all of this process. What dead runs left there is swept first.

    Raises:
        EnvironmentFailed: If there is none that answers.
    """
    with _ONE_AT_A_TIME:
        return _engine()


def engine_in_use() -> Engine | None:
    """The container engine, where anybody asked for it."""
    return _engine() if _engine.cache_info().currsize else None


@cache
def _engine() -> Engine:
    from harness.environment.containers import Engine

    found = Engine()
    # What resists is somebody's whom it should not keep from working; `harness clean` says why.
    with suppress(EnvironmentFailed):
        found.left.sweep(*found.left.runs(dead=True), held_s=0)
    return found


def network_of(
    household: Household,
    *,
    path: NetworkPath | None = None,
    connect: Callable[[], Engine] = engine,
) -> Network:
    """A network for containers, not yet open; `connect` finds the engine."""
    from harness.environment.networks import Network

    return Network(connect, household, path=path)


def server_of(
    proxy: str,
    household: Household,
    *,
    network: Network | None = None,
    seed: int = 0,
    command: Sequence[str] | None = None,
    port: int = 0,
    allow_remote: bool = False,
    tap: bool = False,
    recorder: Recorder | None = None,
    connect: Callable[[], Engine] = engine,
) -> Server:
    """
    A proxy server, not yet up.

    Args:
        proxy: "embedded", "toxiproxy", or the URL of a Toxiproxy's API.
        household: Whose it is.
        network: Where daemons in containers stand; None: there are none.
        seed: Root seed of our proxy's draws.
        command: What to start as our proxy, without its options.
        port: The port of its API; 0 lets the system choose.
        allow_remote: Whether it may connect to other machines.
        tap: Whether relays of ours stand behind a real Toxiproxy, which tells nothing itself.
        recorder: Where its start and end are noted.
        connect: Finds the container engine, where one is needed.

    Raises:
        InvalidValue: If the proxy's URL is none.
    """
    if proxy == TOXIPROXY:
        from harness.environment.container_proxy import ContainerProxy

        real = ContainerProxy(connect, household, port=port, network=network, recorder=recorder)
        if not tap:
            return real
        return Tapped(
            real, LocalProxy(household, allow_remote=True, recorder=recorder, log="tap.log")
        )
    if proxy != EMBEDDED:
        return AttachedProxy(proxy, household, allow_remote=allow_remote, network=network)
    return LocalProxy(
        household,
        seed=seed,
        command=command,
        port=port,
        # A container's own address is none of loopback.
        allow_remote=allow_remote or network is not None,
        network=network,
        recorder=recorder,
    )


def stack_of(
    daemon: Daemon,
    *,
    choice: Choice = _USUAL,
    directory: Path | None = None,
    recorder: Recorder | None = None,
    seed: int = 0,
    proxy_command: Sequence[str] | None = None,
    proxy_port: int = 0,
    reaper: Reaper | None = None,
    server: Server | None = None,
    network: Network | None = None,
    provider_proxy: str | None = None,
    connect: Callable[[], Engine] = engine,
) -> Stack:
    """
    A stack, not yet up.

    Args:
        daemon: Whom to test: started here, or attached where it has an address.
        choice: Where, and behind what.
        directory: Where logs and effects go; None keeps them only while it runs.
        recorder: Where starts and ends are noted.
        seed: Root seed of our proxy's draws; on a server that others use too, of those on the
            way to the daemon's provider.
        proxy_command: What to start as our proxy, without its options.
        proxy_port: The port of the proxy server's API; 0 lets the system choose.
        reaper: Who cleans up if the harness dies; None: one of its own.
        server: A proxy server that others use too, instead of one of its own.
        network: A network that others use too, instead of one of its own.
        provider_proxy: What the proxy before the daemon's provider is called; None: as
            `name_of_proxy` says.
        connect: Finds the container engine, where one is needed.

    Raises:
        InvalidValue: If the proxy's URL is none, or the daemon or its provider cannot run there.
        EnvironmentFailed: If there is no container engine where one is needed.
    """
    household = Household(directory=directory, reaper=reaper)
    boxed = choice.boxes(daemon)
    own = None
    if boxed and network is None:
        own = network_of(household, path=choice.path, connect=connect)
    ground = (network or own) if boxed else None
    site = site_of(daemon, household, ground, recorder=recorder)
    lent = server is not None
    before = server or server_of(
        choice.proxy,
        household,
        network=ground,
        seed=seed,
        command=proxy_command,
        port=proxy_port,
        allow_remote=daemon.allow_remote,
        tap=choice.tap,
        recorder=recorder,
        connect=connect,
    )
    behind = None
    provider = provider_site_of(daemon, household, ground, recorder=recorder)
    if provider is not None:
        name = provider_proxy or name_of_proxy(choice.proxy, PROVIDER)
        behind = Behind(provider, before, proxy=name, seed=seed)
    return Stack(household, site, before, behind=behind, network=own, lent=lent, recorder=recorder)


def name_of_proxy(proxy: str, hop: HopName = EDGE) -> str:
    """
    What the proxy on a hop is called: on a server of ours always the same, for draws hang
    on it; on somebody else's as nobody else's is.
    """
    return hop if proxy in OWN_PROXIES else f"{hop}-{fresh_id()}"


class OwnEnvironment(Environment):
    """
    A daemon and a proxy before it, both its own; ended when the block is left.

    Args:
        daemon: Whom to start.
        backend: Where: "local" or "docker".
        proxy: "embedded" or "toxiproxy".
        path: How a daemon in a container is reached; None: as this machine can.
        directory: Where logs and effects are kept; None keeps them only meanwhile.
        recorder: Where ops go.
        seed: Root seed of our proxy's draws.

    Raises:
        EnvironmentFailed: On entering, if daemon or proxy does not become ready; nothing is
            left then.
    """

    def __init__(
        self,
        daemon: Daemon,
        *,
        backend: str = LOCAL,
        proxy: str = EMBEDDED,
        path: NetworkPath | None = None,
        directory: Path | None = None,
        recorder: Recorder | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            stack_of(
                daemon,
                choice=Choice(backend=backend, proxy=proxy, path=path),
                directory=directory,
                recorder=recorder,
                seed=seed,
            ),
            owns=True,
            name=name_of_proxy(proxy),
            seed=seed,
        )


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
            stack_of(
                daemon,
                choice=Choice(proxy=proxy),
                directory=directory,
                recorder=recorder,
                seed=seed,
            ),
            owns=True,
            name=name or name_of_proxy(proxy),
            seed=seed,
        )
