"""Dialects by name: ours, and those of strangers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.project.tables import SERVE, daemon_of, refused

DIALECT = """
from harness.dialects.base import Answer, Dialect

class Lines(Dialect):
    name = "lines"
    def call(self, *, request_id, tool, arguments, key):
        return f"{request_id} {tool}"
    def receive(self, frame):
        request_id, _, value = frame.partition(" ")
        return Answer(kind="call", request_id=request_id, value=value)

class Fussy(Lines):
    def __init__(self, version): ...

class Half(Dialect):
    name = "half"

class Sad(Lines):
    def __init__(self):
        raise ValueError("no luck")

NUMBER = 3
"""


@pytest.fixture
def lines(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """A module of dialects, of its own name for each test, since modules stay imported."""
    name = "lines_of_" + "".join(c if c.isalnum() else "_" for c in request.node.name)
    (tmp_path / f"{name}.py").write_text(DIALECT)
    yield name
    sys.modules.pop(name, None)


@pytest.mark.parametrize("written", ["{}.Lines", "{}:Lines"])
def test_a_dialect_is_a_class_by_its_dotted_name(tmp_path: Path, lines: str, written: str):
    """
    Its module is found in the folder of the table, which is on the path no longer than that.
    """
    daemon = daemon_of(tmp_path, {**SERVE, "dialect": written.format(lines)})

    assert daemon.dialect.name == "lines"
    assert str(tmp_path) not in sys.path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("exia", '"exia" is no dialect; expected "exai", "plain", or a class by its dotted name'),
        ("exia", 'did you mean "exai"?'),
        ("my-dialect.Lines", '"my-dialect.Lines" is no dialect'),
        ("nowhere_4711:Lines", "there is no module nowhere_4711, neither in "),
        ("{}:Line", "{}: there is no Line; its dialects: Fussy, Half, Lines, Sad"),
        ("{}:NUMBER", "{}: NUMBER is no subclass of harness.dialects.base.Dialect; its dialects"),
        ("{}:Dialect", "{}:Dialect() raised TypeError: Can't instantiate abstract class Dialect"),
        ("{}:Half", "{}:Half() raised TypeError: Can't instantiate abstract class Half"),
        ("{}:Fussy", "{}:Fussy() raised TypeError: Fussy.__init__() missing 1 required"),
        ("{}:Sad", "{}:Sad() raised ValueError: no luck ({}.py, line 20)"),
    ],
)
def test_a_dialect_that_cannot_be_had_says_why(tmp_path: Path, lines: str, name: str, text: str):
    """
    Whether there is no such module, no such class, or none that can be made.
    """
    [(where, why)] = refused(tmp_path, {**SERVE, "dialect": name.format(lines)})

    assert where == "daemon.dialect"
    assert text.format(lines, lines) in why


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("import nowhere_4711", "raised ModuleNotFoundError: No module named 'nowhere_4711' ({}"),
        ("\n1 / 0", "raised ZeroDivisionError: division by zero ({}.py, line 2)"),
        ("class", "raised SyntaxError: invalid syntax ({}.py, line 1)"),
        ("import sys; sys.exit(3)", "raised SystemExit: 3 ({}.py, line 1)"),
    ],
)
def test_a_dialects_module_may_fail_in_any_way(tmp_path: Path, lines: str, content: str, text: str):
    """
    It is the stranger's mistake, told with the line it stands in.
    """
    (tmp_path / f"{lines}.py").write_text(content)

    [(where, why)] = refused(tmp_path, {**SERVE, "dialect": f"{lines}:Lines"})

    assert where == "daemon.dialect"
    assert f"importing {lines} {text.format(lines)}" in why
    assert str(tmp_path) not in sys.path
