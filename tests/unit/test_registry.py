"""A folder of files is a catalogue."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.registry import catalogue


class Tool:
    """What the entries of these made-up folders derive from."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """A package of its own name for each test, since modules stay imported."""
    path = tmp_path / f"tools_of_{request.node.name}"
    path.mkdir()
    (path / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    return path


def entry(name: str) -> str:
    return f"from {__name__} import Tool\nclass {name}(Tool): pass\n"


def test_a_catalogue_has_one_entry_a_file_by_the_files_name(folder: Path):
    """
    Entries are sorted by name; `base` and what the files import are none.
    """
    (folder / "saw.py").write_text("from importlib import util\n" + entry("Saw"))
    (folder / "axe.py").write_text(entry("Axe"))
    (folder / "base.py").write_text(entry("Base"))

    tools = catalogue(folder.name, Tool)

    assert [(name, tool.__name__) for name, tool in tools.items()] == [
        ("axe", "Axe"),
        ("saw", "Saw"),
    ]


@pytest.mark.parametrize(("content", "found"), [("", 0), (entry("Axe") + entry("Saw"), 2)])
def test_a_file_must_define_exactly_one_entry(folder: Path, content: str, found: int):
    """
    A file that defines none, or several, is a mistake of this project's.
    """
    folder = folder.rename(folder.with_name(f"tools_with_{found}"))
    (folder / "axe.py").write_text(content)

    with pytest.raises(TypeError, match=f"axe must define one Tool, not {found}"):
        catalogue(folder.name, Tool)


def test_an_entry_imported_from_another_file_is_not_counted_twice(folder: Path):
    """
    It belongs to the file that defines it.
    """
    (folder / "axe.py").write_text(entry("Axe"))
    (folder / "saw.py").write_text(f"from {folder.name}.axe import Axe\n" + entry("Saw"))

    assert list(catalogue(folder.name, Tool)) == ["axe", "saw"]
