"""What the documents say of the code, held against the code."""

from __future__ import annotations

import re
from pathlib import Path

from harness.errors import OUTCOMES

ROOT = Path(__file__).resolve().parents[2]

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
