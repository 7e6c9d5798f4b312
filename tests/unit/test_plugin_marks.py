"""The markers: what is taken, and what is complained of."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from harness.pytest_plugin import marks
from harness.pytest_plugin.state import SETTINGS


class Marked:
    """A test with markers, the closest first."""

    def __init__(self, *decorators: pytest.MarkDecorator, only_run: int | None = None) -> None:
        self._marks = [decorator.mark for decorator in decorators]
        self.nodeid = "test_a.py::test_it"
        stash = pytest.Stash()
        stash[SETTINGS] = SimpleNamespace(only_run=only_run)  # type: ignore[misc]
        self.config = SimpleNamespace(stash=stash)

    def iter_markers(self, name: str) -> Any:
        return (mark for mark in self._marks if mark.name == name)

    def get_closest_marker(self, name: str) -> pytest.Mark | None:
        return next(self.iter_markers(name), None)


def complaints(*decorators: pytest.MarkDecorator, only_run: int | None = None) -> list[str]:
    """What a test with these markers is failed for."""
    with pytest.raises(pytest.fail.Exception) as caught:
        marks.check(Marked(*decorators, only_run=only_run))  # type: ignore[arg-type]
    head, *rows = str(caught.value).splitlines()
    assert head.startswith("markers of test_a.py::test_it: ")
    assert not caught.value.pytrace
    return rows


isolation = pytest.mark.harness_isolation
needs = pytest.mark.harness_needs
runs = pytest.mark.harness_runs


@pytest.mark.parametrize(
    ("marker", "complaint"),
    [
        (isolation(), "missing a required argument: 'level'"),
        (isolation("demon"), "expected one of 'proxy', 'daemon', 'environment'"),
        (isolation(["daemon"]), "expected one of"),
        (isolation("daemon", "proxy"), "too many positional arguments"),
        (isolation(levl="daemon"), "'level'"),
        (needs(), "expected one or more of rst, live_rst"),
        (needs(ability="rst"), "expected one or more of rst, live_rst"),
        (needs("netem"), "'netem' is no ability"),
        (needs(["rst", "process"]), "['rst', 'process'] is no ability"),
        (needs(3), "3 is no ability"),
        (runs(), "missing a required argument: 'n'"),
        (runs("5"), "expected a number of runs, 1 or more, found '5'"),
        (runs(0), "found 0"),
        (runs(2.5), "found 2.5"),
        (runs(True), "found True"),
        (runs(5, 0.5, 1), "too many positional arguments"),
        (runs(5, rate=0.5), "unexpected keyword argument 'rate'"),
        (runs(5, min_pass_rate=0), "min_pass_rate must be above 0 and at most 1, found 0"),
        (runs(5, min_pass_rate=90), "found 90"),
        (runs(5, min_pass_rate="0.9"), "found '0.9'"),
        (runs(5, min_pass_rate=float("nan")), "found nan"),
    ],
    ids=str,
)
def test_what_a_marker_does_not_take_is_complained_of(marker: pytest.MarkDecorator, complaint: str):
    """
    The complaint shows the marker as it was written, and what was wrong.
    """
    [row] = complaints(marker)

    assert row.startswith(f"  @pytest.mark.{marker.name}(")
    assert complaint in row


def test_all_that_is_wrong_is_told_at_once():
    """
    Of several markers, and of several arguments of one.
    """
    rows = complaints(isolation("x"), needs("y", "z"), needs(), runs(0, min_pass_rate=2))

    assert [row.split(":")[0].strip().split("(")[0] for row in rows] == [
        "@pytest.mark.harness_isolation",
        "@pytest.mark.harness_needs",
        "@pytest.mark.harness_needs",
        "@pytest.mark.harness_needs",
        "@pytest.mark.harness_runs",
        "@pytest.mark.harness_runs",
    ]


def test_what_is_right_is_not_complained_of():
    """
    Also where arguments stand by name.
    """
    markers = (isolation(level="daemon"), needs("rst", "process"), runs(n=5, min_pass_rate=1))

    marks.check(Marked(*markers))  # type: ignore[arg-type]


def test_the_closest_marker_says_how_often_and_where():
    """
    That of a class or module holds where the test has none of its own.
    """
    item: Any = Marked(runs(3, 0.5), runs(20), isolation("daemon"), isolation("environment"))

    assert marks.runs(item) == (3, 0.5)
    assert marks.isolation(item) == "daemon"


def test_a_wrong_marker_of_a_class_is_no_matter_where_the_test_has_its_own():
    """
    Only the closest is read.
    """
    marks.check(Marked(runs(3), runs("many"), isolation("proxy"), isolation(1)))  # type: ignore[arg-type]


def test_needs_of_all_markers_add_up():
    """
    What the module needs, its tests need too; each ability once.
    """
    item: Any = Marked(needs("rst"), needs("process", "rst"))

    assert marks.needs(item) == ["rst", "process"]


def test_runs_of_a_wrong_marker_are_none():
    """
    The test is then set up once, and fails there.
    """
    item: Any = Marked(runs("many"))

    assert marks.runs(item) is None


def test_a_run_that_does_not_exist_cannot_be_repeated():
    """
    --harness-only-run beyond n would carry out what no report ever named.
    """
    [row] = complaints(runs(5), only_run=6)

    assert "there is no run 6, which --harness-only-run asks for" in row


def test_what_is_not_there_is_told_with_its_reason():
    """
    Abilities that are there say nothing.
    """
    item: Any = Marked(needs("rst", "process", "docker"))

    why = marks.unmet(item, {"rst": None, "process": "it runs elsewhere", "docker": "none here"})

    assert why == "process: it runs elsewhere; docker: none here"
    assert marks.unmet(item, dict.fromkeys(("rst", "process", "docker"))) == ""
