"""A build, followed: how it ends, and what is told of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import urllib3.exceptions

from harness.environment.containers import building
from harness.errors import EnvironmentFailed

STEP = {"stream": "Step 1/2 : FROM scratch\n"}
DONE = {"stream": "Successfully built 0123456789ab\n"}


class Said:
    """What a builder says, and whether somebody hung up."""

    def __init__(self, *events: Any) -> None:
        self._events = events
        self.hung_up = False

    def __iter__(self) -> Iterator[Any]:
        for event in self._events:
            if isinstance(event, Exception):
                raise event
            yield event

    def close(self) -> None:
        self.hung_up = True


def followed(said: Said) -> list[str]:
    """Its log; hung up on, however it ended."""
    try:
        return building.follow_build(said, "image x cannot be built", by_hand="docker build .")
    finally:
        assert said.hung_up


@pytest.mark.parametrize("end", [DONE, {"aux": {"ID": "sha256:01"}}], ids=["words", "id"])
def test_one_that_succeeds_gives_its_log(end: dict[str, Any]):
    """Builders say it in the one way or the other."""
    assert followed(Said(STEP, end))[0] == "Step 1/2 : FROM scratch"


@pytest.mark.parametrize(
    ("last", "why"),
    [
        ([{"error": "\x1b[31mno such file\x1b[0m"}], "no such file"),
        ([], "it was broken off"),
        ([urllib3.exceptions.HTTPError("late")], "the engine fell silent: late"),
    ],
    ids=["error", "end", "silence"],
)
def test_one_that_fails_says_why_with_the_end_of_its_log(last: list[Any], why: str):
    """An end without success is none."""
    with pytest.raises(EnvironmentFailed, match=f"image x cannot be built: {why}") as caught:
        followed(Said(STEP, *last))

    assert "FROM scratch" in str(caught.value)
    assert "docker build ." in str(caught.value)


def test_one_that_talks_for_ever_has_a_bound(monkeypatch: pytest.MonkeyPatch):
    """Silence is not the only way to take too long."""
    monkeypatch.setattr(building, "BUILD_WITHIN_S", -1)

    with pytest.raises(EnvironmentFailed, match="not done within -1 s"):
        followed(Said(STEP, DONE))
