"""
What is said on top of the user's Compose file, so that its project can be had many times at
once and leaves nothing: values, without I/O.

Rule: what the project has and others may have, too (a name, a port), each environment has for
itself. What it calls external is somebody else's and stays as it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any, Final

from harness.daemons.base import Limits
from harness.environment.cgroup import CPU_PERIOD_US

__all__ = ["EDGE", "Plan", "Tagged", "as_yaml", "limits_of", "override", "undetermined"]

EDGE: Final = "ws-harness"
"""What the network is called in there on which the daemon meets its clients."""

_USUAL: Final = Limits()


@dataclass(frozen=True)
class Tagged:
    """A value that Compose does not merge: "!reset" takes away, "!override" replaces."""

    tag: str
    value: Any


_NONE: Final = Tagged("!reset", None)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """
    What becomes of a project.

    Attributes:
        project: Its name, which nobody else has.
        service: Which service of it is the daemon.
        labels: What everything carries that is made.
        network: The network on which the daemon meets its clients; it is there already.
        address: The daemon's address on it.
        published: Where a port of the daemon stands outside, in Compose's words; None: nowhere.
        limits: The daemon's limits.
        variable: An environment variable that the daemon gets from Compose's own; None: none.
        built: What the names of images begin with that have none of their own.
    """

    project: str
    service: str
    labels: Mapping[str, str]
    network: str
    address: str
    published: str | None = None
    limits: Limits = _USUAL
    variable: str | None = None
    built: str


def undetermined(told: Mapping[str, Any], service: str) -> list[str]:
    """The networks of a service that the project names no addresses for: the engine chooses."""
    networks = told.get("networks") or {}
    return [
        key
        for key in told["services"][service].get("networks") or {}
        if not (its := networks.get(key) or {}).get("external")
        and its.get("driver", "bridge") == "bridge"
        and not (its.get("ipam") or {}).get("config")
    ]


def override(told: Mapping[str, Any], plan: Plan, subnets: Iterator[IPv4Network]) -> dict[str, Any]:
    """
    The override of a project.

    Args:
        told: What `docker compose config` says of it.
        plan: What becomes of it.
        subnets: What may be free. The networks of the daemon get them: only where addresses
            are the project's choice can it have its own again after it was cut off.
    """
    chosen = dict(zip(undetermined(told, plan.service), subnets, strict=False))
    networks: dict[str, Any] = {EDGE: {"name": plan.network, "external": True}}
    for key in _own(told, "networks"):
        networks[key] = {"name": f"{plan.project}_{key}", "labels": dict(plan.labels)}
        if key in chosen:
            networks[key]["ipam"] = {"config": [{"subnet": str(chosen[key])}]}
    volumes = {
        key: {"name": f"{plan.project}_{key}", "labels": dict(plan.labels)}
        for key in _own(told, "volumes")
    }
    services = {name: _service(name, its, plan) for name, its in told["services"].items()}
    return {"services": services, "networks": networks, "volumes": volumes}


def _own(told: Mapping[str, Any], kind: str) -> list[str]:
    """What the project makes itself."""
    return [key for key, its in (told.get(kind) or {}).items() if not (its or {}).get("external")]


def _service(name: str, its: Mapping[str, Any], plan: Plan) -> dict[str, Any]:
    found: dict[str, Any] = {"labels": dict(plan.labels), "ports": Tagged("!reset", [])}
    if "container_name" in its:
        found["container_name"] = _NONE
    if "build" in its and "image" not in its:
        # Else each environment would leave an image of its own.
        found["image"] = f"{plan.built}-{name}"
    if name != plan.service:
        # The daemon's are its own: a tight one is meant for nobody else.
        return found | limits_of(its, _USUAL)
    # Those that it has are named, too: the usual one goes where any is.
    found["networks"] = {key: {} for key in its.get("networks") or {}}
    found["networks"][EDGE] = {"ipv4_address": plan.address}
    if plan.published is not None:
        found["ports"] = Tagged("!override", [plan.published])
    if plan.variable is not None:
        # By its name alone: Compose takes the value from its own environment.
        found["environment"] = [plan.variable]
    return found | limits_of(its, plan.limits)


def limits_of(its: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
    """Limits of a service, in Compose's words; where the project has some, those."""
    deploy = its.get("deploy") or {}
    own = {**((deploy.get("resources") or {}).get("limits") or {}), **its}
    found: dict[str, Any] = {}
    memory = int(own.get("mem_limit", own.get("memory", limits.memory_bytes or 0)))
    if memory and not own.keys() & {"mem_limit", "memory"}:
        found["mem_limit"] = memory
    if memory and "memswap_limit" not in own:
        # No swap on top: a limit that can be exceeded by a factor is none.
        found["memswap_limit"] = memory
    cpus = float(own.get("cpus", limits.cpus or 0))
    if cpus and "cpu_quota" not in own:
        # Not as `cpus`: an engine refuses to change those of a container that runs.
        found |= {"cpu_period": CPU_PERIOD_US, "cpu_quota": int(cpus * CPU_PERIOD_US)}
        if "cpus" in its:
            found["cpus"] = _NONE
        elif "cpus" in own:
            found["deploy"] = {"resources": {"limits": {"cpus": _NONE}}}
    if limits.processes is not None and not own.keys() & {"pids", "pids_limit"}:
        found["pids_limit"] = limits.processes
    if limits.descriptors is not None and "nofile" not in (own.get("ulimits") or {}):
        found["ulimits"] = {"nofile": limits.descriptors}
    return found


def as_yaml(value: Any) -> str:
    """In the words of JSON, which YAML understands, but for tags."""
    if isinstance(value, Tagged):
        return f"{value.tag} {as_yaml(value.value)}"
    if isinstance(value, Mapping):
        rows = (f"{as_yaml(key)}: {as_yaml(each)}" for key, each in value.items())
        return f"{{{', '.join(rows)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(as_yaml, value))}]"
    return json.dumps(value, ensure_ascii=False)
