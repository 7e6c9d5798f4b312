"""Daemons from tables, and all that can be wrong with them."""

from __future__ import annotations

import operator
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.address import Address
from harness.daemons.base import Daemon
from harness.daemons.command import Command
from harness.daemons.running import Running
from harness.dialects.exai import Exai
from harness.dialects.plain import Plain
from harness.errors import InvalidValue
from tests.unit.project.tables import SERVE, THERE, TOKEN, WHERE, daemon_of, refused

_TEXTS = st.sampled_from(
    [
        *("", "\0", "\u00e9", "'", "=", "/", "mcp", "a b", "exai", "a.b", "a:b:c", "PATH", "EMPTY"),
        *("{port}", "{token}", "{python} {port}", "ws://", "ws://[::1]:80", "ws://h:0/x#y"),
        *("wss://a@b", "ws://h?x"),
    ]
)
_VALUES = st.recursive(
    st.booleans() | st.integers() | st.just(-(10**400)) | st.floats() | st.dates() | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=6,
)
_KEYS = st.sampled_from(
    [
        *("command", "address", "dialect", "path", "headers", "subprotocols", "token_from"),
        *("promises", "ca_file", "allow_remote", "token_variable", "environment", "directory"),
        *("start_timeout_s", "tls", "token", "comand", "", "provider"),
    ]
)
_TABLES = st.builds(
    operator.or_,
    st.sampled_from([{}, SERVE, THERE]),
    st.dictionaries(_KEYS, _VALUES, max_size=3),
)


@pytest.mark.parametrize(
    "command",
    ["{python} 'my server.py' --port {port}", ["{python}", "my server.py", "--port", "{port}"]],
)
def test_a_command_is_a_list_or_split_as_a_shell_would(tmp_path: Path, command: Any):
    """
    Quotes keep words together, and no shell is needed for it.
    """
    daemon = daemon_of(tmp_path, {"command": command})

    assert isinstance(daemon, Command)
    assert daemon.command(**WHERE) == [sys.executable, "my server.py", "--port", "8079"]


def test_every_key_of_a_command_reaches_the_daemon(tmp_path: Path):
    """
    Paths are relative to the folder of the table.
    """
    (tmp_path / "server").mkdir()
    (tmp_path / "ca.pem").touch()

    daemon = daemon_of(
        tmp_path,
        {
            "command": "{python} serve.py",
            "dialect": "plain",
            "path": "/mcp",
            "headers": {"Authorization": "Bearer {token}"},
            "subprotocols": ["mcp"],
            "token_from": "MY_TOKEN",
            "token_variable": "KEY",
            "promises": ["durable"],
            "environment": {"PORT": "{port}"},
            "directory": "server",
            "start_timeout_s": 5,
            "tls": True,
            "ca_file": "ca.pem",
            "allow_remote": True,
        },
    )

    assert isinstance(daemon.dialect, Plain)
    assert daemon.url(Address("localhost", 1)) == "wss://localhost:1/mcp"
    assert daemon.sent_headers() == {"Authorization": f"Bearer {TOKEN}"}
    assert (daemon.subprotocols, daemon.promises) == (("mcp",), ("durable",))
    assert daemon.variables(**WHERE) == {"PORT": "8079", "KEY": TOKEN}
    assert (daemon.directory, daemon.ca_file) == (tmp_path / "server", tmp_path / "ca.pem")
    assert (daemon.start_timeout_s, daemon.allow_remote) == (5, True)


def test_what_a_table_leaves_out_has_its_default(tmp_path: Path):
    """
    The op dialect, the path "/", no token, and the folder of the table to run in.
    """
    daemon = daemon_of(tmp_path, SERVE)

    assert isinstance(daemon.dialect, Exai)
    assert (daemon.path, daemon.token, daemon.address) == ("/", None, None)
    assert daemon.directory == tmp_path
    assert daemon.variables(**WHERE) == {}


def test_a_daemon_gets_its_token_by_the_name_it_was_read_from(tmp_path: Path):
    """
    Unless token_variable says another.
    """
    daemon = daemon_of(tmp_path, {**SERVE, "token_from": "MY_TOKEN"})

    assert daemon.variables(**WHERE) == {"MY_TOKEN": TOKEN}


@pytest.mark.parametrize(
    ("table", "tls", "path"),
    [
        ({"address": "ws://localhost:8079"}, False, "/"),
        ({"address": "ws://localhost:8079/mcp"}, False, "/mcp"),
        ({"address": "wss://localhost:8079/", "path": "/mcp"}, True, "/mcp"),
    ],
)
def test_a_daemon_that_runs_is_given_by_its_address(
    tmp_path: Path, table: dict[str, Any], tls: bool, path: str
):
    """
    The scheme says whether there is TLS; the path may stand in the address or beside it.
    """
    daemon = daemon_of(tmp_path, {**table, "token_from": "MY_TOKEN"})

    assert isinstance(daemon, Running)
    assert (daemon.address, daemon.tls, daemon.path) == (Address("localhost", 8079), tls, path)
    assert daemon.token == TOKEN


