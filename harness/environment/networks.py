"""
A network of containers of our own, in a subnet that we choose, so that a container has the
same address again after it was cut off.

The engine's own choice would run out after some thirty networks.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Final

from harness.clock import Draws, fresh_seed
from harness.environment.containers import Engine
from harness.environment.household import Household
from harness.environment.paths import NetworkPath
from harness.errors import EnvironmentFailed, InvalidValue

__all__ = ["Network", "subnets"]

_SUBNETS: Final = "HARNESS_DOCKER_SUBNETS"
_DEFAULT_SUBNETS: Final = "10.231.0.0/16"
_PREFIX: Final = 26
_ATTEMPTS: Final = 40
# What engines that run in a machine of their own call the one around it.
_THIS_MACHINE: Final = "host.docker.internal"


class Network:
    """
    A network, from `open` to `close`. Both block.

    Args:
        connect: Finds the engine.
        household: To whom it belongs.
        path: How its containers are to be reached; None: as this machine can.

    Attributes:
        name: Its name.
        path: How its containers are reached; what was probed, once it is open.
        is_here: Whether this process is where the engine's networks are.
    """

    def __init__(
        self,
        connect: Callable[[], Engine],
        household: Household,
        *,
        path: NetworkPath | None = None,
    ) -> None:
        self._connect = connect
        self._engine: Engine | None = None
        self.name = f"harness-{household.run_id}"
        self.path: NetworkPath = path or "published"
        self.is_here = False
        self._given = path
        self._household = household
        self._subnet: ipaddress.IPv4Network | None = None
        self._taken: set[ipaddress.IPv4Address] = set()
        self._lock = threading.Lock()

    @property
    def engine(self) -> Engine:
        """Whose it is, once it is open."""
        assert self._engine is not None
        return self._engine

    @property
    def subnet(self) -> str:
        """Its addresses."""
        return str(self._subnet)

    @property
    def gateway(self) -> str:
        """The address that this machine has there, where the engine runs on it."""
        assert self._subnet is not None
        return str(self._subnet[1])

    @property
    def host_of_here(self) -> tuple[str, str]:
        """An address of this machine to listen on for containers, and what these call it."""
        if self.is_here:
            return self.gateway, self.gateway
        return "127.0.0.1", _THIS_MACHINE

    def open(self) -> None:
        """
        Make it, in a subnet that nobody has, and see how its containers are reached.

        Raises:
            EnvironmentFailed: If it cannot be made.
            InvalidValue: If HARNESS_DOCKER_SUBNETS holds no such network.
        """
        self._engine = self._connect()
        self._household.reaper.contain(self._household.run_id)
        for subnet in subnets(self.name):
            made = self.engine.make_network(
                self.name,
                run_id=self._household.run_id,
                subnet=str(subnet),
                gateway=str(subnet[1]),
            )
            if made:
                self._subnet = subnet
                self._taken = {subnet[0], subnet[1], subnet[-1]}
                self.is_here = _is_ours(self.gateway)
                if self._given is None:
                    self.path = "bridge" if self.is_here else "published"
                return
        raise EnvironmentFailed(
            f"no subnet of {_pool()} is free: {_ATTEMPTS} draws were tried",
            [
                ("next", "`harness clean` removes what dead runs left; see `docker network ls`"),
                ("or", f"name other addresses: {_SUBNETS}=10.99.0.0/16"),
            ],
        )

    def close(self) -> None:
        """Remove it; nothing, where it was not made."""
        # An engine that did not answer in time may have made it all the same.
        if self._engine is not None:
            self.engine.remove_network(self.name)

    def take(self) -> str:
        """
        An address that no other container has.

        Raises:
            EnvironmentFailed: If there is none left.
        """
        assert self._subnet is not None
        with self._lock:
            for address in self._subnet:
                if address not in self._taken:
                    self._taken.add(address)
                    return str(address)
        raise EnvironmentFailed(f"network {self.name} ({self.subnet}) has no address left")

    def give_back(self, address: str) -> None:
        """The container with that address is gone."""
        with self._lock:
            self._taken.discard(ipaddress.IPv4Address(address))


def subnets(name: str) -> Iterator[ipaddress.IPv4Network]:
    """
    Subnets of ours that may be free, some dozens. Only whoever makes a network knows.

    Args:
        name: For whom.

    Raises:
        InvalidValue: If HARNESS_DOCKER_SUBNETS holds no such network.
    """
    pool = _pool()
    # Not the first that is free: two that begin at the same time would race for it.
    draws = Draws(fresh_seed(), name)
    for attempt in range(_ATTEMPTS):
        count = 1 << (_PREFIX - pool.prefixlen)
        number = int(draws.at(attempt) * count)
        first = int(pool.network_address) + (number << (32 - _PREFIX))
        yield ipaddress.IPv4Network((first, _PREFIX))


def _pool() -> ipaddress.IPv4Network:
    text = os.environ.get(_SUBNETS) or _DEFAULT_SUBNETS
    try:
        pool = ipaddress.IPv4Network(text)
    except ValueError as error:
        raise InvalidValue(f'{_SUBNETS}: "{text}" is no network: {error}') from None
    if pool.prefixlen > _PREFIX or not pool.is_private:
        raise InvalidValue(
            f"{_SUBNETS}: {pool} cannot be used; expected a private network of /{_PREFIX} or larger"
        )
    return pool


def _is_ours(address: str) -> bool:
    """
    Whether this process has that address: then it is where the engine's networks are, reaches
    containers at their own addresses, and is reached from the host's network.
    """
    with socket.socket() as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True
