"""The table "fault by path: what the client sees", played on the engine at hand."""

from __future__ import annotations

import pytest

from harness.daemons.reference import Reference
from harness.environment.backends import DOCKER, OwnEnvironment
from tests.backends import in_containers
from tests.integration.fidelity import COLUMNS, FAULTS, NOTHING, Column, Seen, documented, observed

pytestmark = in_containers

SAID = documented()


def test_the_page_has_each_fault_on_each_path() -> None:
    """And no other."""
    assert set(SAID) == {(fault, column.name) for fault in FAULTS for column in COLUMNS}


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)
async def test_a_client_sees_what_the_page_says(column: Column) -> None:
    """Each fault in turn, before one daemon; healed in between."""
    said = {
        fault: seen
        for (fault, path), seen in SAID.items()
        if path == column.name and seen != Seen(NOTHING, "")
    }
    here = OwnEnvironment(Reference(), backend=DOCKER, proxy=column.proxy, path=column.path)
    async with here:
        seen = {fault: await observed(here, column, FAULTS[fault]) for fault in said}

    assert {
        fault: (found.live, found.new)
        for fault, found in seen.items()
        if found.live not in said[fault].live.split(" or ")
        or found.new not in said[fault].new.split(" or ")
    } == {}
