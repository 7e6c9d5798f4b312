"""What docs/configuration.md says of the keys and of reading them, held against the code."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from harness.errors import InvalidValue
from harness.resilience.config import KEYS, SECTIONS, load
from harness.resilience.config.__main__ import main
from harness.resilience.config.page import BEGIN, END, keys_page, with_keys

PAGE = (Path(__file__).resolve().parents[2] / "docs/configuration.md").read_text()
PART = PAGE.partition("\n# A daemon that copes\n")[2]


def blocks(language: str) -> list[str]:
    """The pieces of code in the part of the page that is about this."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PART, re.DOTALL | re.MULTILINE)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_page_has_what_the_code_says_now():
    """
    Where it does not: `make docs`.
    """
    assert with_keys(PAGE) == PAGE


def test_every_key_has_a_row_with_its_variable():
    """
    And no row is of a key that is not there.
    """
    rows = re.findall(r"^\| `(\w+)` \|.*$", keys_page(), re.MULTILINE)

    assert rows == [name.partition(".")[2] for name in KEYS]
    assert re.findall(r"^### `\[(\w+)\]`$", keys_page(), re.MULTILINE) == list(SECTIONS)
    assert all(f"| `{rules.variable}` |" in PAGE for rules in KEYS.values() if rules.variable)


def test_the_sample_and_the_programs_of_the_page_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """
    The second goes on where the first ends.
    """
    (folder / "daemon.toml").write_text(blocks("toml")[0])
    monkeypatch.delenv("EXAI_CONFIG_PRESET", raising=False)
    for rules in KEYS.values():
        monkeypatch.delenv(rules.variable or "EXAI_CONFIG_PRESET", raising=False)

    exec("".join(blocks("python")), {})

    assert capsys.readouterr().out == "0 argument\n[] []\n"
    assert load(Path("daemon.toml")).preset == "production"


def test_the_errors_of_the_page_are_those_that_come(folder: Path):
    """
    From the file and the variable beside them.
    """
    (folder / "daemon.toml").write_text(blocks("toml")[1])

    with pytest.raises(InvalidValue) as caught:
        load(Path("daemon.toml"), environment={"EXAI_WS_PORT": "http"})

    assert blocks("text") == [f"{caught.value}\n"]


def test_the_program_prints_the_keys_or_writes_them_into_a_page(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """
    What stands around the markers stays.
    """
    (folder / "page.md").write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")

    monkeypatch.setattr(sys, "argv", ["config"])
    main()
    assert capsys.readouterr().out == keys_page()

    monkeypatch.setattr(sys, "argv", ["config", "--write", "page.md"])
    main()
    page = (folder / "page.md").read_text()
    assert page == f"before\n{BEGIN}\n\n{keys_page()}\n{END}\nafter\n"


@pytest.mark.parametrize(
    "page", ["", BEGIN, f"{END}\n{BEGIN}\n", f"{BEGIN}\n{END}\n{BEGIN}\n{END}\n"]
)
def test_a_page_without_its_markers_is_refused(page: str):
    """
    Rather than written over.
    """
    with pytest.raises(InvalidValue, match="the two markers once each"):
        with_keys(page)
