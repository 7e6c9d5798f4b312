"""`harness doctor`: each thing is tried, told with its remedy, and nothing is changed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import docker
import pytest

from harness.clock import fresh_id
from harness.environment.containers import OWNER, RUN
from harness.environment.owner import own_name
from tests.backends import in_containers
from tests.integration.programs import output_of

BOUND_S = 60
DEAD = f"{own_name().rpartition('_')[0]}_1"
UNKNOWN = "Error: Specified qdisc kind is unknown."
PARTS = ("kernel: netem", "kernel: tbf", "kernel: iptables", "kernel: ss -K")


def doctor(*words: str, **variables: str) -> str:
    command = (sys.executable, "-m", "harness", "doctor", *words)
    return output_of(*command, within_s=BOUND_S, variables=variables)


def findings(**variables: str) -> dict[str, dict]:
    return {
        each["what"]: each for each in map(json.loads, doctor("--json", **variables).splitlines())
    }


@pytest.fixture
def machine(tmp_path: Path) -> dict[str, str]:
    """A machine with what a namespace takes, of a kernel with tbf and iptables alone."""
    programs = {
        "unshare": 'shift; exec "$@"',
        "ip": "",
        "tc": f'case "$*" in *netem*) echo "{UNKNOWN}" >&2; exit 2;; esac',
        "iptables": "",
        "ss": "",
    }
    for name, script in programs.items():
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    return {
        "PATH": f"{tmp_path}:/usr/bin:/bin",
        "DOCKER_HOST": f"unix://{tmp_path}/nobody.sock",
    }


def test_each_part_of_the_kernel_is_tried(machine: dict[str, str]):
    """What does nothing is no proof: a connection that was to be killed lives on."""
    told = findings(**machine)

    assert {part: told[part]["good"] for part in PARTS} == {
        "kernel: netem": False,
        "kernel: tbf": True,
        "kernel: iptables": True,
        "kernel: ss -K": False,
    }
    assert told["kernel: netem"]["found"] == UNKNOWN
    assert "sch_netem" in told["kernel: netem"]["remedy"]
    assert told["kernel: ss -K"]["found"] == "the connection lives on"
    assert "CONFIG_INET_DIAG_DESTROY" in told["kernel: ss -K"]["remedy"]


def test_without_namespaces_no_part_of_the_kernel_is(machine: dict[str, str], tmp_path: Path):
    """They would be tried on the machine itself."""
    (tmp_path / "unshare").write_text(
        "#!/bin/sh\necho 'unshare: Operation not permitted' >&2; exit 1\n"
    )
    told = findings(**machine)

    assert told["network namespaces"]["found"] == "unshare: Operation not permitted"
    assert {told[part]["found"] for part in PARTS} == {"without network namespaces"}


@in_containers
def test_the_path_has_a_line_for_each_leg():
    """Under its name, aligned; one screen holds all of it."""
    lines = doctor().splitlines()

    first = next(at for at, line in enumerate(lines) if "backend docker" in line)
    column = lines[first].index("path ")
    assert lines[first + 1][column:].startswith("client to toxiproxy: ")
    assert not lines[first + 1][:column].strip()
    assert lines[first + 2][column:].startswith("toxiproxy to ")
    assert len(lines) <= 30


@in_containers
@pytest.mark.whole_machine
def test_nothing_is_changed():
    """Not even what a dead run left on the engine, which others sweep."""
    client, name = docker.from_env(), f"test-dead-{fresh_id()}"
    left = client.volumes.create(name, labels={RUN: name, OWNER: DEAD})
    try:
        doctor()

        assert client.volumes.get(name).name == name
    finally:
        left.remove(force=True)
        client.close()
