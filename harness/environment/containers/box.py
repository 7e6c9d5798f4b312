"""One container."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import docker.errors
from docker.models.containers import Container as Wrapped

from harness.daemons.base import Limits
from harness.environment.cgroup import CPU_PERIOD_US
from harness.environment.containers.order import BoxState, Order, Said
from harness.environment.containers.output import stamped, until_it_breaks, whole_lines
from harness.environment.containers.told import TIMEOUT_S, hang_up, remove, told

__all__ = ["Box"]

# An engine has no word for no limit where there was one.
_ALL_MEMORY: Final = 1 << 46
_SECOND_NS: Final = 1_000_000_000
# There is none of that name; it does not run.
_OVER: Final = (404, 409)
# Which has no status of its own.
_THAWED: Final = "is not paused"


class Box:
    """
    A container that was made.

    Args:
        order: What was wanted.
        wrapped: The container.
        lent: Whether the client that asks for it is somebody else's, too.
    """

    def __init__(self, order: Order, wrapped: Wrapped, *, lent: bool = False) -> None:
        self.order = order
        self._wrapped = wrapped
        self._lent = lent

    @property
    def name(self) -> str:
        """Its name."""
        return self.order.name

    @property
    def id(self) -> str:
        """The engine's id of it."""
        return str(self._wrapped.id)

    @property
    def image_id(self) -> str:
        """The id of the image that it was made from."""
        return str(self._wrapped.attrs["Image"])

    def state(self) -> BoxState:
        """How it is now."""
        with told(f"container {self.name} cannot be looked at"):
            try:
                self._wrapped.reload()
            except docker.errors.NotFound:
                return BoxState(status="removed")
        state = self._wrapped.attrs["State"]
        status = str(state["Status"])
        return BoxState(
            status=status,
            exit_code=state["ExitCode"] if status in ("exited", "dead") else None,
            oom_killed=bool(state["OOMKilled"]),
            pid=int(state["Pid"]),
        )

    def networks(self) -> dict[str, str]:
        """The networks it is on, and its address on each."""
        self.state()
        found = self._wrapped.attrs["NetworkSettings"]["Networks"]
        return {str(name): str(there["IPAddress"]) for name, there in found.items()}

    def aliases(self, network: str) -> list[str]:
        """What it is called on a network, as far as it was told so."""
        self.state()
        there = self._wrapped.attrs["NetworkSettings"]["Networks"].get(network) or {}
        return [str(name) for name in there.get("Aliases") or ()]

    def published(self, port: int) -> tuple[str, int] | None:
        """Where a port of it stands outside; None where it is not published."""
        self.state()
        found = self._wrapped.attrs["NetworkSettings"]["Ports"].get(f"{port}/tcp") or []
        return (str(found[0]["HostIp"]), int(found[0]["HostPort"])) if found else None

    def start(self) -> None:
        """Start it again."""
        with told(f"container {self.name} cannot be started"):
            self._wrapped.start()

    def pause(self) -> None:
        """Freeze its processes."""
        with told(f"container {self.name} cannot be paused"):
            self._wrapped.pause()

    def unpause(self) -> bool:
        """Let them go on. Returns whether they were frozen."""
        with told(f"container {self.name} cannot be resumed"):
            frozen = self.state().status == "paused"
            if frozen:
                with _unless_over():
                    self._wrapped.unpause()
        return frozen

    def kill(self) -> None:
        """End its processes at once; nothing, where there are none."""
        with told(f"container {self.name} cannot be killed"):
            if self.state().alive:
                with _unless_over():
                    self._wrapped.kill()
                    self._wrapped.wait(timeout=TIMEOUT_S)

    def stop(self, *, within_s: float) -> None:
        """Ask it to end; kill it after that many whole seconds. Nothing, where it has ended."""
        with told(f"container {self.name} cannot be stopped"), _unless_over():
            self._wrapped.stop(timeout=max(1, round(within_s)))

    def leave(self, network: str) -> None:
        """Cut it off a network; nothing, where it is not on it."""
        with told(f"container {self.name} cannot be cut off {network}"):
            if network in self.networks():
                self._network(network).disconnect(self._wrapped)

    def join(self, network: str, *, address: str | None, aliases: Sequence[str] = ()) -> None:
        """Put it on a network; nothing, where it is on it."""
        with told(f"container {self.name} cannot be put on {network}"):
            if network not in self.networks():
                self._network(network).connect(
                    self._wrapped, ipv4_address=address, aliases=list(aliases) or None
                )

    def _network(self, name: str) -> Any:
        return self._client.networks.get(name)

    @property
    def _client(self) -> Any:
        return self._wrapped.client

    def limit(self, *, memory_bytes: int | None = None, cpus: float | None = None) -> None:
        """Change its limits; None leaves one as it is, 0 takes it away."""
        options: dict[str, Any] = {}
        if memory_bytes is not None:
            most = memory_bytes or _ALL_MEMORY
            options |= {"mem_limit": most, "memswap_limit": most}
        if cpus is not None:
            quota = int(cpus * CPU_PERIOD_US) or -1
            options |= {"cpu_period": CPU_PERIOD_US, "cpu_quota": quota}
        with told(f"container {self.name} cannot be limited"):
            self._wrapped.update(**options)

    def limits(self) -> Limits:
        """Those that it has."""
        self.state()
        told = self._wrapped.attrs["HostConfig"]
        quota, period = told.get("CpuQuota") or 0, told.get("CpuPeriod") or CPU_PERIOD_US
        cpus = (told.get("NanoCpus") or 0) / _SECOND_NS or max(quota, 0) / period
        files = [each for each in told.get("Ulimits") or () if each["Name"] == "nofile"]
        return Limits(
            memory_bytes=told.get("Memory") or None,
            cpus=cpus or None,
            # Either stands for none.
            processes=max(told.get("PidsLimit") or 0, 0) or None,
            descriptors=int(files[0]["Soft"]) if files else None,
        )

    def wait(self) -> int:
        """Wait until it has ended; its exit code."""
        with told(f"the end of container {self.name} cannot be waited for"):
            return int(self._wrapped.wait(timeout=TIMEOUT_S)["StatusCode"])

    def output(self) -> str:
        """What it wrote so far."""
        with told(f"the output of container {self.name} cannot be read"):
            return bytes(self._wrapped.logs()).decode("utf-8", "replace")

    def use(self) -> dict[str, Any]:
        """What it uses, in the engine's words, after a second; {} where it was removed."""
        with told(f"container {self.name} cannot be measured"):
            try:
                return dict(self._wrapped.stats(stream=False, one_shot=True))
            except docker.errors.NotFound:
                return {}

    def execute(self, command: Sequence[str], *, user: str = "") -> tuple[int, str]:
        """Run a command in it: how it ended, and what it wrote."""
        with told(f"nothing can be executed in container {self.name}"):
            code, output = self._wrapped.exec_run(list(command), user=user)
        return int(code), bytes(output).decode("utf-8", "replace")

    def read(self, *, after_ns: int = 0) -> tuple[Iterator[Said], Callable[[], None]]:
        """
        What it writes until it ends, and what it wrote before.

        Args:
            after_ns: Only what the engine received after that moment of its clock.

        Returns:
            What comes, and what ends it from whatever thread.
        """
        with told(f"the output of container {self.name} cannot be followed"):
            stream = self._wrapped.logs(
                stream=True,
                follow=True,
                timestamps=True,
                # Of whole seconds; the rest is left out here.
                since=after_ns // _SECOND_NS or None,
            )
        pieces = whole_lines(stream) if self._wrapped.attrs["Config"]["Tty"] else stream
        heard = (stamped(piece) for piece in until_it_breaks(pieces))
        fresh = (said for said in heard if said.time_ns > after_ns or not said.time_ns)
        return fresh, hang_up(stream)

    def remove(self) -> None:
        """Remove it, running or not, with its volumes; nothing, where it is gone already."""
        with told(f"container {self.name} cannot be removed"):
            try:
                remove(self._wrapped)
            finally:
                if not self._lent:
                    self._client.close()


@contextlib.contextmanager
def _unless_over() -> Iterator[None]:
    """It may end, or be removed, between the look at it and what is done to it."""
    try:
        yield
    except docker.errors.APIError as error:
        if error.status_code not in _OVER and _THAWED not in str(error.explanation):
            raise
