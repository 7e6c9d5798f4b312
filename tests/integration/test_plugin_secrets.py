"""A daemon with a token: nothing that is printed or kept shows it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.daemons.reference import IMAGE
from tests.integration.inner import Outcome
from tests.integration.plugin_runs import block, pytest_in, rows, sections

TOKEN = "tok-3n-of-some-length"

_SERVER = """
import os
import sys

token = os.environ["SERVER_TOKEN"]
print("started with", token, file=sys.stderr, flush=True)
os.environ["EXAI_WS_TOKEN"] = token
os.execv(sys.executable, [sys.executable, "-m", "harness.refdaemon", *sys.argv[1:]])
"""

# Of the program TOML wants the same escapes as JSON.
_PROJECT = f"""
[tool.pytest]
asyncio_mode = "auto"
asyncio_default_fixture_loop_scope = "function"

[tool.harness.daemon]
command = ["{{python}}", "server.py", "--port", "{{port}}"]
dialect = "exai"
token_from = "MY_TOKEN"
token_variable = "SERVER_TOKEN"

[tool.harness.daemon.container]
image = "{IMAGE}"
port = 8079
command = [
    "python3", "-c", {json.dumps(_SERVER)},
    "--host", "{{host}}", "--port", "{{port}}", "--allow-remote",
]
"""

_TESTS = """
import os
import pytest
from harness.errors import CallFailed


@pytest.fixture
async def client(harness_client):
    async with harness_client as client:
        yield client


@pytest.mark.parametrize("level", [
    pytest.param(level, marks=pytest.mark.harness_isolation(level))
    for level in ("proxy", "daemon", "environment")
])
async def test_level(client, harness_daemon, level):
    await client.call("echo", {"text": os.environ["MY_TOKEN"]})
    assert harness_daemon == level


async def test_shows_it(client):
    print("printed", os.environ["MY_TOKEN"])
    reply = await client.call("echo", {"text": os.environ["MY_TOKEN"]})
    assert reply.text == "something else", f"the token is {os.environ['MY_TOKEN']}"


async def test_raises_it(client):
    await client.call(os.environ["MY_TOKEN"])


@pytest.fixture
def broken(harness_environment):
    raise RuntimeError(os.environ["MY_TOKEN"])


def test_set_up(broken):
    pass
"""


@pytest.fixture(scope="module")
def run(on_backend: str, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """On each backend, failing tests of a daemon that prints its own token."""
    folder = tmp_path_factory.mktemp("secrets")
    (folder / "server.py").write_text(_SERVER)
    (folder / "pyproject.toml").write_text(_PROJECT)
    (folder / "test_a.py").write_text(_TESTS)
    variables = {"MY_TOKEN": TOKEN, "GITHUB_ACTIONS": "true"}
    return pytest_in(folder, "--showlocals", "--junitxml=report.xml", variables=variables)


def test_every_test_failed_with_the_daemon_up(run: Outcome):
    """
    Else the other tests here would prove nothing.
    """
    assert "5 failed, 1 error" in run.text
    for level in ("proxy", "daemon", "environment"):
        assert rows(block(run, f"test_level[{level}]"))["fault"] == ["none was injected"]


def test_the_token_is_nowhere_in_the_output(run: Outcome):
    """
    Not where the test itself prints, compares or raises it, and not in annotations.
    """
    assert TOKEN not in run.text
    assert "::error " in run.text
    assert "printed ***" in run.text


def test_the_token_is_in_no_file(run: Outcome):
    """
    The JUnit file, histories, logs and all other files of every run.
    """
    files = [run.folder / "report.xml", *(run.folder / "runs").rglob("*")]
    files = [file for file in files if file.is_file()]

    assert {"history.jsonl", "daemon.log", "environment.json"} <= {file.name for file in files}
    assert [file for file in files if TOKEN.encode() in file.read_bytes()] == []


@pytest.mark.parametrize("level", ["daemon", "environment"])
def test_what_the_daemon_printed_is_shown_without_it(run: Outcome, level: str):
    """
    The rest of the line stays.
    """
    log = sections(block(run, f"test_level[{level}]"))["harness daemon.log"]

    assert log.splitlines()[0] == "started with ***"


def test_a_report_that_had_to_be_cleaned_still_says_what_failed(run: Outcome):
    """
    Source, values and the sentence of ours.
    """
    report = block(run, "test_shows_it")

    assert 'assert reply.text == "something else"' in report
    assert rows(report)["failed"] == ["the token is ***"]
    assert rows(report)["seen"] == ["'***' == 'something else'"]


def test_a_table_whose_variable_is_missing_stops_the_session(run: Outcome):
    """
    It is told by its key; the table itself is all right.
    """
    folder = Path(run.folder)

    refused = pytest_in(folder)

    assert refused.code == 4
    assert "daemon.token_from  there is no environment variable of that name" in refused.text
