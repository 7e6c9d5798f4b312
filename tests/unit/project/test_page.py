"""The page that describes tables, held against the code."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.dialects.base import Answer, Dialect, Failure, Incoming, Junk
from harness.project import choose_daemon
from tests.unit.project.tables import SERVE, refused

PAGE = Path(__file__).resolve().parents[3] / "docs/configuration.md"


def page() -> str:
    """The part of the page that is about this."""
    return PAGE.read_text().partition("\n# A daemon that copes\n")[0]


def blocks(language: str) -> list[str]:
    """The pieces of code in the page that describes all this."""
    return re.findall(rf"^```{language}\n(.*?)^```", page(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("block", blocks("toml"))
def test_each_example_of_the_page_is_a_daemon(
    project: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, block: str
):
    """
    Where the files that it names are there.
    """
    folder = project(block)
    for name in ("server", "certificates"):
        (folder / name).mkdir()
    (folder / "certificates" / "ca.pem").touch()
    [dialect] = blocks("python")
    (folder / "my_dialect.py").write_text(dialect)
    monkeypatch.delitem(sys.modules, "my_dialect", raising=False)

    daemon = choose_daemon(None, folder=folder)

    kinds = {"address =": "running", "container]": "container"}
    expected = next((kind for word, kind in kinds.items() if word in block), "command")
    assert daemon.type == expected


def test_the_page_lists_every_key_and_no_other(tmp_path: Path):
    """
    The keys are those that the complaint about an unknown one lists.
    """
    [(_, why)] = refused(tmp_path, {**SERVE, "?": 1})
    known = why.removeprefix("unknown key; daemon takes ").split(", ")
    keys = page().partition("## Keys")[2].partition("## ")[0]

    assert sorted(re.findall(r"^\| `(\w+)` ", keys, re.MULTILINE)) == sorted(known)


@pytest.mark.parametrize(
    ("frame", "meaning"),
    [
        ('{"id": "1", "result": "hi"}', Answer(kind="call", request_id="1", value=["hi"])),
        (
            b'{"id": "1", "error": {"code": -32601, "message": "no"}}',
            Answer(kind="call", request_id="1", failure=Failure(code="-32601", message="no")),
        ),
        ("[]", Junk(why="TypeError('list indices must be integers or slices, not str')")),
        (b"{}", Junk(why="KeyError('id')")),
    ],
)
def test_the_pages_dialect_reads_what_it_says_it_reads(frame: bytes | str, meaning: Incoming):
    """
    It is complete: a reader can begin with it.
    """
    module: dict[str, Any] = {}
    exec(blocks("python")[0], module)
    dialect: Dialect = module["JsonRpc"]()

    asked = dialect.call(request_id="1", tool="echo", arguments={"a": 1}, key=None)

    assert json.loads(asked) == {"jsonrpc": "2.0", "id": "1", "method": "echo", "params": {"a": 1}}
    assert dialect.receive(frame) == meaning
