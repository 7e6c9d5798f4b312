"""
A daemon that is a service of the user's own Compose project, brought up beside what it needs.

The project gets a name of its own for each environment, and an override that takes away the
ports it would publish: two of them never meet, and nothing is bound on all addresses.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from harness.daemons.base import Limits
from harness.environment.abilities import OF_THE_DAEMON
from harness.environment.boxed import Boxed
from harness.environment.container_daemon import STOP_S, ContainerDaemon
from harness.environment.containers import CPU_PERIOD_US, OWNER, RUN, Order
from harness.environment.logs import Log
from harness.environment.owner import own_name
from harness.environment.processes import reserve_port
from harness.environment.threads import in_thread
from harness.errors import EnvironmentFailed

__all__ = ["ComposeDaemon"]

_UP_S: Final = 600
_DOWN_S: Final = 60
_TAIL_LINES: Final = 15


def _limits(told: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
    """Our limits on a service, in Compose's words, where the project has none of its own."""
    own = {**told.get("deploy", {}).get("resources", {}).get("limits", {}), **told}
    found: dict[str, Any] = {}
    if limits.memory_bytes is not None and not own.keys() & {"memory", "mem_limit"}:
        found |= {"mem_limit": limits.memory_bytes, "memswap_limit": limits.memory_bytes}
    if limits.cpus is not None and not own.keys() & {"cpus", "cpu_quota"}:
        # Not `cpus`: an engine refuses to change those of a container that runs.
        quota = int(limits.cpus * CPU_PERIOD_US)
        found |= {"cpu_period": CPU_PERIOD_US, "cpu_quota": quota}
    if limits.processes is not None and not own.keys() & {"pids", "pids_limit"}:
        found["pids_limit"] = limits.processes
    if limits.descriptors is not None and "nofile" not in (told.get("ulimits") or {}):
        found["ulimits"] = {"nofile": limits.descriptors}
    return found


class ComposeDaemon(ContainerDaemon):
    """A daemon, a service of a Compose project; all of the project is the environment's own."""

    def _start(self) -> None:
        container, household = self.daemon.container, self._household
        assert container is not None and container.compose is not None
        assert container.service is not None
        household.reaper.contain(household.run_id)
        self._follow_events()
        text = self._compose("config", "--format", "json", overridden=False)
        services: dict[str, dict[str, Any]] = json.loads(text)["services"]
        if container.service not in services:
            raise EnvironmentFailed(
                f'{container.compose} has no service "{container.service}"',
                [("services", ", ".join(services)), ("next", "see daemon.container.service")],
            )
        self._write_override(services)
        self._compose("up", "--detach", "--no-color", "--quiet-pull", within_s=_UP_S)
        engine = self.network.engine
        names = engine.of_project(self._project, container.service)
        box = engine.named(names[0]) if names else None
        if box is None:
            raise EnvironmentFailed(f"{self._project} has no container of {container.service}")
        self._own_network, self._own_address = next(iter(box.networks().items()))
        # The project may have some of its own.
        self.daemon = replace(self.daemon, limits=box.limits())
        image = str(box.order.image)
        self._image_id = image
        order = Order(name=box.name, image=image, run_id=household.run_id, network="")
        secrets = () if self.daemon.token is None else (self.daemon.token,)
        log = Log(household.directory / "daemon.log", kept=household.kept, secrets=secrets)
        self._box = Boxed("daemon", engine, order, log=log, heard=self._sayings())
        self._box.adopt(box)

    def _write_override(self, services: Mapping[str, Mapping[str, Any]]) -> None:
        container = self.daemon.container
        assert container is not None and container.compose is not None
        labels = {RUN: self._household.run_id, OWNER: own_name()}
        lines = ["services:"]
        for service, told in services.items():
            ports = "!reset []"
            if service == container.service and self.network.path != "bridge":
                self._reservation = reserve_port()
                where = self._reservation.address
                ports = f"!override {json.dumps([f'{where}:{container.port}'])}"
            lines += [f"  {json.dumps(service)}:", f"    labels: {json.dumps(labels)}"]
            lines += [f"    ports: {ports}"]
            limits = _limits(told, self.daemon.limits)
            lines += [f"    {key}: {json.dumps(value)}" for key, value in limits.items()]
            if "build" in told and "image" not in told:
                # Else each environment would leave an image of its own.
                place = hashlib.sha256(str(container.compose.resolve()).encode()).hexdigest()[:12]
                lines += [f"    image: ws-harness-built:{place}-{service}"]
            if service == container.service and self.daemon.token_variable is not None:
                # By its name alone: Compose takes the value from its own environment.
                lines += [f"    environment: {json.dumps([self.daemon.token_variable])}"]
        lines += ["networks:", f"  default: {{labels: {json.dumps(labels)}}}"]
        self._override.write_text("\n".join(lines) + "\n", "utf-8")

    @property
    def _override(self) -> Path:
        return self._household.directory / "compose.override.yaml"

    @property
    def _project(self) -> str:
        return f"harness-{self._household.run_id}"

    def _compose(self, *words: str, within_s: float = _DOWN_S, overridden: bool = True) -> str:
        container = self.daemon.container
        assert container is not None and container.compose is not None
        files = [str(container.compose), *([str(self._override)] if overridden else [])]
        command = ["docker", "compose", "-p", self._project]
        command += [word for file in files for word in ("-f", file)]
        try:
            done = subprocess.run(
                [*command, *words],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=within_s,
                check=False,
                env=self._variables(),
            )
        except FileNotFoundError:
            raise EnvironmentFailed(
                "a Compose project needs the program docker with its plugin compose",
                [("next", "install Docker Compose v2; `docker compose version` tells")],
            ) from None
        except subprocess.TimeoutExpired:
            raise EnvironmentFailed(
                f"docker compose {words[0]} did not end within {within_s:g} s",
                [("file", str(container.compose))],
            ) from None
        if done.returncode:
            tail = "\n".join(done.stderr.splitlines()[-_TAIL_LINES:])
            raise EnvironmentFailed(
                f"docker compose {words[0]} ended with {done.returncode}",
                [("file", str(container.compose)), ("it said", tail), ("next", " ".join(command))],
            )
        return done.stdout

    def _variables(self) -> dict[str, str]:
        daemon = self.daemon
        token = {} if daemon.token_variable is None else {daemon.token_variable: daemon.token or ""}
        return {**os.environ, **token}

    @property
    def abilities(self) -> Mapping[str, str | None]:
        """Its container is ours; where its effects go nobody knows."""
        effects = "a Compose project is not told {effects}"
        return {**dict.fromkeys(OF_THE_DAEMON), "effects": effects}

    async def end(self) -> None:
        """Take the whole project down, with its networks and volumes."""
        self._wanted = False
        try:
            if self._box is not None and self._box.started:
                # First: Compose removes it, and of what is gone nobody tells how it ended.
                await in_thread(self._box.end, within_s=STOP_S)
            if self._override.exists():
                await in_thread(
                    self._compose, "down", "--volumes", "--timeout", "2", "--remove-orphans"
                )
        finally:
            if self._box is not None:
                await in_thread(self._box.remove)
            self._own_address = ""
            await super().end()
