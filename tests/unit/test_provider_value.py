"""What stands behind a daemon, as a value: what it is told, and what cannot be."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.address import Address
from harness.daemons.base import Container, Provider
from harness.daemons.command import Command
from harness.daemons.container import Containerized
from harness.daemons.reference import IMAGE, Reference, own_provider
from harness.daemons.running import Running
from harness.errors import InvalidValue

WHERE: Any = {"host": "127.0.0.1", "port": 8090, "executions": "executions.jsonl"}
DAEMONS: Any = {"host": "127.0.0.1", "port": 8079, "effects": "effects.jsonl"}
FOUND = Address("127.0.0.1", 4711)
ASKS = ("serve", "{port}", "--model", "http://{provider}/v1")
SOME = Provider(template=("model", "{port}"))
INSIDE = Container(image="some", port=1, command=("serve", "{provider}"))


def complaints(kind: Any, **values: Any) -> tuple[tuple[str, str], ...]:
    with pytest.raises(InvalidValue) as caught:
        kind(**values)
    return caught.value.details


def test_its_command_and_environment_are_filled_in():
    """
    What stands in braces and is none of the four stays, and a shell's own variables do.
    """
    provider = Provider(
        template=("{python}", "model.py", '{"at": "{host}"}', "${port}", "{effects}"),
        environment={"PORT": "{port}", "LOG": "{executions}"},
    )

    assert provider.command(**WHERE) == [
        *(sys.executable, "model.py", '{"at": "127.0.0.1"}', "${port}", "{effects}"),
    ]
    assert provider.variables(**WHERE) == {"PORT": "8090", "LOG": "executions.jsonl"}


def test_its_container_is_told_where_to_listen_in_there():
    """
    On all of its addresses, which nobody else has.
    """
    container = Container(
        image="model",
        port=90,
        command=("{host}:{port}", "{executions}"),
        environment={"A": "{port}"},
    )
    provider = Provider(container=container)

    assert provider.container_command(executions="/x") == ["0.0.0.0:90", "/x"]
    assert provider.container_variables(executions="/x") == {"A": "90"}
    assert (
        replace(provider, container=replace(container, command=None)).container_command(
            executions="/x"
        )
        is None
    )


def test_one_that_has_a_container_only_is_not_started_here():
    """
    The error says which backend can.
    """
    with pytest.raises(InvalidValue, match="runs in a container only"):
        Provider(container=INSIDE).command(**WHERE)


@pytest.mark.parametrize(
    ("values", "field", "text"),
    [
        ({}, "template", "is empty; expected a program and its arguments"),
        ({"template": ("", "{port}")}, "template", "is empty"),
        ({"template": ("model",)}, "template", "{port} is neither here nor in environment"),
        ({"template": ("model", "${port}")}, "template", "{port} is neither here nor"),
        ({"template": ("model", "{port}\0")}, "template", "a NUL cannot stand in a command"),
        ({"environment": {"A=B": "1"}}, "environment.A=B", 'a name has no "="'),
        ({"environment": {"A": "\0"}}, "environment.A", "a NUL"),
        ({"start_timeout_s": 0}, "start_timeout_s", "0 is not allowed; seconds"),
        ({"start_timeout_s": float("nan")}, "start_timeout_s", "nan is not allowed"),
        ({"start_timeout_s": 86_401}, "start_timeout_s", "at most a day"),
        ({"ready_path": "health"}, "ready_path", '"health" is not allowed; a path begins with'),
        ({"ready_path": "/a b"}, "ready_path", "percent-encoded"),
        (
            {"container": Container(compose=Path("c.yaml"), service="s", port=1)},
            "container",
            "is a Compose project",
        ),
    ],
)
def test_a_value_out_of_range_is_refused(values: dict[str, Any], field: str, text: str):
    """
    The complaint names the field and what is expected of it.
    """
    usual = {} if not values else {"template": ("model", "{port}")}
    [(where, why)] = complaints(Provider, **{**usual, **values})

    assert where == field
    assert text in why


def test_all_complaints_come_at_once():
    """
    One error has a row for each.
    """
    rows = complaints(Provider, template=("model",), start_timeout_s=-1, ready_path="x")

    assert [field for field, _ in rows] == ["template", "start_timeout_s", "ready_path"]


def test_a_repr_shows_no_environment():
    """
    It may hold secrets.
    """
    shown = repr(Provider(template=("model", "{port}"), environment={"KEY": "right-4711"}))

    assert "right-4711" not in shown


def test_a_command_is_told_where_its_provider_is():
    """
    In its arguments and in its environment, once that is known.
    """
    daemon = Command(template=ASKS, environment={"MODEL": "{provider}"}, provider=SOME)

    told = daemon.finding(FOUND)

    assert told.command(**DAEMONS) == ["serve", "8079", "--model", "http://127.0.0.1:4711/v1"]
    assert told.variables(**DAEMONS) == {"MODEL": "127.0.0.1:4711"}
    # The value that everybody has is as it was: daemons that are equal may be shared.
    assert daemon.provider is not None
    assert daemon.provider.at is None


def test_a_daemons_container_is_told_where_its_provider_is():
    """
    At the address that it is found at from in there.
    """
    container = replace(INSIDE, environment={"MODEL": "http://{provider}", "SHELL": "${provider}"})
    daemon = Containerized(container=container, provider=SOME).finding(Address("10.0.0.1", 5))

    assert daemon.container_command(effects="/x") == ["serve", "10.0.0.1:5"]
    assert daemon.container_variables(effects="/x") == {
        "MODEL": "http://10.0.0.1:5",
        "SHELL": "${provider}",
    }


def test_the_reference_daemon_is_told_by_an_option():
    """
    Both ways of starting it; without a provider there is no such option.
    """
    daemon = Reference(provider=own_provider()).finding(FOUND)

    words = " ".join(daemon.command(**DAEMONS))
    inside = " ".join(daemon.container_command(effects="/x") or ())
    assert "--provider http://127.0.0.1:4711" in words
    assert "--provider http://127.0.0.1:4711" in inside
    assert "--provider" not in " ".join(Reference().command(**DAEMONS))


def test_our_own_provider_is_told_the_same_in_a_container():
    """
    It is in the image of our programs; options come last.
    """
    provider = own_provider("--delay-ms", "5")

    assert provider.container is not None
    assert provider.container.image == IMAGE
    command = provider.command(**WHERE)
    inside = provider.container_command(executions="/x")
    assert command[1:4] == ["-P", "-m", "harness.refdaemon.provider"]
    assert inside is not None
    assert inside[1:4] == command[1:4]
    assert (command[-2:], inside[-2:]) == (["--delay-ms", "5"], ["--delay-ms", "5"])
    assert {"--port", "8090", "--executions", "executions.jsonl"} <= set(command)
    assert "--allow-remote" in inside


@pytest.mark.parametrize(
    ("kind", "values", "field", "text"),
    [
        (Command, {"template": ASKS}, "template", "stands for where its provider is, and none is"),
        (
            Command,
            {"template": ("s", "{port}"), "environment": {"A": "{provider}"}},
            "environment.A",
            "stands for where its provider is, and none is given",
        ),
        (
            Command,
            {"template": ("serve", "{port}"), "provider": SOME},
            "template",
            "the daemon would not know where its provider is",
        ),
        (
            Command,
            {"template": ASKS, "provider": SOME, "container": Container(image="some", port=1)},
            "container.command",
            "{provider} is neither here nor in environment",
        ),
        (Containerized, {"container": INSIDE}, "container.command", "and none is given"),
        (
            Containerized,
            {"container": Container(compose=Path("c.yaml"), service="s", port=1), "provider": SOME},
            "provider",
            "is for a daemon without a Compose project",
        ),
        (
            Running,
            {"address": Address("localhost", 1), "provider": SOME},
            "provider",
            "is for a daemon that is started here",
        ),
    ],
)
def test_a_daemon_and_its_provider_must_fit(
    kind: Any, values: dict[str, Any], field: str, text: str
):
    """
    Else it would call nobody, and no test would say why.
    """
    [(where, why)] = complaints(kind, **values)

    assert where == field
    assert text in why
