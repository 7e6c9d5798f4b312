"""What may be not run: the committed list, and what it says of a session."""

from __future__ import annotations

import pytest

from tests.outcomes import EXPECTED, Leave, Row, leaves, unexpected

ALLOWED = [
    Leave("containers", "no containers: ", ("tests/integration/*",)),
    Leave("curl", "there is no curl", ("tests/integration/test_up.py::*",)),
]


def skipped(test: str, reason: str) -> Row:
    """One that was not run."""
    return Row(test, "-", "not run", reason)


def test_the_committed_list_can_be_read():
    """Each entry has a want, a reason and tests."""
    assert len(leaves(EXPECTED.read_text())) > 5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[[not_run]]\nwant = "x"\n', "entry 1: expected want, reason, tests"),
        ('[[not_run]]\nwant = "x"\nreason = "y"\ntests = []\n', "entry 1: names no tests"),
        ('[[not_run]]\nwants = "x"\n[[not_run]]\n', "entry 2"),
    ],
)
def test_a_mistake_in_it_is_told(text: str, words: str):
    """All of them at once."""
    with pytest.raises(ValueError, match="entry 1") as caught:
        leaves(text)

    assert words in str(caught.value)


def test_what_has_leave_is_expected():
    """By its reason and its name."""
    rows = [
        skipped("tests/integration/test_a.py::test_b", "no containers: nobody answers"),
        Row("tests/unit/test_c.py::test_d", "-", "passed"),
    ]

    assert unexpected(rows, ALLOWED, set()) == []


@pytest.mark.parametrize(
    ("test", "reason"),
    [
        ("tests/integration/test_a.py::test_b", "I was not in the mood"),
        ("tests/unit/test_a.py::test_b", "no containers: nobody answers"),
        ("tests/integration/test_a.py::test_b", "there is no curl here"),
    ],
)
def test_what_has_none_is_not(test: str, reason: str):
    """Another reason, or another place."""
    [complaint] = unexpected([skipped(test, reason)], ALLOWED, set())

    assert complaint == f"{test}: not run without leave: {reason}"


def test_what_a_machine_has_must_be_tested_on_it():
    """Leave for want of containers is none where they are given."""
    row = skipped("tests/integration/test_a.py::test_b", "no containers: images are missing")

    [complaint] = unexpected([row], ALLOWED, {"containers"})

    assert "not run although containers is given" in complaint
