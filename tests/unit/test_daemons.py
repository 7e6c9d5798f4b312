"""What daemons tell about themselves, and what they refuse to be told."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from harness.address import Address
from harness.daemons.base import Daemon
from harness.daemons.command import Command
from harness.daemons.reference import Reference
from harness.daemons.running import Running, split_url
from harness.dialects.exai import Exai
from harness.dialects.plain import Plain
from harness.errors import InvalidValue
from harness.registry import catalogue

TOKEN = "right-4711"
WHERE: Any = {"host": "127.0.0.1", "port": 8079, "effects": "effects.jsonl"}


@dataclass(frozen=True, kw_only=True)
class Made(Daemon):
    """A daemon of nobody's."""

    type: ClassVar[str] = "made"

    def command(self, *, host: str, port: int, effects: str) -> list[str]:
        return []


def complaints(kind: type[Daemon], **values: Any) -> tuple[tuple[str, str], ...]:
    with pytest.raises(InvalidValue) as caught:
        kind(**values)
    return caught.value.details


def test_the_catalogue_has_four_daemons():
    """
    One file each, by the file's name, which is the daemon's type.
    """
    daemons = catalogue("harness.daemons", Daemon)

    assert list(daemons) == ["command", "container", "reference", "running"]
    assert all(daemon.type == name for name, daemon in daemons.items())


@pytest.mark.parametrize(
    ("values", "address", "url"),
    [
        ({}, Address("127.0.0.1", 80), "ws://127.0.0.1:80/"),
        ({"path": "/mcp?v=2"}, Address("::1", 80), "ws://[::1]:80/mcp?v=2"),
        ({"tls": True}, Address("localhost", 443), "wss://localhost:443/"),
    ],
)
def test_a_daemons_url_is_made_of_scheme_address_and_path(
    values: dict[str, Any], address: Address, url: str
):
    """
    The address is given, since a proxy has another one than the daemon behind it.
    """
    assert Made(**values).url(address) == url


def test_headers_are_sent_with_the_token_filled_in():
    """
    The daemon keeps the headers as they were written; only what is sent has the token.
    """
    daemon = Made(headers={"Authorization": "Bearer {token}", "X-Kind": "{kind}"}, token=TOKEN)

    assert daemon.sent_headers() == {"Authorization": f"Bearer {TOKEN}", "X-Kind": "{kind}"}
    assert daemon.headers["Authorization"] == "Bearer {token}"


@pytest.mark.parametrize(
    ("token", "variable", "variables"),
    [
        (TOKEN, "TOKEN", {"A": "1", "TOKEN": TOKEN}),
        (None, "TOKEN", {"A": "1", "TOKEN": ""}),
        (TOKEN, None, {"A": "1"}),
    ],
)
def test_the_token_reaches_the_process_by_its_variable(
    token: str | None, variable: str | None, variables: dict[str, str]
):
    """
    Without a token the variable is emptied, without a variable's name there is none.
    """
    daemon = Made(environment={"A": "1"}, token=token, token_variable=variable)

    assert daemon.variables(**WHERE) == variables


def test_a_repr_shows_nothing_that_may_be_secret():
    """
    Headers and environment may hold secrets beside the token, so they are left out as well.
    """
    shown = repr(
        Command(
            template=("serve", "{port}"),
            token=TOKEN,
            headers={"X-Key": f"key-{TOKEN}"},
            environment={"KEY": f"env-{TOKEN}"},
        )
    )

    assert TOKEN not in shown
    assert "serve" in shown


