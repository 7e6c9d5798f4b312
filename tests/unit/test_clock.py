"""Time and chance."""

from __future__ import annotations

import re
import statistics
import subprocess
import sys

from harness import clock
from harness.clock import Draws


def test_the_clock_has_a_name_that_another_process_gives_too():
    """
    Two programs on one boot read one clock, so their stamps compare.
    """
    code = "from harness.clock import clock_id; print(clock_id())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)

    assert other.stdout.strip() == clock.clock_id()


def test_the_monotonic_clock_has_one_reading_in_two_units():
    """
    Seconds and nanoseconds come from the same clock.
    """
    before, between, after = clock.now_ns(), clock.now(), clock.now_ns()

    assert before <= round(between * 1e9) + 1000
    assert round(between * 1e9) - 1000 <= after


def test_a_stamp_is_a_folder_name():
    """
    Date and time of day, sortable, without a character that a shell minds.
    """
    assert re.fullmatch(r"\d{8}-\d{6}", clock.stamp())


def test_fresh_ids_are_eight_hex_digits_and_differ():
    """
    Always the same length, so that two runs put the same number of bytes on the wire.
    """
    ids = {clock.fresh_id() for _ in range(100)}

    assert len(ids) == 100
    assert all(re.fullmatch(r"[0-9a-f]{8}", each) for each in ids)


def test_a_fresh_seed_is_short_enough_to_be_typed():
    """
    Six digits at most.
    """
    assert all(0 <= clock.fresh_seed() < 1_000_000 for _ in range(100))


def test_a_draw_belongs_to_its_place_not_to_the_order_of_drawing():
    """
    Drawing elsewhere first shifts nothing.
    """
    draws = Draws(7, "edge/latency/1/downstream")
    alone = Draws(7, "edge/latency/1/downstream").at(100)

    assert [draws.at(place) for place in (5, 100, 5)][1] == alone


def test_draws_differ_by_seed_path_and_place():
    """
    Nobody shares a stream by accident.
    """
    drawn = {
        Draws(seed, path).at(place)
        for seed in range(3)
        for path in ("a", "b", "c")
        for place in range(3)
    }

    assert len(drawn) == 27


def test_draws_keep_their_values_from_release_to_release():
    """
    A seed written down today makes the same run tomorrow.
    """
    assert Draws(7, "edge").at(0) == 0.3857708884053698


def test_draws_are_spread_evenly_over_zero_to_one():
    """
    Ten thousand draws lie in [0, 1), their mean near a half, every tenth about as full.
    """
    drawn = [Draws(7, "test").at(place) for place in range(10_000)]

    assert all(0 <= each < 1 for each in drawn)
    assert 0.48 < statistics.mean(drawn) < 0.52
    tenths = [sum(n <= each * 10 < n + 1 for each in drawn) for n in range(10)]
    assert min(tenths) > 900
    assert max(tenths) < 1100
