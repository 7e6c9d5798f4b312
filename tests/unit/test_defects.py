"""The catalogue of defects, the table of them, and the tests that catch them: one story."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from harness.refdaemon.defects import DEFECTS

ROOT = Path(__file__).resolve().parents[2]
CODE = ROOT / "harness/refdaemon"
FAILURES = [f"F{n}" for n in range(1, 30)]

_TEST = re.compile(r'^@failure\(\s*"([a-z-]+)".*?\)\s+async def (test_f(\d\d)_\w+)\(', re.MULTILINE)


@dataclass(frozen=True)
class Row:
    """A row of the table in docs/defects.md."""

    failure: str
    happened: str
    defect: str
    where: str
    test: str


def rows() -> list[Row]:
    lines = (ROOT / "docs/defects.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [Row(*row) for row in cells if re.fullmatch(r"F\d+", row[0])]


def caught_by_tests() -> list[tuple[str, str, str]]:
    """Of each test of a failure: the defect it catches, its name, its failure."""
    found = []
    for path in sorted((ROOT / "tests/integration").glob("test_failures_*.py")):
        text = path.read_text()
        matches = _TEST.findall(text)
        assert len(matches) == text.count("async def test_"), path
        found += [(defect, name, f"F{int(number)}") for defect, name, number in matches]
    return found


def places(defect: str) -> set[str]:
    """The files that have it in."""
    asked = re.compile(rf'"{defect}" (not )?in ')
    return {path.name for path in CODE.rglob("*.py") if asked.search(path.read_text())}


def test_each_defect_has_one_test_and_each_test_one_defect():
    """
    Named after the same failure.
    """
    caught = caught_by_tests()

    assert sorted(defect for defect, _, _ in caught) == sorted(DEFECTS)
    assert {defect: failure for defect, _, failure in caught} == {
        name: defect.failure for name, defect in DEFECTS.items()
    }
    assert max(Counter(name for _, name, _ in caught).values()) == 1


def test_the_table_tells_of_each_failure_once():
    """
    In order; with what happened, and with a defect or the reason why there is none.
    """
    assert [row.failure for row in rows()] == FAILURES
    assert all(row.happened for row in rows())
    assert [row.failure for row in rows() if not re.match(r"`|none: \w", row.defect)] == []


def test_the_table_says_of_the_defects_what_the_catalogue_says():
    """
    Its name and what the daemon does with it; and which test catches it.
    """
    told = {row.failure: (row.defect, row.test) for row in rows() if row.defect[0] == "`"}
    names = {defect: name for defect, name, _ in caught_by_tests()}

    assert told == {
        defect.failure: (f"`{name}`: {defect.about}", f"`{names[name]}`")
        for name, defect in DEFECTS.items()
    }


def test_the_table_says_where_the_defects_are():
    """
    In the file it names, and in no other.
    """
    told = {row.failure: row.where for row in rows() if row.defect[0] == "`"}
    found = {defect.failure: places(name) for name, defect in DEFECTS.items()}

    assert found == {failure: {where.strip("`")} for failure, where in told.items()}
