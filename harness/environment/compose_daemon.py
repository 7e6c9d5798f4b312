"""
A daemon that is a service of the user's own Compose project, brought up beside what it needs.

The project gets a name of its own for each environment, and an override: see
`compose_override`. The daemon stands on two networks: the project's, where its siblings are,
and ours, where its clients are and its address is fixed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Final

from harness.daemons.base import Daemon
from harness.environment.abilities import OF_THE_DAEMON
from harness.environment.clean_up import put_away
from harness.environment.compose import Compose
from harness.environment.compose_override import Plan, as_yaml, override, undetermined
from harness.environment.container_daemon import ContainerDaemon
from harness.environment.container_site import STOP_S
from harness.environment.containers import OWNER, RUN, Box
from harness.environment.household import Household
from harness.environment.logs import Log
from harness.environment.networks import Network, subnets
from harness.environment.owner import own_name
from harness.environment.processes import reserve_port
from harness.environment.threads import in_thread, in_thread_or_not
from harness.errors import EnvironmentFailed
from harness.history import Recorder

__all__ = ["ComposeDaemon"]

_UP_S: Final = 600
_DOWN_S: Final = 60
# Of a thousand subnets few are in use.
_ATTEMPTS: Final = 5
_OVERLAP: Final = "overlap"
_TAIL_LINES: Final = 20
# Of each service.
_MOST_LINES: Final = "2000"
# Not the environment's: an image has its project's name in it, and would be another each time.
_BUILDER: Final = "ws-harness-built"


class ComposeDaemon(ContainerDaemon):
    """A daemon, a service of a Compose project; all of the project is the environment's own."""

    def __init__(
        self,
        daemon: Daemon,
        household: Household,
        network: Network,
        *,
        recorder: Recorder | None = None,
    ) -> None:
        super().__init__(daemon, household, network, recorder=recorder)
        container = daemon.container
        assert container is not None and container.compose is not None
        assert container.service is not None
        self._file: Path = container.compose
        self._service: str = container.service
        secret = {}
        # Without one the project's own, in its .env for instance, counts.
        if daemon.token_variable is not None and daemon.token is not None:
            secret[daemon.token_variable] = daemon.token
        self._compose = Compose(container.compose, run_id=household.run_id, variables=secret)
        # Its networks when all is well, and of those it is cut off its address and its names.
        self._networks: dict[str, str] = {}
        self._cut: dict[str, tuple[str, list[str]]] = {}

    async def start(self) -> None:
        """Bring its project up. Whoever is cancelled meanwhile breaks that off."""
        # Else the building of an image would be waited for.
        await in_thread_or_not(self._bring_up, break_off=self._compose.break_off)

    def _bring_up(self) -> None:
        household = self._household
        household.reaper.contain(household.run_id)
        self._follow_events()
        told = json.loads(self._run("config", "--format", "json"))
        self._look_at(told)
        self._own_address = self.network.take()
        if self.network.path != "bridge":
            self._reservation = reserve_port()
        self._up(told)
        box = self._find()
        self._networks = box.networks()
        # The project may have some of its own.
        self.daemon = replace(self.daemon, limits=box.limits())
        self._box = self._boxed(replace(box.order, run_id=household.run_id))
        self._box.adopt(box)

    def _look_at(self, told: Mapping[str, Any]) -> None:
        """Refuse what cannot be a daemon."""
        services = told["services"]
        if self._service not in services:
            raise EnvironmentFailed(
                f'{self._file} has no service "{self._service}"',
                [("services", ", ".join(services)), ("next", "see daemon.container.service")],
            )
        if mode := services[self._service].get("network_mode"):
            raise EnvironmentFailed(
                f'the service "{self._service}" has no network of its own: network_mode is {mode}',
                [
                    ("file", str(self._file)),
                    ("reason", "two environments would meet, or nobody would reach it"),
                    ("next", "leave network_mode out: it is then on the project's own network"),
                ],
            )

    def _up(self, told: Mapping[str, Any]) -> None:
        """Build what is to be built, and start all, in subnets that nobody has."""
        drawn = subnets(self._project)
        many = len(undetermined(told, self._service))
        for attempt in range(1, _ATTEMPTS + 1):
            said = override(told, self._plan(), islice(drawn, many))
            self._override.write_text(as_yaml(said) + "\n", "utf-8")
            if attempt == 1 and any("build" in its for its in told["services"].values()):
                self._run("build", project=_BUILDER, within_s=_UP_S)
            try:
                one = f"{self._service}=1"
                words = ["up", "--detach", "--no-color", "--quiet-pull", "--scale", one]
                self._run(*words, within_s=_UP_S)
                return
            except EnvironmentFailed as error:
                if not many or _OVERLAP not in str(error) or attempt == _ATTEMPTS:
                    self._keep_logs()
                    rows = [("log tail", self._siblings.tail(_TAIL_LINES))]
                    raise EnvironmentFailed(error.headline, [*error.details, *rows]) from None
                self._down()

    def _plan(self) -> Plan:
        container, published = self.daemon.container, None
        assert container is not None
        if self._reservation is not None:
            published = f"{self._reservation.address}:{container.port}"
        place = hashlib.sha256(str(self._file.resolve()).encode()).hexdigest()[:12]
        return Plan(
            project=self._project,
            service=self._service,
            labels={RUN: self._household.run_id, OWNER: own_name()},
            network=self.network.name,
            address=self._own_address,
            published=published,
            limits=self.daemon.limits,
            variable=self.daemon.token_variable,
            built=f"ws-harness-built:{place}",
        )

    def _find(self) -> Box:
        engine = self.network.engine
        names = engine.of_project(self._project, self._service)
        box = engine.named(names[0]) if names else None
        if box is None:
            raise EnvironmentFailed(f"{self._project} has no container of {self._service}")
        return box

    @property
    def _siblings(self) -> Log:
        return self._log("compose.log")

    @property
    def _override(self) -> Path:
        return self._household.directory / "compose.override.yaml"

    @property
    def _project(self) -> str:
        return f"harness-{self._household.run_id}"

    def _run(
        self,
        *words: str,
        project: str | None = None,
        within_s: float = _DOWN_S,
        anyway: bool = False,
    ) -> str:
        return self._compose.run(
            *words,
            project=project or self._project,
            overrides=[self._override] if self._override.exists() else [],
            within_s=within_s,
            anyway=anyway,
        )

    def _keep_logs(self) -> None:
        """Write down what its services wrote, the daemon's siblings too, while it can be had."""
        with suppress(EnvironmentFailed):
            words = ["logs", "--no-color", "--timestamps", "--tail", _MOST_LINES]
            self._siblings.append(self._run(*words, anyway=True).encode())
            self._siblings.clean()

    def _down(self) -> None:
        words = ["down", "--volumes", "--timeout", "2", "--remove-orphans"]
        # What was asked for before it was broken off may come late.
        for _ in range(2 if self._compose.broken_off else 1):
            self._run(*words, anyway=True)

    @property
    def abilities(self) -> Mapping[str, str | None]:
        """Its container is ours; where its effects go nobody knows."""
        effects = "a Compose project is not told {effects}"
        return {**dict.fromkeys(OF_THE_DAEMON), "effects": effects}

    def _leave(self) -> None:
        """All of them: a port that is published moves to whichever is left."""
        box = self.program.box
        for name, address in box.networks().items():
            ours = name == self.network.name
            # One that does not run has none on the others now.
            self._cut[name] = self._own_address if ours else address, box.aliases(name)
        # Its clients' first, and last when it comes back: nobody meets half of it.
        for name in sorted(self._cut, key=lambda name: name != self.network.name):
            box.leave(name)

    def _join(self) -> None:
        box = self.program.box
        for name in sorted(self._cut, key=lambda name: name == self.network.name):
            address, aliases = self._cut[name]
            try:
                box.join(name, address=address or None, aliases=aliases)
            except EnvironmentFailed:
                if name == self.network.name:
                    raise
                # One of somebody else's may let nobody choose.
                box.join(name, address=None, aliases=aliases)
        self._cut = {}

    async def end(self) -> None:
        """Take the whole project down, with its networks and volumes."""
        # What ended before it was asked to is told below.
        self._wanted = self._wanted and not self.program.alive
        box = self._box
        steps = []
        if box is not None and box.started:
            # First: Compose removes it, and of what is gone nobody tells how it ended.
            steps.append(in_thread(box.end, within_s=STOP_S))
        if self._override.exists():
            if box is not None:
                steps.append(in_thread(self._keep_logs))
            steps.append(in_thread(self._down))
        await put_away(None, *steps, super().end())

    def describe(self) -> Mapping[str, Any]:
        """As of any container; and its project."""
        project = {
            "name": self._project,
            "file": str(self._file),
            "service": self._service,
            "networks": self._networks,
        }
        return {**super().describe(), "project": project}
