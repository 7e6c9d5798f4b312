"""What runs left on the engine, told by its labels: found, and removed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any, Final

import docker.errors
import requests.exceptions

from harness.clock import now
from harness.environment.containers.told import remove, told
from harness.environment.owner import is_dead, own_name
from harness.errors import EnvironmentFailed

__all__ = ["COMPOSE", "OWNER", "RUN", "Left", "labels_of"]

RUN: Final = "ws-harness.run"
"""The label that names the run."""

OWNER: Final = "ws-harness.owner"
"""The label that names the process that made it."""

COMPOSE: Final = "com.docker.compose.project"

# While a container that holds a network is just made, or removed by somebody else.
_HELD: Final = "active endpoints"
_HELD_S: Final = 5.0
_CONTAINER: Final = "container "
_PAUSE_S: Final = 0.05


def labels_of(run_id: str) -> dict[str, str]:
    """What everything carries that is made for a run."""
    return {RUN: run_id, OWNER: own_name()}


class Left:
    """What is there of runs. Nothing that carries no run id of ours is ever touched."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def remains(self, *run_ids: str) -> list[str]:
        """What there is of these runs, each as a kind and a name."""
        with told(f"what is left of run {', '.join(run_ids)} cannot be listed"):
            return [name for name, _ in self._of_runs(run_ids)]

    def owned(self, owner: str) -> list[tuple[str, str]]:
        """What there is that a process made: of which run, and its kind and name."""
        with told(f"what {owner} made cannot be listed"):
            things = self._listed(f"{OWNER}={owner}")
            return [(_labels_on(thing)[RUN], name) for name, thing in things]

    def runs(self, *, dead: bool) -> list[str]:
        """The runs that something is there of; `dead`: only those whose maker is certainly gone."""
        with told("the runs of this engine cannot be listed"):
            labels = [_labels_on(thing) for _, thing in self._listed(RUN)]
        return sorted({on[RUN] for on in labels if not dead or is_dead(on.get(OWNER, ""))})

    def sweep(self, *run_ids: str, held_s: float = _HELD_S) -> list[str]:
        """
        Remove what there is of these runs: first all their containers, then what those hold. One
        run's may stand on another's network.

        Args:
            held_s: How long what somebody else still holds is waited for, in seconds.

        Returns:
            What was there, each as a kind and a name.

        Raises:
            EnvironmentFailed: If something resists; all else is removed.
        """
        found: list[str] = []
        deadline = now() + held_s
        with told(f"what is left of run {', '.join(run_ids)} cannot be removed"):
            while resisting := self._sweep(run_ids, found):
                if now() >= deadline or not any(_HELD in why for _, why in resisting):
                    raise EnvironmentFailed(
                        f"of what is left of run {', '.join(run_ids)} some cannot be removed",
                        resisting,
                    )
                Event().wait(_PAUSE_S)
        return list(dict.fromkeys(found))

    def _sweep(self, run_ids: Sequence[str], found: list[str]) -> list[tuple[str, str]]:
        """Remove once what there is. Returns what resists, each with the reason."""
        there = self._of_runs(run_ids)
        found += [name for name, _ in there]
        containers = [each for each in there if each[0].startswith(_CONTAINER)]
        with ThreadPoolExecutor(4) as pool:
            resisting = [*pool.map(_removed, containers)]
        resisting += [_removed(each) for each in there if each not in containers]
        return [each for each in resisting if each is not None]

    def _of_runs(self, run_ids: Sequence[str]) -> list[tuple[str, Any]]:
        """All that belongs to them, each once; of a Compose project things carry both labels."""
        projects = [f"harness-{run_id}" for run_id in run_ids]
        found = {
            name: thing
            for label, wanted in ((RUN, run_ids), (COMPOSE, projects))
            for name, thing in self._listed(label)
            if _labels_on(thing)[label] in wanted
        }
        return list(found.items())

    def _listed(self, label: str) -> list[tuple[str, Any]]:
        """All that carries a label, each with its kind and name."""
        filters = {"label": label}
        kinds: Mapping[str, Callable[[], list[Any]]] = {
            "container": lambda: self._client.containers.list(
                all=True, filters=filters, sparse=True
            ),
            "network": lambda: self._client.networks.list(filters=filters),
            "volume": lambda: self._client.volumes.list(filters=filters),
        }
        return [(f"{kind} {_name_of(thing)}", thing) for kind in kinds for thing in kinds[kind]()]


def _removed(each: tuple[str, Any]) -> tuple[str, str] | None:
    """Remove one thing. Returns its name and the reason, where it resists."""
    name, thing = each
    try:
        if name.startswith(_CONTAINER):
            remove(thing)
        else:
            with contextlib.suppress(docker.errors.NotFound):
                thing.remove()
    except docker.errors.APIError as error:
        return name, str(error.explanation or error)
    except requests.exceptions.RequestException as error:
        # Of the others each is tried all the same.
        return name, str(error)
    return None


def _name_of(thing: Any) -> str:
    # A list of containers is short on each: names are all it has.
    names = thing.attrs.get("Names")
    return str(names[0]).lstrip("/") if names else str(thing.name)


def _labels_on(thing: Any) -> dict[str, str]:
    return dict(thing.attrs.get("Labels") or {})
