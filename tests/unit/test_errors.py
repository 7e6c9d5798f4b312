"""What an error says, and what it proves."""

from __future__ import annotations

import pytest

from harness import errors
from harness.errors import OUTCOMES, CallFailed, ConnectFailed, HarnessError, ProxyError, outcome_of

TABLE = {
    "TOOL_EXECUTION_ERROR": "ok",
    "RESULT_GONE": "ok",
    "VALIDATION_ERROR": "fail",
    "INVALID_REQUEST": "fail",
    "UNAUTHORIZED": "fail",
    "NOT_FOUND": "fail",
    "TOOL_NOT_FOUND": "fail",
    "OVER_CAPACITY": "fail",
    "SERVICE_UNAVAILABLE": "fail",
    "breaker_open": "fail",
    "connection_refused": "fail",
    "not_connected": "fail",
    "out_of_step": "fail",
    "TIMEOUT": "info",
    "PROVIDER_ERROR": "info",
    "INTERNAL_ERROR": "info",
    "PROTOCOL_ERROR": "info",
    "CANCELLED": "info",
    "DUPLICATE": "info",
    "time_limit": "info",
    "connection_lost": "info",
    "cancelled": "info",
}


@pytest.mark.parametrize(("kind", "outcome"), TABLE.items())
def test_each_kind_proves_what_the_table_says(kind: str, outcome: str):
    """
    The table is written out twice on purpose: a change of what an error proves is never a slip.
    """
    assert outcome_of(kind) == outcome


def test_the_table_holds_no_kind_that_is_not_tested():
    """
    A new kind needs its row here.
    """
    assert set(OUTCOMES) == set(TABLE)


@pytest.mark.parametrize("kind", ["", "NEVER_HEARD_OF", "unauthorized", "Time_Limit"])
def test_an_unknown_kind_proves_nothing(kind: str):
    """
    What is not in the table may have happened; case counts.
    """
    assert outcome_of(kind) == "info"


def test_a_headline_without_details_stands_alone():
    """
    No rows, one line.
    """
    assert str(HarnessError("no port is free")) == "no port is free"


def test_details_stand_in_two_columns():
    """
    Labels are padded to the longest, and a text of several lines stays under its own column.
    """
    error = HarnessError("it broke", [("at", "here"), ("log tail", "one\ntwo"), ("next", "")])

    assert str(error).splitlines() == [
        "it broke",
        "  at        here",
        "  log tail  one",
        "            two",
        "  next      ",
    ]


def test_an_error_of_a_call_carries_which_call_and_how_long():
    """
    Kind, request and time are fields, not only words.
    """
    error = CallFailed("no", kind="OVER_CAPACITY", request_id="c-1", elapsed_ms=1.5)

    assert (error.kind, error.request_id, error.elapsed_ms) == ("OVER_CAPACITY", "c-1", 1.5)
    assert ConnectFailed("no", kind="refused").kind == "refused"
    assert (ProxyError("no", status=404, text="x").status, ProxyError("no").status) == (404, None)


def test_every_error_is_one_of_ours():
    """
    One base catches all that this project raises on purpose.
    """
    raised = [getattr(errors, name) for name in errors.__all__]
    classes = [each for each in raised if isinstance(each, type) and issubclass(each, Exception)]

    assert len(classes) == 16
    assert all(issubclass(each, HarnessError) for each in classes)


def test_the_exit_codes_differ():
    """
    A verdict of "unknown" is never mistaken for a usage error.
    """
    codes = [getattr(errors, name) for name in errors.__all__ if name.startswith("EXIT_")]

    assert sorted(codes) == [0, 1, 2, 3, 64]
