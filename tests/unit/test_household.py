"""What a run leaves to its reaper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.environment import household as module
from harness.environment.household import Household


class Told:
    """A reaper that only listens."""

    def __init__(self) -> None:
        self.orders: list[str] = []

    def __getattr__(self, order: str) -> Any:
        return lambda *_: self.orders.append(order)


@pytest.mark.parametrize("stays", [False, True])
async def test_a_process_that_does_not_end_is_left_to_the_reaper(
    stays: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """Where all have ended it has nothing to do any more."""
    monkeypatch.setattr(module, "_MOST_SWEEPS", 2)
    monkeypatch.setattr(module, "end_all", lambda _: [1] if stays else [])
    reaper: Any = Told()
    household = Household(directory=tmp_path / "run", reaper=reaper)
    household.open()
    await household.close()

    assert ("settle" in reaper.orders) is not stays