@pytest.mark.parametrize(
    ("table", "key", "text"),
    [
        ({}, "daemon", "wants a command that starts it, a container, or an address"),
        ({**SERVE, **THERE}, "daemon.address", "stands beside command; expected one of the two"),
        ({"comand": "serve"}, "daemon.comand", "unknown key; daemon takes command, address"),
        ({"comand": "serve"}, "daemon.comand", 'did you mean "command"?'),
        ({**SERVE, "isolation": "x"}, "daemon.isolation", "unknown key; daemon takes command"),
        ({**SERVE, "token": TOKEN}, "daemon.token", "a token has no place in a file"),
        ({**SERVE, "token": TOKEN}, "daemon.token", "the variable's name into token_from"),
        ({"command": 3}, "daemon.command", "expected text or a list of texts, found a whole"),
        ({"command": ["{python}", 3, "{port}"]}, "daemon.command[1]", "expected text, found a wh"),
        ({"command": "{python} '{port}"}, "daemon.command", "cannot be split into words: No clos"),
        ({"command": ""}, "daemon.command", "is empty; expected a program and its arguments"),
        ({"command": []}, "daemon.command", "is empty; expected a program and its arguments"),
        ({"command": "{python} x.py"}, "daemon.command", "{port} is neither here nor in environ"),
        ({"command": "nowhere-4711 {port}"}, "daemon.command", 'no program "nowhere-4711" on PATH'),
        ({"command": "./none {port}"}, "daemon.command", "there is no program "),
        ({"command": "./notes {port}"}, "daemon.command", "notes may not be executed; `chmod +x`"),
        ({"command": "serve.sh {port}"}, "daemon.command", 'write "./serve.sh"'),
        (
            {"command": "sh {port}", "environment": {"PATH": "/nowhere"}},
            "daemon.command",
            'there is no program "sh" on PATH',
        ),
        ({**SERVE, "dialect": 3}, "daemon.dialect", "expected text, found a whole number"),
        ({**SERVE, "path": ""}, "daemon.path", "is empty"),
        ({**SERVE, "path": "mcp"}, "daemon.path", '"mcp" is not allowed; a path begins with "/"'),
        ({**SERVE, "headers": "X"}, "daemon.headers", "expected a table of texts, found text"),
        ({**SERVE, "headers": {"X": 3}}, "daemon.headers.X", "expected text, found a whole number"),
        ({**SERVE, "headers": {"X": "{token}"}}, "daemon.headers.X", "wants a token, and none"),
        (
            {**SERVE, "headers": {"authorization": f"Bearer {TOKEN}"}},
            "daemon.headers.authorization",
            "has no {token}; a token has no place in a file",
        ),
        ({**SERVE, "subprotocols": "mcp"}, "daemon.subprotocols", "expected a list of texts, fou"),
        ({**SERVE, "subprotocols": ["a b"]}, "daemon.subprotocols", "is no name of a subprotocol"),
        ({**SERVE, "token_from": TOKEN}, "daemon.token_from", "no environment variable of that"),
        ({**SERVE, "token_from": "UNSET"}, "daemon.token_from", "export it before the harness"),
        ({**SERVE, "token_from": "EMPTY"}, "daemon.token_from", "variable of that name is empty"),
        ({**SERVE, "token_from": 4711}, "daemon.token_from", "expected text, found a whole number"),
        ({**SERVE, "token_variable": "A"}, "daemon.token_variable", "nothing without token_from"),
        ({**SERVE, "environment": {"A": 1}}, "daemon.environment.A", "expected text, found a whol"),
        (
            {**SERVE, "token_from": "MY_TOKEN", "environment": {"MY_TOKEN": "x"}},
            "daemon.environment.MY_TOKEN",
            "is the token's variable; its value is the token",
        ),
        ({**SERVE, "directory": "none"}, "daemon.directory", "there is no folder "),
        ({**SERVE, "directory": "notes"}, "daemon.directory", "there is no folder "),
        ({**SERVE, "start_timeout_s": "5"}, "daemon.start_timeout_s", "expected a number, found t"),
        ({**SERVE, "start_timeout_s": True}, "daemon.start_timeout_s", "found true or false"),
        ({**SERVE, "start_timeout_s": -3}, "daemon.start_timeout_s", "-3 is not allowed; seconds"),
        ({**SERVE, "promises": ["a b"]}, "daemon.promises", '"a b" is not allowed; letters, digi'),
        ({**SERVE, "promises": [1.5]}, "daemon.promises[0]", "expected text, found a number"),
        ({**SERVE, "tls": "yes"}, "daemon.tls", "expected true or false, found text"),
        ({**SERVE, "ca_file": "none"}, "daemon.ca_file", "there is no file "),
        ({**SERVE, "ca_file": "notes"}, "daemon.ca_file", "means nothing without TLS"),
        ({**SERVE, "tls": 1, "ca_file": "notes"}, "daemon.tls", "expected true or false, found"),
        ({**SERVE, "allow_remote": 1}, "daemon.allow_remote", "expected true or false, found a w"),
        ({"address": 8079}, "daemon.address", "expected text, found a whole number"),
        ({"address": "localhost:8079"}, "daemon.address", "expected ws://host:port or wss://host"),
        ({"address": "ws://localhost:0"}, "daemon.address", "nothing listens on port 0"),
        ({"address": f"ws://me:{TOKEN}@h"}, "daemon.address", "a user or password has no place"),
        ({**THERE, "ca_file": "notes"}, "daemon.ca_file", "means nothing without TLS"),
        ({**THERE, "tls": True}, "daemon.tls", "the address says it: wss:// is with TLS"),
        ({**THERE, "directory": "."}, "daemon.directory", "is for a command; what runs at an addr"),
        ({**THERE, "environment": {}}, "daemon.environment", "is for a command"),
        ({**THERE, "start_timeout_s": 3}, "daemon.start_timeout_s", "is for a command"),
        ({**THERE, "token_variable": "A"}, "daemon.token_variable", "nothing without token_from"),
        (
            {**THERE, "token_variable": "A", "token_from": "MY_TOKEN"},
            "daemon.token_variable",
            "is for a command",
        ),
        (
            {"address": "ws://localhost/mcp", "path": "/mcp"},
            "daemon.path",
            "the address has a path already; expected one of the two",
        ),
    ],
)
def test_a_mistake_in_a_table_has_one_complaint(
    tmp_path: Path, table: dict[str, Any], key: str, text: str
):
    """
    It names the key, says what was expected, follows from nothing else, and has no secret.
    """
    (tmp_path / "notes").touch()
    (tmp_path / "serve.sh").touch(mode=0o755)

    [(where, why)] = refused(tmp_path, table)

    assert where == key
    assert text in why
    assert TOKEN not in why


