"""
Hashes of a message a second: what recognising a repetition by its content costs.

    python -m tests.benchmarks.test_hash_performance [--rounds N]

A message of 150 bytes, hashed and told in hex. The must: 241,843 a second with SHA-256.
"""

from __future__ import annotations

import hashlib
import sys
from typing import Final

import pytest

from tests.benchmarks import isolated
from tests.benchmarks.isolated import WORDS, Effort, Must

MUST_PER_S: Final = 241_843
LINES: Final = ("sha256", "blake2b", "md5", "xxhash", "must: SHA-256")

_MESSAGE: Final = b'{"op":"call_tool","request_id":"00000001","name":"echo"}'.ljust(150, b" ")


def run(effort: Effort) -> int:
    """Measure and tell; returns 1 if the must is missed."""
    candidates = {
        name: isolated.looped(
            "make(message).hexdigest()", make=getattr(hashlib, name), message=_MESSAGE
        )
        for name in ("sha256", "blake2b", "md5")
    }
    xxhash = isolated.peer("xxhash")
    if xxhash is not None:
        candidates["xxhash"] = isolated.looped(
            "make(message).hexdigest()", make=xxhash.xxh3_64, message=_MESSAGE
        )
    figures = isolated.measure(candidates, effort)
    isolated.tell(
        figures,
        measured="one digest in hex of the same 150 bytes, and the loop around it",
        effort=effort,
        against="sha256",
    )
    rate = figures["sha256"].a_second()
    return isolated.judge(
        [Must(name="SHA-256 of 150 bytes", figure=rate, unit="a second", least=MUST_PER_S)]
    )


def test_it_says_what_it_measures(capsys: pytest.CaptureFixture[str]):
    """
    Every figure has its line, and the words are there.
    """
    run(Effort(rounds=1, slice_ms=0.01))

    told = capsys.readouterr().out
    assert all(line in told for line in (WORDS, *LINES))


if __name__ == "__main__":
    sys.exit(isolated.main("test_hash_performance", __doc__, run))
