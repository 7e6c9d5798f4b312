"""The engine: networks and containers made."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

import docker.errors
import requests.exceptions
from docker.types import EndpointConfig, IPAMConfig, IPAMPool, Ulimit
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import Reaper
from testcontainers.core.docker_client import DockerClient, get_docker_host
from testcontainers.core.exceptions import ContainerConnectException
from testcontainers.core.labels import SESSION_ID

from harness.environment.again import Again
from harness.environment.cgroup import CPU_PERIOD_US
from harness.environment.containers.box import Box
from harness.environment.containers.endpoint import find_endpoint
from harness.environment.containers.images import Images
from harness.environment.containers.left import COMPOSE, Left, labels_of
from harness.environment.containers.order import Order
from harness.environment.containers.output import until_it_breaks
from harness.environment.containers.told import (
    TIMEOUT_S,
    hang_up,
    no_engine,
    remove,
    told,
)
from harness.errors import EnvironmentFailed, TransientFailure

__all__ = ["Engine"]

_ASK_TIMEOUT_S: Final = 5
_FIRST_WAIT_S: Final = 0.3
# One that does not answer at all is not waited for three times.
_ATTEMPTS_WITHIN_S: Final = 45.0
_OURS: Final = "ws-harness"
_MACHINES: Final = {"amd64": "x86_64", "arm64": "aarch64"}

_NO_ANSWER: Final = (
    docker.errors.DockerException,
    requests.exceptions.RequestException,
    OSError,
)
_ONE_RYUK: Final = threading.Lock()

# It tells of every container at INFO, on a handler of its own.
logging.getLogger("testcontainers").setLevel(logging.WARNING)


class Engine:
    """
    A container engine that answers.

    Raises:
        EnvironmentFailed: If none does, or this user may not ask it.

    Attributes:
        endpoint: Where it is asked.
        images: Its images.
        left: What runs left on it.
        version: Its version.
        api: The version of its API.
        machine: Its architecture, as wheels and kernels call it.
        again: Attempts to make something there.
    """

    def __init__(self) -> None:
        self.endpoint = find_endpoint()
        try:
            self.endpoint.knock()
            self._client = self.endpoint.dial(timeout_s=_ASK_TIMEOUT_S)
            about = self._client.version()
        except _NO_ANSWER as error:
            raise no_engine(self.endpoint, error) from None
        # What is done takes longer than what is asked.
        self._client.api.timeout = TIMEOUT_S
        self.again = Again(first_wait_s=_FIRST_WAIT_S, within_s=_ATTEMPTS_WITHIN_S)
        self.images = Images(self._client, self.endpoint)
        self.left = Left(self._client)
        self.version = str(about["Version"])
        self.api = str(about["ApiVersion"])
        self.machine = _MACHINES.get(str(about["Arch"]), str(about["Arch"]))

    def close(self) -> None:
        """Let go of the connections to it."""
        self._client.close()

    def about(self) -> dict[str, Any]:
        """What it says of itself: see `docker info`."""
        with told("the engine cannot be asked about itself"):
            return dict(self._client.info())

    # Networks

    def make_network(self, name: str, *, run_id: str, subnet: str, gateway: str) -> bool:
        """
        Make a network of that subnet, with this machine at the gateway's address.

        Returns:
            Whether it was made. It is not where another network has some of these addresses.

        Raises:
            EnvironmentFailed: If it cannot be made for another reason.
        """

        def make() -> bool:
            return self._make_network(name, run_id=run_id, subnet=subnet, gateway=gateway)

        return self.again.attempt(f"network {name}", make, passes=_may_pass)

    def _make_network(self, name: str, *, run_id: str, subnet: str, gateway: str) -> bool:
        pools = [IPAMPool(subnet=subnet, gateway=gateway)]
        with told(f"network {name} ({subnet}) cannot be made"):
            try:
                self._client.networks.create(
                    name,
                    driver="bridge",
                    ipam=IPAMConfig(pool_configs=pools),
                    labels=labels_of(run_id),
                )
            except docker.errors.APIError as error:
                if "overlap" in str(error.explanation).lower():
                    return False
                raise
            except requests.exceptions.Timeout:
                # It may be making it all the same.
                with contextlib.suppress(EnvironmentFailed):
                    self.remove_network(name)
                raise
        return True

    def remove_network(self, name: str) -> None:
        """Remove a network; nothing, where it is gone already."""
        with (
            told(f"network {name} cannot be removed"),
            contextlib.suppress(docker.errors.NotFound),
        ):
            self._client.networks.get(name).remove()

    # Containers

    def run(self, order: Order) -> Box:
        """
        Make a container and start it. Where it cannot be started none is left.

        Raises:
            EnvironmentFailed: If it cannot be made or started.
        """
        return self.again.attempt(
            f"container {order.name}", lambda: self._run(order), passes=_may_pass
        )

    def _run(self, order: Order) -> Box:
        if self.images.id(order.image) is None:
            # Testcontainers would try to fetch it, and say what the resolver says.
            raise EnvironmentFailed(
                f"there is no image {order.image} here", [("next", _way_to(order.image))]
            )
        _settle_ryuk(self)
        with told(f"container {order.name} cannot be started"):
            client = _Client(self.endpoint.dial(timeout_s=TIMEOUT_S, version=self.api))
            try:
                made = client.create(
                    order.image,
                    command=None if order.command is None else list(order.command),
                    environment=dict(order.variables),
                    name=order.name,
                    ports={f"{inside}/tcp": outside for inside, outside in order.ports.items()},
                    volumes={
                        here: {"bind": inside, "mode": "rw"}
                        for here, inside in order.mounts.items()
                    },
                    **_options(order, api=self.api),
                )
                client.start(made)
            except BaseException:
                client.client.close()
                # What resists is left to the reaper; the first error is the one that is told.
                with contextlib.suppress(EnvironmentFailed):
                    self.remove(order.name)
                raise
        return Box(order, made)

    def remove(self, name: str) -> None:
        """Remove a container and its volumes; nothing, where it is gone already."""
        with (
            told(f"container {name} cannot be removed"),
            contextlib.suppress(docker.errors.NotFound),
        ):
            remove(self._client.containers.get(name))

    def named(self, name: str) -> Box | None:
        """A container that somebody else made, Compose for instance; None where there is none."""
        with told(f"container {name} cannot be looked up"):
            try:
                found = self._client.containers.get(name)
            except docker.errors.NotFound:
                return None
        about = found.attrs["Config"]
        command = [*(about.get("Entrypoint") or ()), *(about.get("Cmd") or ())]
        order = Order(name=name, image=str(about["Image"]), command=command, run_id="", network="")
        return Box(order, found, lent=True)

    def of_project(self, project: str, service: str) -> list[str]:
        """The names of the containers of a Compose project's service."""
        labels = [f"{COMPOSE}={project}", f"com.docker.compose.service={service}"]
        with told(f"the containers of {project} cannot be listed"):
            filters = {"label": labels}
            # Somebody may remove one between its listing and a look at it.
            found = self._client.containers.list(all=True, filters=filters, ignore_removed=True)
        return sorted(str(container.name) for container in found)

    def events(self) -> tuple[Iterator[dict[str, Any]], Callable[[], None]]:
        """What the engine tells of containers and networks, as it comes; and its end."""
        # Not by label: what becomes of a container's networks is told without any.
        filters = {"type": ["container", "network"]}
        with told("the engine's events cannot be followed"):
            stream = self._client.events(filters=filters, decode=True)
        return until_it_breaks(stream), hang_up(stream)


