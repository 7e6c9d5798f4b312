"""What is said on top of a Compose file: values, from what `docker compose config` says."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from harness.daemons.base import Container, Limits
from harness.daemons.container import Containerized
from harness.environment import compose_daemon
from harness.environment.compose_override import (
    EDGE,
    Plan,
    Tagged,
    as_yaml,
    limits_of,
    override,
    undetermined,
)
from harness.environment.household import Household

NOTHING = Limits(memory_bytes=None, cpus=None, processes=None, descriptors=None)
LABELS = {"run": "r"}
RESET = Tagged("!reset", None)


def planned(**more: Any) -> Plan:
    """For a service "echo" of a project "p", without limits."""
    usual = {"network": "ours", "address": "10.9.0.2", "built": "built:x", "limits": NOTHING}
    return Plan(project="p", service="echo", labels=LABELS, **{**usual, **more})


def overridden(told: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Of a project whose networks may have two subnets."""
    subnets = [IPv4Network("10.9.1.0/26"), IPv4Network("10.9.2.0/26")]
    return override(told, planned(**more), iter(subnets))


def test_the_daemon_stands_on_its_networks_and_on_ours():
    """Each by its name: the usual network of a project goes where another is named."""
    told = {"services": {"echo": {"networks": {"default": None, "back": {"aliases": ["e"]}}}}}

    assert overridden(told)["services"]["echo"]["networks"] == {
        "default": {},
        "back": {},
        EDGE: {"ipv4_address": "10.9.0.2"},
    }
    assert overridden(told)["networks"][EDGE] == {"name": "ours", "external": True}


def test_siblings_stand_where_they_stood():
    """And publish nothing."""
    told = {"services": {"echo": {}, "db": {"networks": {"default": None}, "ports": [1]}}}
    sibling = overridden(told)["services"]["db"]

    assert "networks" not in sibling
    assert sibling["ports"] == Tagged("!reset", [])


def test_networks_and_volumes_have_names_that_nobody_else_has():
    """Those of somebody else are not spoken of."""
    told = {
        "services": {"echo": {}},
        "networks": {"back": {"name": "mine"}, "out": {"name": "out", "external": True}},
        "volumes": {"db": {"name": "mydata"}, "far": {"external": True}, "plain": None},
    }
    said = overridden(told)

    assert said["networks"].keys() == {EDGE, "back"}
    assert said["networks"]["back"] == {"name": "p_back", "labels": LABELS}
    assert said["volumes"] == {
        "db": {"name": "p_db", "labels": LABELS},
        "plain": {"name": "p_plain", "labels": LABELS},
    }


def test_only_networks_of_the_daemon_whose_addresses_nobody_chose_get_ours():
    """Not those that have a subnet, are somebody else's, or of another kind."""
    on = ["default", "own", "out", "far", "next"]
    told = {
        "services": {"echo": {"networks": dict.fromkeys(on)}, "db": {"networks": {"apart": None}}},
        "networks": {
            "default": {"ipam": {}},
            "own": {"ipam": {"config": [{"subnet": "10.1.0.0/24"}]}},
            "out": {"external": True},
            "far": {"driver": "macvlan"},
            "next": {"driver": "bridge"},
            "apart": {},
        },
    }
    networks = overridden(told)["networks"]

    assert undetermined(told, "echo") == ["default", "next"]
    assert {key: its["ipam"] for key, its in networks.items() if "ipam" in its} == {
        "default": {"config": [{"subnet": "10.9.1.0/26"}]},
        "next": {"config": [{"subnet": "10.9.2.0/26"}]},
    }


def test_names_are_taken_away_and_images_named():
    """An image that has a name keeps it: another service may use it."""
    told = {
        "services": {
            "echo": {"container_name": "fixed", "build": {"context": "."}},
            "db": {"build": {"context": "."}, "image": "db:dev"},
        }
    }
    services = overridden(told, published="127.0.0.1:5:9000", variable="TOKEN")["services"]

    assert services["echo"]["container_name"] == RESET
    assert services["echo"]["image"] == "built:x-echo"
    assert services["echo"]["ports"] == Tagged("!override", ["127.0.0.1:5:9000"])
    assert services["echo"]["environment"] == ["TOKEN"]
    assert services["db"].keys() & {"container_name", "image", "environment"} == set()


def test_siblings_have_the_usual_limits():
    """Those of the daemon are meant for it."""
    services = overridden({"services": {"echo": {}, "db": {}}})["services"]

    assert "mem_limit" not in services["echo"]
    assert services["db"]["mem_limit"] == Limits().memory_bytes


def test_our_limits_are_said_in_composes_words():
    """CPU time as a quota, which can be changed while a container runs."""
    limits = Limits(memory_bytes=1000, cpus=1.5, processes=9, descriptors=99)

    assert limits_of({}, limits) == {
        "mem_limit": 1000,
        "memswap_limit": 1000,
        "cpu_period": 100_000,
        "cpu_quota": 150_000,
        "pids_limit": 9,
        "ulimits": {"nofile": 99},
    }
    assert limits_of({}, NOTHING) == {}


def test_limits_of_the_project_are_kept():
    """In whichever way they are given; of CPUs only the words are changed."""
    direct = {"mem_limit": "500", "cpus": 0.5, "pids_limit": 5, "ulimits": {"nofile": 50}}
    limits = {"memory": "500", "cpus": "0.5", "pids": 5}
    deployed = {"deploy": {"resources": {"limits": limits}}, "ulimits": {"nofile": 50}}
    quota = {"cpu_period": 100_000, "cpu_quota": 50_000, "memswap_limit": 500}

    assert limits_of(direct, Limits()) == {**quota, "cpus": RESET}
    assert limits_of(deployed, Limits()) == {
        **quota,
        "deploy": {"resources": {"limits": {"cpus": RESET}}},
    }
    own = {"cpu_quota": 7, "mem_limit": "500", "memswap_limit": "900"}
    assert limits_of(own, Limits()).keys() == {"pids_limit", "ulimits"}


def test_tags_stand_before_values():
    """All else is JSON, which YAML understands."""
    value = {"a b": Tagged("!reset", None), "ports": Tagged("!override", ["1:2"]), "n": [1, "ü"]}

    assert as_yaml(value) == '{"a b": !reset null, "ports": !override ["1:2"], "n": [1, "ü"]}'


@pytest.mark.parametrize(("token", "given"), [("t", {"TOKEN": "t"}), (None, {})])
def test_without_a_token_the_projects_own_counts(
    token: str | None, given: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """An empty variable would go before what stands in its `.env`."""
    told: list[Any] = []
    monkeypatch.setattr(compose_daemon, "Compose", lambda *_, **more: told.append(more))
    container = Container(compose=tmp_path / "compose.yaml", service="echo", port=9000)
    daemon = Containerized(container=container, token=token, token_variable="TOKEN")
    network: Any = None

    compose_daemon.ComposeDaemon(daemon, Household(), network)

    assert [each["variables"] for each in told] == [given]
