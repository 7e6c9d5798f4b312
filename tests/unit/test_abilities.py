"""The words for what can be done in an environment: one list, and nobody uses another."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.daemons.reference import Reference
from harness.daemons.running import Running
from harness.dialects.plain import Plain
from harness.environment.abilities import ABILITIES, abilities_of, reset_abilities
from harness.environment.probe import ResetPath
from harness.faults.base import Fault
from harness.registry import catalogue

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("examples/**/*.py")]


@pytest.mark.parametrize("name", list(catalogue("harness.faults", Fault)))
def test_what_a_fault_needs_is_an_ability(name: str):
    """
    A misspelt need would be known to no environment, and so never be refused.
    """
    assert catalogue("harness.faults", Fault)[name].needs <= ABILITIES.keys()


def test_the_documents_have_each_ability():
    """
    The table in docs/testing.md, no more and no fewer.
    """
    text = (ROOT / "docs/testing.md").read_text()
    table = text.partition("| ability | means |\n|---|---|\n")[2].partition("\n\n")[0]

    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(ABILITIES)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_markers_in_the_documents_name_abilities(path: Path):
    """
    What a reader copies is accepted.
    """
    marks = re.findall(r"harness_needs\(([^)]*)\)", path.read_text())
    names = {name for mark in marks for name in re.findall(r'"(\w+)"', mark)}

    assert names <= ABILITIES.keys()


@pytest.mark.parametrize(
    ("live", "armed", "there"),
    [
        (True, True, {"rst", "live_rst"}),
        (False, True, {"rst"}),
        (True, False, {"rst", "live_rst"}),
        (False, False, set()),
    ],
)
def test_a_probe_tells_what_resets_do(live: bool, armed: bool, there: set[str]):
    """
    What is not there has what was seen for its reason.
    """
    found = reset_abilities(ResetPath(live=live, armed=armed, reason="arrived as FIN"))

    assert {name for name, why in found.items() if why is None} == there
    assert {why for why in found.values() if why} <= {"arrived as FIN"}


def test_only_a_dialect_with_that_question_has_health():
    """
    The reason names the dialect.
    """
    assert abilities_of(Reference())["health"] is None
    assert abilities_of(Reference(dialect=Plain()))["health"] == "plain has no such question"


def test_behind_tls_nobody_sees_frames():
    """
    Another reason than before a daemon without TLS, which a later version could do away with.
    """
    secure = abilities_of(Running.at("wss://localhost:1"))["frames"]
    plain = abilities_of(Running.at("ws://localhost:1"))["frames"]

    assert secure == "TLS passes through the proxy, which sees no frames"
    assert plain not in (None, secure)