def _may_pass(error: EnvironmentFailed) -> bool:
    return isinstance(error, TransientFailure)


def _way_to(image: str) -> str:
    if image.startswith(_OURS):
        return "`harness images` makes or pulls it"
    return f"docker pull {image}, or build it; nobody's image is fetched unasked"


class _Client(DockerClient):
    """
    Testcontainers' client, of our engine: its own may go to another, and says so to all by
    DOCKER_HOST. Its container class would start Ryuk, in whichever threads come first.
    """

    def __init__(self, client: Any) -> None:
        self.client = client
        self.client.api.headers["x-tc-sid"] = SESSION_ID


def _settle_ryuk(engine: Engine) -> None:
    """Testcontainers' own cleaner, where its image is here and nobody switched it off."""
    config, where = testcontainers_config, engine.endpoint
    # Beside another engine, or where it is not told how to ask, it is of no use.
    same = get_docker_host() in (None, where.url) and not (where.context and where.tls)
    if config.ryuk_disabled or not same or engine.images.id(config.ryuk_image) is None:
        return
    # Two threads would make two of one name.
    with _ONE_RYUK:
        try:
            Reaper.get_instance()
        except (*_NO_ANSWER, ContainerConnectException) as error:
            Reaper.delete_instance()
            raise EnvironmentFailed(
                f"Testcontainers' cleaner, Ryuk, cannot be started: {error}",
                [("next", "TESTCONTAINERS_RYUK_DISABLED=true goes without it; ours cleans up")],
            ) from None


def _options(order: Order, *, api: str) -> dict[str, Any]:
    """What the engine is told beyond what Testcontainers has words for."""
    options: dict[str, Any] = {"labels": labels_of(order.run_id), "network": order.network}
    if order.network != "host":
        options["networking_config"] = {
            order.network: EndpointConfig(
                api, ipv4_address=order.address, aliases=list(order.aliases) or None
            )
        }
    limits = order.limits
    if limits.memory_bytes is not None:
        # No swap on top: a limit that can be exceeded by a factor is none.
        options |= {"mem_limit": limits.memory_bytes, "memswap_limit": limits.memory_bytes}
    if limits.cpus is not None:
        # Not as nano_cpus: an engine refuses to change those of a container that runs.
        options |= {"cpu_period": CPU_PERIOD_US, "cpu_quota": int(limits.cpus * CPU_PERIOD_US)}
    if limits.processes is not None:
        options["pids_limit"] = limits.processes
    if limits.descriptors is not None:
        both = {"soft": limits.descriptors, "hard": limits.descriptors}
        options["ulimits"] = [Ulimit(name="nofile", **both)]
    if order.user is not None:
        options["user"] = order.user
    if order.pids_of is not None:
        options["pid_mode"] = f"container:{order.pids_of}"
    if order.capabilities:
        options["cap_add"] = list(order.capabilities)
    return options
