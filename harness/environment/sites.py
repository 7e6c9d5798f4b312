"""Where a daemon runs, and the provider behind it: made for whichever backend was chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.daemons.base import Container, Daemon
from harness.environment.attached import AttachedDaemon
from harness.environment.household import Household
from harness.environment.local import LocalDaemon
from harness.environment.local_provider import LocalProvider
from harness.environment.parts import DaemonSite, ProviderSite
from harness.errors import InvalidValue
from harness.history import Recorder

if TYPE_CHECKING:
    from harness.environment.networks import Network

__all__ = ["provider_site_of", "site_of"]


def site_of(
    daemon: Daemon, household: Household, network: Network | None, *, recorder: Recorder | None
) -> DaemonSite:
    """
    Where a daemon runs, not yet up.

    Args:
        daemon: Which.
        household: Whose it is.
        network: Where it stands as a container; None: it is a process of this machine.
        recorder: Where its starts and ends are noted.

    Raises:
        InvalidValue: If it has no container to run in.
    """
    if daemon.address is not None:
        return AttachedDaemon(daemon)
    if network is None:
        return LocalDaemon(daemon, household, recorder=recorder)
    from harness.environment.compose_daemon import ComposeDaemon
    from harness.environment.container_daemon import ContainerDaemon

    whose = f'the daemon "{daemon.type}"'
    composed = _needed(daemon.container, whose, "daemon.container").compose is not None
    kind = ComposeDaemon if composed else ContainerDaemon
    return kind(daemon, household, network, recorder=recorder)


def provider_site_of(
    daemon: Daemon, household: Household, network: Network | None, *, recorder: Recorder | None
) -> ProviderSite | None:
    """
    Where the provider behind a daemon runs, not yet up: as the daemon does. None: it has none.

    Args:
        daemon: Which.
        household: Whose it is.
        network: Where it stands as a container; None: it is a process of this machine.
        recorder: Where its starts and ends are noted.

    Raises:
        InvalidValue: If it has no container to run in.
    """
    provider = daemon.provider
    if provider is None:
        return None
    secrets = () if daemon.token is None else (daemon.token,)
    if network is None:
        return LocalProvider(provider, household, recorder=recorder, secrets=secrets)
    from harness.environment.container_provider import ContainerProvider

    whose = f'the provider of the daemon "{daemon.type}"'
    _needed(provider.container, whose, "daemon.provider.container")
    return ContainerProvider(provider, household, network, recorder=recorder, secrets=secrets)


def _needed(container: Container | None, whose: str, table: str) -> Container:
    if container is None:
        raise InvalidValue(
            f"{whose} has no container to run in",
            [("next", f"say of what image, in [tool.harness.{table}]; or backend local")],
        )
    return container
