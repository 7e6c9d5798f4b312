"""What stands behind a daemon, from a table, and all that can be wrong with it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from harness.daemons.base import Provider
from harness.project.daemon import at_address
from tests.unit.project.tables import SERVE, THERE, daemon_of, refused

ASKS = {"command": "{python} serve.py {port} {provider}"}
WHERE: Any = {"host": "127.0.0.1", "port": 8090, "executions": "executions.jsonl"}
MODEL = {"command": "{python} model.py {port}"}
BOX = {"image": "model", "port": 1}


def provider_of(folder: Path, table: dict[str, Any]) -> Provider:
    provider = daemon_of(folder, {**ASKS, "provider": table}).provider
    assert provider is not None
    return provider


def test_every_key_reaches_the_provider(tmp_path: Path):
    """
    Paths are relative to the folder of the table.
    """
    (tmp_path / "model").mkdir()

    provider = provider_of(
        tmp_path,
        {
            "command": "{python} 'my model.py' {executions}",
            "environment": {"PORT": "{port}"},
            "directory": "model",
            "start_timeout_s": 5,
            "ready_path": "/ready?deep=1",
            "container": {"image": "model:1", "port": 90, "command": ["serve", "{executions}"]},
        },
    )

    assert provider.command(**WHERE) == [sys.executable, "my model.py", "executions.jsonl"]
    assert provider.variables(**WHERE) == {"PORT": "8090"}
    assert provider.directory == tmp_path / "model"
    assert (provider.start_timeout_s, provider.ready_path) == (5, "/ready?deep=1")
    assert provider.container is not None
    assert (provider.container.image, provider.container.port) == ("model:1", 90)


def test_what_a_table_leaves_out_has_its_default(tmp_path: Path):
    """
    The folder of the table, a GET of /health, no container.
    """
    provider = provider_of(tmp_path, MODEL)

    assert (provider.directory, provider.ready_path) == (tmp_path, "/health")
    assert (provider.start_timeout_s, provider.container) == (20, None)


def test_one_that_speaks_no_http_says_so(tmp_path: Path):
    """
    TOML has no word for nothing.
    """
    assert provider_of(tmp_path, {**MODEL, "ready_path": "none"}).ready_path is None


def test_a_container_is_enough(tmp_path: Path):
    """
    Such a provider runs on the backend docker only.
    """
    provider = provider_of(tmp_path, {"container": {"image": "model", "port": 90}})

    assert provider.template == ()


def test_a_daemon_that_runs_already_leaves_it_out(tmp_path: Path):
    """
    Whatever that one calls is somebody else's.
    """
    table = at_address({**ASKS, "provider": MODEL}, "ws://localhost:1")

    assert daemon_of(tmp_path, table).provider is None


@pytest.mark.parametrize(
    ("table", "key", "text"),
    [
        ({**SERVE, "provider": MODEL}, "daemon.command", "would not know where its provider is"),
        (ASKS, "daemon.command", "{provider} stands for where its provider is, and none is given"),
        ({**ASKS, "provider": "model"}, "daemon.provider", "expected a table, found text"),
        ({**THERE, "provider": MODEL}, "daemon.provider", "is for a daemon that is started here"),
        (
            {**ASKS, "provider": {}},
            "daemon.provider",
            "wants a command that starts it, or a container",
        ),
        (
            {**ASKS, "provider": {**MODEL, "port": 1}},
            "daemon.provider.port",
            "unknown key; daemon.provider takes command, environment",
        ),
        (
            {**ASKS, "provider": {"command": "{python} model.py"}},
            "daemon.provider.command",
            "{port} is neither here nor in environment",
        ),
        (
            {**ASKS, "provider": {"command": "no-such-model {port}"}},
            "daemon.provider.command",
            'there is no program "no-such-model" on PATH',
        ),
        (
            {**ASKS, "provider": {**MODEL, "directory": "nowhere"}},
            "daemon.provider.directory",
            "there is no folder",
        ),
        (
            {**ASKS, "provider": {**MODEL, "ready_path": "health"}},
            "daemon.provider.ready_path",
            'a path begins with "/"',
        ),
        (
            {**ASKS, "provider": {**MODEL, "ready_path": 1}},
            "daemon.provider.ready_path",
            "expected text, found a whole number",
        ),
        (
            {**ASKS, "provider": {**MODEL, "start_timeout_s": 0}},
            "daemon.provider.start_timeout_s",
            "0 is not allowed",
        ),
        (
            {**ASKS, "provider": {**MODEL, "container": 1}},
            "daemon.provider.container",
            "expected a table, found a whole number",
        ),
        (
            {
                **ASKS,
                "provider": {**MODEL, "container": {**BOX, "service": "s"}},
            },
            "daemon.provider.container.service",
            "unknown key; daemon.provider.container takes image, build, port",
        ),
        (
            {**ASKS, "provider": {"container": BOX, "directory": "."}},
            "daemon.provider.directory",
            "is for a command; a container's stands in its own table",
        ),
        (
            {**ASKS, "provider": MODEL, "container": BOX},
            "daemon.container.command",
            "the daemon would not know where its provider is",
        ),
    ],
)
def test_a_mistake_is_told_once_with_its_key(
    tmp_path: Path, table: dict[str, Any], key: str, text: str
):
    """
    What is wrong in one place is no reason to complain of another.
    """
    [(where, why)] = refused(tmp_path, table)

    assert where == key
    assert text in why


def test_all_mistakes_of_both_tables_come_at_once(tmp_path: Path):
    """
    Nobody mends a file one complaint at a time.
    """
    rows = refused(
        tmp_path,
        {
            "command": "no-such-daemon {port}",
            "path": "mcp",
            "provider": {
                "command": "{python} model.py",
                "ready_path": "x",
                "container": {"port": "1"},
            },
        },
    )

    assert sorted(key for key, _ in rows) == [
        "daemon.command",
        "daemon.command",
        "daemon.path",
        "daemon.provider.command",
        "daemon.provider.container.image",
        "daemon.provider.container.port",
        "daemon.provider.ready_path",
    ]


def test_wrong_commands_of_both_are_told_once_each(tmp_path: Path):
    """
    A command that is none lacks no placeholder.
    """
    rows = refused(tmp_path, {"command": 1, "provider": {"command": ["model", 2]}})

    assert [key for key, _ in rows] == ["daemon.provider.command[1]", "daemon.command"]
