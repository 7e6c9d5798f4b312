"""A test's own id, whatever a worker made of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from harness.pytest_plugin.state import own_id


@pytest.mark.parametrize(
    ("nodeid", "loadgroup", "own"),
    [
        ("test_a.py::test_it", False, "test_a.py::test_it"),
        ("test_a.py::test_it", True, "test_a.py::test_it"),
        ("test_a.py::test_it@group", True, "test_a.py::test_it"),
        ("test_a.py::test_it[a@b]", True, "test_a.py::test_it[a@b]"),
        ("test_a.py::test_it[a@b]@group", True, "test_a.py::test_it[a@b]"),
        ("test_a.py::test_it[a@b]", False, "test_a.py::test_it[a@b]"),
    ],
)
def test_the_group_of_a_worker_is_no_part_of_an_id(nodeid: str, loadgroup: bool, own: str):
    """
    Seeds hang on the id, and the command that repeats a test has it: both must be the same
    without --dist loadgroup.
    """
    config = SimpleNamespace(option=SimpleNamespace(loadgroup=loadgroup))
    item: Any = SimpleNamespace(nodeid=nodeid, config=config)

    assert own_id(item) == own


def test_without_xdist_there_are_no_groups():
    """
    The option is not even there.
    """
    item: Any = SimpleNamespace(nodeid="a.py::b@c", config=SimpleNamespace(option=object()))

    assert own_id(item) == "a.py::b@c"