@pytest.mark.parametrize(
    ("values", "field", "text"),
    [
        ({"path": ""}, "path", '"" is not allowed; a path begins with "/"'),
        ({"path": "mcp"}, "path", '"mcp" is not allowed'),
        ({"path": "/a b"}, "path", "percent-encoded where it must be"),
        ({"path": "/#top"}, "path", 'has no "#"'),
        ({"headers": {"X Y": "1"}}, "headers.X Y", "is no name of a header"),
        ({"headers": {"X": "a\r\nY: b"}}, "headers.X", "cannot stand in a header"),
        ({"headers": {"X": "{token}"}}, "headers.X", "wants a token, and none is given"),
        (
            {"headers": {"X": "{token}"}, "token": "a\n"},
            "headers.X",
            "a line break, or the like, cannot stand in a header",
        ),
        ({"subprotocols": ("mcp", "a,b")}, "subprotocols", '"a,b" is no name of a subprotocol'),
        ({"environment": {"A=B": "1"}}, "environment.A=B", 'a name has no "="'),
        ({"environment": {"A": "\0"}}, "environment.A", "a NUL"),
        ({"environment": {"EXAI_WS_TOKEN": "1"}}, "environment.EXAI_WS_TOKEN", "is the token's"),
        ({"token_variable": ""}, "token_variable", "is no name of an environment variable"),
        ({"start_timeout_s": 0}, "start_timeout_s", "0 is not allowed; seconds, more than 0 and"),
        ({"start_timeout_s": float("nan")}, "start_timeout_s", "nan is not allowed"),
        ({"start_timeout_s": float("inf")}, "start_timeout_s", "inf is not allowed"),
        ({"start_timeout_s": -(10**400)}, "start_timeout_s", "0 is not allowed; seconds"),
        ({"start_timeout_s": 86_401}, "start_timeout_s", "and at most a day"),
        ({"promises": ("exactly once",)}, "promises", '"exactly once" is not allowed; letters'),
        ({"ca_file": Path("ca.pem")}, "ca_file", "means nothing without TLS"),
    ],
)
def test_a_value_out_of_range_is_refused(values: dict[str, Any], field: str, text: str):
    """
    The complaint names the field and what is expected of it.
    """
    [(where, why)] = complaints(Made, **values)

    assert where == field
    assert text in why


def test_all_complaints_come_at_once():
    """
    One error has a row for each.
    """
    with pytest.raises(InvalidValue, match="made: 3 problems") as caught:
        Made(path="mcp", start_timeout_s=-1, promises=("a", "b c"))

    assert [field for field, _ in caught.value.details] == ["path", "start_timeout_s", "promises"]


def test_a_complaint_repeats_no_secret():
    """
    Queries, headers, tokens and variables may be one; complaints say where, and not what.
    """
    rows = complaints(
        Made,
        path=f"/a b?token={TOKEN}",
        headers={"X": f"{TOKEN}\n", "Y": "{token}\n"},
        environment={"A": f"{TOKEN}\0"},
        token=TOKEN,
    )

    assert len(rows) == 4
    assert TOKEN not in str(rows)


def test_a_command_is_its_template_filled_in():
    """
    What stands in braces and is none of the four stays, JSON around a placeholder included.
    """
    daemon = Command(
        template=("{python}", "serve.py", '{"port": {port}, "a": {}}', "{host}:{effects}", "{b}")
    )

    assert daemon.command(**WHERE) == [
        sys.executable,
        "serve.py",
        '{"port": 8079, "a": {}}',
        "127.0.0.1:effects.jsonl",
        "{b}",
    ]


def test_a_shells_own_variables_are_left_to_the_shell():
    """
    ${port} is a variable of the shell that the command may be.
    """
    daemon = Command(template=("sh", "-c", "port={port}; exec serve ${port}"))

    assert daemon.command(**WHERE)[2] == "port=8079; exec serve ${port}"


def test_what_was_filled_in_is_not_filled_in_again():
    """
    A path with braces of its own stays as it is.
    """
    daemon = Command(template=("serve", "{effects}", "{port}"))

    command = daemon.command(host="h", port=1, effects="runs/{port}")

    assert command == ["serve", "runs/{port}", "1"]


def test_an_environment_is_filled_in_too():
    """
    A daemon that reads its port from a variable needs no port in its command.
    """
    daemon = Command(
        template=("serve",),
        environment={"PORT": "{port}", "LOG": "{effects}"},
        token=TOKEN,
        token_variable="KEY",
    )

    assert daemon.variables(**WHERE) == {"PORT": "8079", "LOG": "effects.jsonl", "KEY": TOKEN}


def test_a_token_with_braces_is_not_filled_in():
    """
    It is a secret, and no template.
    """
    daemon = Command(template=("serve", "{port}"), token="{port}", token_variable="KEY")

    assert daemon.variables(**WHERE) == {"KEY": "{port}"}


def test_a_commands_process_gets_no_token_variable_unless_it_has_a_name():
    """
    The reference daemon's name for it means nothing to a stranger's daemon.
    """
    assert Command(template=("serve", "{port}"), token=TOKEN).variables(**WHERE) == {}


