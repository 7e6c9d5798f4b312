"""Which daemon a project and a command line mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.daemons.base import Daemon
from harness.daemons.command import Command
from harness.daemons.reference import Reference
from harness.daemons.running import Running
from harness.dialects.plain import Plain
from harness.errors import InvalidValue
from harness.project import Project, choose_daemon, read_project
from tests.unit.project.tables import TOKEN


def alike(one: Daemon, other: Daemon) -> bool:
    """Equal but for the dialects, which are objects of one class."""
    same_language = type(one.dialect) is type(other.dialect)
    return same_language and replace(one, dialect=other.dialect) == other


def test_a_project_is_what_its_pyproject_says(project: Callable[[str], Path]):
    """
    The table is given as it stands; what is wrong with it shows when the daemon is made.
    """
    folder = project('[tool.harness.daemon]\nanything = "goes"\n')

    assert read_project(folder) == Project(
        file=folder / "pyproject.toml", daemon={"anything": "goes"}
    )


def test_a_project_shows_no_header(project: Callable[[str], Path]):
    """
    Some of them are secrets.
    """
    folder = project(f'[tool.harness.daemon.headers]\nX = "{TOKEN}"\n')

    assert TOKEN not in repr(read_project(folder))


@pytest.mark.parametrize("text", [None, "", "[tool]\n", "[tool.other]\nx = 1\n"])
def test_a_folder_may_be_no_project(tmp_path: Path, text: str | None):
    """
    Without a pyproject.toml, or without [tool.harness] in it; folders above do not count.
    """
    folder = tmp_path / "inner"
    folder.mkdir()
    (tmp_path / "pyproject.toml").write_text("[tool.harness.daemon]\n")
    if text is not None:
        (folder / "pyproject.toml").write_text(text)

    assert read_project(folder) is None
    assert alike(choose_daemon(None, folder=folder), Reference())


@pytest.mark.parametrize(
    ("text", "key", "why"),
    [
        ("tool = 3\n", "tool", "expected a table, found a whole number"),
        ("[tool]\nharness = []\n", "tool.harness", "expected a table, found a list"),
        ("[tool.harness]\ndaemon = 'x'\n", "tool.harness.daemon", "expected a table, found text"),
        (
            "[tool.harness.deamon]\n",
            "tool.harness.deamon",
            'unknown key; tool.harness takes daemon; did you mean "daemon"?',
        ),
        ("[tool.harness]\nseed = 1979-05-27\n", "tool.harness.seed", "unknown key; tool.harness"),
    ],
)
@pytest.mark.parametrize(
    "read",
    [read_project, lambda folder: choose_daemon(None, folder=folder)],
    ids=["read", "choose"],
)
def test_a_project_with_other_keys_is_refused(
    project: Callable[[str], Path], read: Callable[[Path], Any], text: str, key: str, why: str
):
    """
    A table that is misspelt would be passed over in silence otherwise.
    """
    folder = project(text)

    with pytest.raises(InvalidValue) as caught:
        read(folder)

    assert caught.value.headline == f"{folder / 'pyproject.toml'}: 1 problem"
    [(where, found)] = caught.value.details
    assert where == key
    assert why in found


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"[tool.harness]\nx = \n", "pyproject.toml is no TOML: Invalid value (at line 2, column"),
        (b"x = " + b"9" * 5000, "pyproject.toml is no TOML: Exceeds the limit"),
        (b"x = " + b"[" * 100_000, "pyproject.toml is no TOML: "),
        (b"x = '\xff'\n", "pyproject.toml is no TOML: byte 5 is not UTF-8"),
    ],
)
def test_a_file_that_is_no_toml_is_named_with_the_place(tmp_path: Path, content: bytes, text: str):
    """
    So is one that is not UTF-8.
    """
    (tmp_path / "pyproject.toml").write_bytes(content)

    with pytest.raises(InvalidValue) as caught:
        read_project(tmp_path)

    assert text in caught.value.headline
    assert "next" in dict(caught.value.details)


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path):
    """
    A folder of that name, for instance.
    """
    (tmp_path / "pyproject.toml").mkdir()

    with pytest.raises(InvalidValue, match=r"pyproject.toml cannot be read: Is a directory"):
        read_project(tmp_path)


def test_the_folders_daemon_is_the_one_that_is_meant(project: Callable[[str], Path]):
    """
    Nothing needs to be given on the command line.
    """
    folder = project("[tool.harness.daemon]\naddress = 'ws://localhost:8079/mcp'\n")

    assert alike(choose_daemon(None, folder=folder), Running.at("ws://localhost:8079/mcp"))


def test_mistakes_of_the_project_and_of_its_daemon_come_at_once(project: Callable[[str], Path]):
    """
    One error has both.
    """
    folder = project("[tool.harness]\nx = 1\n[tool.harness.daemon]\ny = 1\n")

    with pytest.raises(InvalidValue, match=r"pyproject\.toml: 3 problems") as caught:
        choose_daemon(None, folder=folder)

    assert [where for where, _ in caught.value.details] == [
        *("tool.harness.x", "daemon.y", "daemon")
    ]


def test_a_daemon_by_name_is_of_the_catalogue(project: Callable[[str], Path]):
    """
    Whatever the folder's own is.
    """
    folder = project("[tool.harness.daemon]\naddress = 'ws://localhost:8079'\n")

    assert alike(choose_daemon("reference", folder=folder), Reference())


@pytest.mark.parametrize("url", ["ws://localhost:8079/mcp", "wss://localhost", "WS://localhost"])
def test_a_daemon_by_address_runs_there(tmp_path: Path, url: str):
    """
    Where the folder says nothing, it speaks the op dialect.
    """
    assert alike(choose_daemon(url, folder=tmp_path), Running.at(url))


def test_an_address_takes_the_place_of_the_tables_command(project: Callable[[str], Path]):
    """
    What belongs to the process goes with it; dialect, path, headers and token stay.
    """
    folder = project(
        "[tool.harness.daemon]\n"
        "command = 'nowhere-4711'\n"
        "directory = 'nowhere'\n"
        "start_timeout_s = 3\n"
        "tls = true\n"
        "ca_file = 'nowhere'\n"
        "token_from = 'MY_TOKEN'\n"
        "token_variable = 'KEY'\n"
        "environment = {A = '1'}\n"
        "dialect = 'plain'\n"
        "path = '/mcp'\n"
        "subprotocols = ['mcp']\n"
        "promises = ['durable']\n"
        "allow_remote = true\n"
        "headers = {X = '{token}'}\n"
    )

    daemon = choose_daemon("ws://localhost:8079", folder=folder)

    assert isinstance(daemon, Running)
    assert isinstance(daemon.dialect, Plain)
    assert daemon.url(daemon.address) == "ws://localhost:8079/mcp"
    assert daemon.sent_headers() == {"X": TOKEN}
    assert (daemon.subprotocols, daemon.promises) == (("mcp",), ("durable",))
    assert (daemon.ca_file, daemon.allow_remote) == (None, True)


@pytest.mark.parametrize(
    ("table", "url", "address"),
    [
        ("path = '/mcp'", "ws://localhost/other", "ws://localhost:80/other"),
        ("path = '/mcp'", "wss://localhost/", "wss://localhost:443/mcp"),
        ("address = 'ws://localhost:1/mcp'", "ws://localhost:2", "ws://localhost:2/"),
    ],
)
def test_an_addresss_own_path_goes_before_the_tables(
    project: Callable[[str], Path], table: str, url: str, address: str
):
    """
    A path in the address that was replaced is replaced with it.
    """
    daemon = choose_daemon(url, folder=project(f"[tool.harness.daemon]\n{table}\n"))

    assert daemon.address is not None
    assert daemon.url(daemon.address) == address


def test_certificates_stay_where_the_address_speaks_tls(project: Callable[[str], Path]):
    """
    They are dropped where it does not.
    """
    folder = project("[tool.harness.daemon]\ncommand = 'x'\ntls = true\nca_file = 'ca.pem'\n")
    (folder / "ca.pem").touch()

    assert choose_daemon("wss://localhost", folder=folder).ca_file == folder / "ca.pem"
    assert choose_daemon("ws://localhost", folder=folder).ca_file is None


def test_a_bad_address_is_told_with_what_else_is_wrong(project: Callable[[str], Path]):
    """
    The headline says that the address is not the file's.
    """
    folder = project("[tool.harness.daemon]\ncommand = 'x'\npath = 'mcp'\n")

    with pytest.raises(InvalidValue) as caught:
        choose_daemon("ws://localhost:x", folder=folder)

    assert "pyproject.toml with the address that was given: 2 problems" in caught.value.headline
    assert [where for where, _ in caught.value.details] == ["daemon.address", "daemon.path"]


@pytest.mark.parametrize("table", ["[daemon]", "[tool.harness.daemon]"])
def test_a_daemon_by_file_is_of_that_files_table(tmp_path: Path, table: str):
    """
    The file is relative to the folder, and what stands in it to the file's own folder.
    """
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.toml").write_text(f"{table}\ncommand = '{{python}} x.py {{port}}'")

    daemon = choose_daemon("other/mine.toml", folder=tmp_path)

    assert isinstance(daemon, Command)
    assert daemon.directory == tmp_path / "other"


@pytest.mark.parametrize(
    ("text", "key", "why"),
    [
        ("", "daemon", "expected a table [tool.harness.daemon] or [daemon]"),
        ("daemon = 1\n", "daemon", "expected a table, found a whole number"),
        ("[daemon]\ncomand = 1\n", "daemon.comand", 'did you mean "command"?'),
        ("[tool.harness]\nx = 1\n", "tool.harness.x", "unknown key"),
        (
            "[daemon]\naddress = 'ws://localhost'\n"
            "[tool.harness.daemon]\naddress = 'ws://localhost'\n",
            "daemon",
            "stands beside tool.harness.daemon; expected one of the two",
        ),
    ],
)
def test_a_file_without_a_daemon_is_refused(tmp_path: Path, text: str, key: str, why: str):
    """
    The complaint names the file and what it should have.
    """
    (tmp_path / "mine.toml").write_text(text)

    with pytest.raises(InvalidValue, match=r"mine\.toml: 1 problem") as caught:
        choose_daemon("mine.toml", folder=tmp_path)

    [(where, found)] = caught.value.details
    assert where == key
    assert why in found


def test_a_file_that_is_not_there_is_named(tmp_path: Path):
    """
    It was given by hand, so its absence is a mistake.
    """
    with pytest.raises(InvalidValue, match=r"mine\.toml cannot be read: No such file"):
        choose_daemon("mine.toml", folder=tmp_path)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("refrence", '"refrence" is no daemon; did you mean "reference"?'),
        ("localhost:8079", '"localhost:8079" is no daemon; did you mean "ws://localhost:8079"?'),
        ("command", '"command" is no daemon'),
        ("running", '"running" is no daemon'),
        ("", '"" is no daemon'),
    ],
)
def test_anything_else_is_refused_with_what_is_possible(tmp_path: Path, text: str, hint: str):
    """
    By name, by address or by file.
    """
    with pytest.raises(InvalidValue) as caught:
        choose_daemon(text, folder=tmp_path)

    assert caught.value.headline == hint
    assert dict(caught.value.details) == {
        "by name": "reference",
        "by address": "ws://host:port/path or wss://host:port/path, where it runs already",
        "by file": "a .toml file with a table [tool.harness.daemon] or [daemon]",
    }