def test_all_mistakes_of_a_table_come_at_once(tmp_path: Path):
    """
    What the harness finds, what the daemon finds and what the file system says, in one error.
    """
    table = {
        "comand": "serve",
        "token": TOKEN,
        "dialect": "exia",
        "path": "mcp",
        "headers": {"X": 3, "Authorization": TOKEN},
        "promises": ["a b"],
        "directory": "none",
        "start_timeout_s": -3,
        "tls": "yes",
        "ca_file": "none",
    }

    with pytest.raises(InvalidValue) as caught:
        daemon_of(tmp_path, table)

    assert caught.value.headline == "pyproject.toml: 11 problems"
    assert {where for where, _ in caught.value.details} == {
        *("daemon.comand", "daemon.token", "daemon.dialect", "daemon.path", "daemon.headers.X"),
        *("daemon.headers.Authorization", "daemon.promises", "daemon.directory"),
        *("daemon.start_timeout_s", "daemon.tls", "daemon.ca_file"),
    }
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("table", [SERVE, THERE])
def test_a_daemon_from_a_table_shows_its_token_nowhere(tmp_path: Path, table: dict[str, Any]):
    """
    Neither in its repr, nor in its command.
    """
    headers = {"Authorization": "Bearer {token}"}

    daemon = daemon_of(tmp_path, {**table, "token_from": "MY_TOKEN", "headers": headers})

    assert daemon.token == TOKEN
    assert TOKEN not in repr(daemon)
    assert TOKEN not in str(daemon)


@pytest.mark.parametrize(
    ("command", "environment"),
    [("sh serve.sh {port}", {}), ("./serve.sh {port}", {}), ("serve.sh {port}", {"PATH": "{}"})],
)
def test_a_program_is_looked_for_where_its_start_would(
    tmp_path: Path, command: str, environment: dict[str, str]
):
    """
    On the PATH it will have, or from the directory it is started in.
    """
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "serve.sh").touch(mode=0o755)
    environment = {name: value.format(tmp_path / "bin") for name, value in environment.items()}

    daemon = daemon_of(
        tmp_path, {"command": command, "directory": "bin", "environment": environment}
    )

    assert daemon.command(**WHERE)[-1] == "8079"


@given(_TABLES)
def test_any_table_is_a_daemon_or_refused(table: dict[str, Any]):
    """
    Whatever TOML can hold, no other error comes of it.
    """
    try:
        found: Any = daemon_of(Path(), table)
    except InvalidValue as error:
        found = error

    assert isinstance(found, Daemon) or found.details
