"""What a dialect is that defines no more than it must."""

from __future__ import annotations

from typing import Any

import pytest

from harness.dialects.base import Answer, Dialect, Incoming, Kind
from harness.dialects.exai import Exai
from harness.dialects.plain import Plain
from harness.errors import InvalidValue

KINDS: tuple[Kind, ...] = ("tools", "health", "pong", "cancel")


class Least(Dialect):
    """The least there is to a dialect."""

    name = "least"

    def call(
        self, *, request_id: str, tool: str | bytes, arguments: dict[str, Any], key: str | None
    ) -> str:
        return f"{request_id} {tool!r}"

    def receive(self, frame: bytes | str) -> Incoming:
        return Answer(kind="call", request_id=None)


def test_a_name_a_call_and_receive_are_enough():
    """
    No hello, no questions, many at a time, nothing to compare.
    """
    least = Least()

    assert least.hello(token="t", session_id=None) is None
    assert (least.questions, least.one_at_a_time) == (frozenset(), False)
    assert least.fingerprint({"pid": 1}) == {}


@pytest.mark.parametrize("missing", ["name", "call", "receive"])
def test_less_is_no_dialect(missing: str):
    """
    Python says so when one is made, and names what is missing.
    """
    defined = {k: v for k, v in vars(Least).items() if k in {"name", "call", "receive"} - {missing}}
    short = type("Short", (Dialect,), defined)

    with pytest.raises(TypeError, match=missing):
        short()


@pytest.mark.parametrize("kind", KINDS)
def test_a_question_it_does_not_have_is_the_callers_mistake(kind: Kind):
    """
    The error names the dialect and the question.
    """
    with pytest.raises(InvalidValue, match=f'dialect "least" has no such question: {kind}'):
        Least().ask(kind, "1")


@pytest.mark.parametrize("dialect", [Exai(), Plain(), Least()])
def test_the_questions_it_names_are_those_it_can_ask(dialect: Dialect):
    """
    No more and no fewer, so that whoever wants to ask can see it before.
    """

    def can(kind: Kind) -> bool:
        try:
            return bool(dialect.ask(kind, "1"))
        except InvalidValue:
            return False

    assert {kind for kind in KINDS if can(kind)} == dialect.questions


def test_a_language_is_the_same_whoever_made_it():
    """
    Two daemons that speak it are equal, so tests can share one.
    """
    assert Exai() == Exai()
    assert hash(Plain()) == hash(Plain())
    assert Exai() != Plain()