@pytest.mark.parametrize(
    ("values", "field", "text"),
    [
        ({"template": ()}, "template", "is empty; expected a program and its arguments"),
        ({"template": ("", "{port}")}, "template", "is empty; expected a program"),
        ({"template": ("serve",)}, "template", "{port} is neither here nor in environment"),
        ({"template": ("serve", "${port}")}, "template", "{port} is neither here nor"),
        ({"template": ("serve", "{port}\0")}, "template", "a NUL cannot stand in a command"),
        ({"template": ("serve", "{port}", "{token}")}, "template", "{token} is for headers"),
        (
            {"template": ("serve", "{port}"), "environment": {"KEY": "{token}"}},
            "environment.KEY",
            "{token} is for headers; the process gets it by the variable token_variable",
        ),
    ],
)
def test_a_command_that_cannot_work_is_refused(values: dict[str, Any], field: str, text: str):
    """
    A daemon that does not know its port is waited for in vain.
    """
    [(where, why)] = complaints(Command, **values)

    assert where == field
    assert text in why


@pytest.mark.parametrize(
    ("url", "address", "tls", "path"),
    [
        ("ws://localhost:8079", Address("localhost", 8079), False, "/"),
        ("ws://localhost:8079/", Address("localhost", 8079), False, "/"),
        ("wss://[::1]/mcp?v=2", Address("::1", 443), True, "/mcp?v=2"),
        ("WSS://localhost/mcp", Address("localhost", 443), True, "/mcp"),
        ("ws://localhost?v=/2@3", Address("localhost", 80), False, "/?v=/2@3"),
        ("ws://localhost/@me", Address("localhost", 80), False, "/@me"),
    ],
)
def test_a_running_daemon_is_made_from_its_url(url: str, address: Address, tls: bool, path: str):
    """
    Scheme, address and path are told apart; the query belongs to the path.
    """
    daemon = Running.at(url)

    assert (daemon.address, daemon.tls, daemon.path) == (address, tls, path)


def test_a_running_daemon_takes_what_its_clients_need():
    """
    All that is about the wire can be given with the URL.
    """
    daemon = Running.at(
        "wss://db.example/mcp",
        dialect=Plain(),
        headers={"X": "{token}"},
        subprotocols=("mcp",),
        token=TOKEN,
        promises=("durable",),
        ca_file=Path("ca.pem"),
        allow_remote=True,
    )

    assert isinstance(daemon.dialect, Plain)
    assert daemon.sent_headers() == {"X": TOKEN}
    assert (daemon.subprotocols, daemon.promises) == (("mcp",), ("durable",))
    assert (daemon.ca_file, daemon.allow_remote) == (Path("ca.pem"), True)


def test_a_running_daemon_speaks_the_op_dialect_unless_told_otherwise():
    """
    It is the default of every daemon.
    """
    assert isinstance(Running.at("ws://localhost").dialect, Exai)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("localhost:8079", "expected ws://host:port or wss://host:port"),
        ("http://localhost:8079", "expected ws://host:port or wss://host:port"),
        ("ws://", "expected ws://host:port or wss://host:port"),
        ("ws://localhost:x", "expected ws://host:port or wss://host:port"),
        ("ws://localhost:0", "nothing listens on port 0; expected 1 to 65535"),
        ("ws://localhost/#top", 'has no "#"'),
        ("ws://localhost#top", 'has no "#"'),
        (f"ws://me:{TOKEN}@localhost:80/", "a user or password has no place in an address"),
        (f"ws://localhost:x/?token={TOKEN}", "expected ws://host:port or wss://host:port"),
    ],
)
def test_what_is_no_daemons_url_is_refused(url: str, text: str):
    """
    The complaint repeats neither a password nor a query.
    """
    with pytest.raises(InvalidValue) as caught:
        Running.at(url)

    assert text in str(caught.value)
    assert TOKEN not in str(caught.value)


def test_a_urls_path_is_empty_where_it_has_none():
    """
    So that a path from elsewhere can take its place.
    """
    assert split_url("ws://localhost:1")[2] == ""
    assert split_url("ws://localhost:1/")[2] == "/"


def test_a_running_daemon_cannot_be_started():
    """
    It is somebody else's, and the error says what to give instead.
    """
    with pytest.raises(InvalidValue) as caught:
        Running.at("ws://localhost:8079/mcp").command(**WHERE)

    assert "the daemon at localhost:8079 is somebody else's" in str(caught.value)
    assert "give the command that starts it" in str(caught.value)


def test_a_running_daemon_wants_an_address():
    """
    The default of other daemons, None, is no default here.
    """
    with pytest.raises(TypeError, match="address"):
        Running()  # type: ignore[call-arg]


def test_a_changed_daemon_is_checked_again():
    """
    A copy with other values is a daemon like any other.
    """
    daemon = replace(Running.at("ws://localhost"), allow_remote=True)

    assert daemon.allow_remote
    with pytest.raises(InvalidValue, match="reference: 1 problem"):
        replace(Reference(), path="nowhere")
