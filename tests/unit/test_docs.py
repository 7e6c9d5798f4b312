"""What the documents say of the code, held against the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from harness.errors import OUTCOMES
from tests.benchmarks.isolated import WORDS

ROOT = Path(__file__).resolve().parents[2]
RESILIENCE = ROOT / "docs/resilience.md"

PROVES = {"it ran, and failed inside": "ok", "it did not run": "fail", "nothing": "info"}


def code_table() -> list[tuple[str, str, str]]:
    """The rows of the protocol's table of codes: what they prove, ours, others'."""
    lines = (ROOT / "docs/protocol.md").read_text().splitlines()
    start = lines.index(
        "| proves of the call | the reference daemon sends | other daemons may send |"
    )
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        proves, ours, others = (cell.strip() for cell in line.strip("|").split("|"))
        rows.append((proves, ours, others))
    return rows


def codes(cell: str) -> list[str]:
    return re.findall(r"[A-Z]+_?[A-Z_]+", cell)


def test_the_protocol_says_of_every_code_what_the_table_of_errors_says():
    """
    No code a daemon may send is missing, and none proves something else.
    """
    documented = {
        code: PROVES[proves] for proves, *cells in code_table() for code in codes(" ".join(cells))
    }

    assert documented == {code: what for code, what in OUTCOMES.items() if code.isupper()}


def test_the_protocol_names_the_codes_that_the_reference_daemon_sends():
    """
    Those in its source, and no other.
    """
    source = "".join(path.read_text() for path in (ROOT / "harness/refdaemon").glob("*.py"))
    sent = {code for code in OUTCOMES if code.isupper() and f'"{code}"' in source}

    assert {code for _, ours, _ in code_table() for code in codes(ours)} == sent


def run(program: str) -> dict[str, Any]:
    """What a program defines."""
    defined: dict[str, Any] = {}
    exec(program, defined)
    return defined


def test_the_programs_of_the_page_about_resilience_run():
    """
    Each by itself, as a reader pastes it; what they define is there afterwards.
    """
    programs = re.findall(
        r"^```python\n(.*?)^```$", RESILIENCE.read_text(), re.DOTALL | re.MULTILINE
    )

    found = [run(program) for program in programs]

    breaker, waits, metrics, tools, connections, client, admission, keys, live = found
    assert breaker["answer"] == "HI"
    assert 0 <= waits["wait_s"] <= 0.1
    assert waits["repeat"] is True
    assert metrics["p95_ns"] == pytest.approx(1_200_000, rel=0.01)
    assert b"harness_connections_total 0.0" in tools["page"]
    assert tools["payload"]
    assert connections["delivery"].outcome == "sent"
    assert connections["connections"].kept("session-1") == 0
    assert callable(client["order"])
    assert admission["first"] is None
    assert "max_connections_per_address: 2, allowed 1" in str(admission["second"])
    assert admission["third"] is None
    assert (keys["meanwhile"], keys["afterwards"]) == (None, "7")
    assert [change.gauge for change in admission["raised"]] == ["p95_ms"]
    assert live["breakers"].of("a").settings.failures == 3


@pytest.mark.parametrize("page", ["README.md", "docs/performance.md"])
def test_figures_of_single_classes_say_what_they_are(page: str):
    """
    Wherever a figure of the unit tier stands, the words stand above it.
    """
    sections = re.split(r"^## ", (ROOT / page).read_text(), flags=re.MULTILINE)
    telling = [each for each in sections if re.search(r"SHA-256|closed breaker|a record", each)]

    assert telling
    assert [section.splitlines()[0] for section in telling if WORDS not in section] == []
