"""What faults share: their values, their complaints, their names, and that chains lose nothing."""

from __future__ import annotations

import inspect
import pickle
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.clock import Draws
from harness.errors import InvalidValue
from harness.faults.bandwidth import Bandwidth
from harness.faults.base import EOF, Fault, Piece, Pipe, Toxic
from harness.faults.latency import Latency
from harness.faults.limit_data import LimitData
from harness.faults.reset_peer import ResetPeer
from harness.faults.restart import Restart
from harness.faults.timeout import Timeout
from harness.registry import catalogue

FAULTS = catalogue("harness.faults", Fault)
TOXICS = [fault for fault in FAULTS.values() if issubclass(fault, Toxic)]
# What has no default, with a value that will do.
REQUIRED: dict[str, dict[str, Any]] = {
    "bandwidth": {"rate_kb_per_s": 1},
    "cpu_limit": {"cpus": 0.5},
    "descriptor_limit": {"descriptors": 64},
    "memory_limit": {"limit_bytes": 1 << 20},
    "latency": {"latency_ms": 1},
    "limit_data": {"limit_bytes": 1},
}


def test_the_catalogue_holds_the_faults_by_the_name_of_their_file():
    """
    A fault's type, its file and its name in the catalogue are one string.
    """
    assert {name: fault.type for name, fault in FAULTS.items()} == {name: name for name in FAULTS}
    assert {fault.__module__ for fault in FAULTS.values()} == {
        f"harness.faults.{name}" for name in FAULTS
    }


def test_the_toxics_have_the_names_toxiproxy_knows():
    """
    A toxic's type is Toxiproxy's word for it.
    """
    assert sorted(toxic.type for toxic in TOXICS) == [
        "bandwidth",
        "latency",
        "limit_data",
        "reset_peer",
        "timeout",
    ]


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_is_a_frozen_value(fault: type[Fault]):
    """
    Two faults with the same settings are equal, and none can be changed.
    """
    one = fault(**REQUIRED.get(fault.type, {}))

    assert one == fault(**one.settings())
    assert one == pickle.loads(pickle.dumps(one))
    with pytest.raises(FrozenInstanceError):
        one.type = "other"  # type: ignore[misc]


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_name_that_a_fault_does_not_know_is_refused_with_those_it_knows(fault: type[Fault]):
    """
    A slip of the pen is answered with the names to choose from, its own first.
    """
    known = [*inspect.signature(fault).parameters]
    own = [name for name in known if name not in ("stream", "toxicity")]
    takes = ", ".join(own + [name for name in known if name not in own]) or "nothing"

    with pytest.raises(InvalidValue) as caught:
        fault(latncy_ms=1, **REQUIRED.get(fault.type, {}))

    assert caught.value.headline == f"{fault.type}: 1 problem"
    assert caught.value.details == (("latncy_ms", f"unknown; {fault.type} takes {takes}"),)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_value_without_a_name_is_refused(fault: type[Fault]):
    """
    `Latency(200)` could be anything.
    """
    with pytest.raises(InvalidValue) as caught:
        fault(200, **REQUIRED.get(fault.type, {}))  # type: ignore[call-arg]

    assert caught.value.details[0][0] == "200"
    assert f"{fault.type} takes" in caught.value.details[0][1]


@pytest.mark.parametrize(
    ("fault", "name"),
    [(Latency, "latency_ms"), (Bandwidth, "rate_kb_per_s"), (LimitData, "limit_bytes")],
)
def test_what_makes_the_fault_bite_must_be_given(fault: type[Fault], name: str):
    """
    Without it nothing would be harmed, or everything, and nobody would have asked for either.
    """
    with pytest.raises(InvalidValue) as caught:
        fault()

    assert [label for label, _ in caught.value.details] == [name]
    assert caught.value.details[0][1].startswith(f"missing; {fault.type} takes {name}, ")
    assert fault(**{name: 0}).settings()[name] == 0


def test_only_faults_on_the_process_and_resets_need_more_than_a_proxy():
    """
    What an environment must be able to do stands with the fault.
    """
    assert {name: set(fault.needs) for name, fault in FAULTS.items() if fault.needs} == {
        "armed_reset": {"rst"},
        "cpu_limit": {"cpu_limit"},
        "descriptor_limit": {"descriptor_limit"},
        "disconnect": {"network"},
        "kill": {"process"},
        "memory_limit": {"memory_limit"},
        "pause": {"process"},
        "reset_peer": {"rst"},
        "restart": {"process"},
        "stop": {"process"},
    }


@pytest.mark.parametrize("toxic", TOXICS, ids=lambda toxic: toxic.type)
def test_a_toxic_survives_the_way_over_the_wire(toxic: type[Toxic]):
    """
    What is sent as attributes is read back as the same toxic.
    """
    numbers = {spec.name: 40 + n for n, spec in enumerate(toxic.wire_fields())}
    sent = toxic(stream="upstream", toxicity=0.5, **numbers)

    assert toxic.from_attributes(sent.attributes(), stream="upstream", toxicity=0.5) == sent


def test_the_attributes_carry_toxiproxys_names():
    """
    Units are in our names and not in Toxiproxy's.
    """
    assert Latency(latency_ms=3, jitter_ms=2).attributes() == {"latency": 3, "jitter": 2}
    assert Bandwidth(rate_kb_per_s=4).attributes() == {"rate": 4}
    assert Timeout(timeout_ms=5).attributes() == {"timeout": 5}
    assert LimitData(limit_bytes=6).attributes() == {"bytes": 6}
    assert ResetPeer(timeout_ms=7).attributes() == {"timeout": 7}


def test_absent_attributes_are_0_and_unknown_ones_are_ignored():
    """
    Toxiproxy reads bodies in the same way.
    """
    read = Latency.from_attributes({"jitter": 2, "colour": 3}, stream="upstream", toxicity=1.0)

    assert read == Latency(stream="upstream", latency_ms=0, jitter_ms=2)


@pytest.mark.parametrize("toxic", TOXICS, ids=lambda toxic: toxic.type)
def test_the_wire_may_leave_out_what_a_python_caller_must_give(toxic: type[Toxic]):
    """
    Toxiproxy takes a toxic without any attribute, so its clients may send one.
    """
    read = toxic.from_attributes({}, stream="downstream", toxicity=1.0)

    assert set(read.attributes().values()) == {0}


def test_all_complaints_about_a_toxic_come_at_once():
    """
    A bad name and four bad values, five complaints, each with what is allowed.
    """
    with pytest.raises(InvalidValue) as caught:
        Latency(colour=1, stream="sideways", toxicity=2, latency_ms=-1, jitter_ms=1.5)  # type: ignore[call-arg, arg-type]

    assert caught.value.headline == "latency: 5 problems"
    assert dict(caught.value.details) == {
        "colour": "unknown; latency takes latency_ms, jitter_ms, stream, toxicity",
        "stream": '"sideways" is not allowed; upstream or downstream',
        "toxicity": "2 is not allowed; 0 to 1",
        "latency_ms": "-1 is not allowed; a whole number, 0 or more",
        "jitter_ms": "1.5 is not allowed; a whole number, 0 or more",
    }


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), True, "0.5", None])
def test_a_toxicity_that_is_no_share_is_refused(value: Any):
    """
    A share is a number from 0 to 1; a truth value and a text are none.
    """
    with pytest.raises(InvalidValue, match="toxicity"):
        Latency(toxicity=value)


@pytest.mark.parametrize("value", [True, 2**63, "3", None, float("inf")])
def test_an_attribute_that_toxiproxy_could_not_keep_is_refused(value: Any):
    """
    Attributes are whole numbers of 64 bits.
    """
    with pytest.raises(InvalidValue, match="limit_bytes"):
        LimitData(limit_bytes=value)


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "3"])
def test_a_restart_wants_a_bound_above_zero(value: Any):
    """
    A daemon that never ends must be killed at some time.
    """
    with pytest.raises(InvalidValue, match="within_s"):
        Restart(within_s=value)


class Wire:
    """A chain of pipes, fed and asked as a relay would, with made-up times."""

    def __init__(self, pipes: list[Pipe]) -> None:
        self.pipes = pipes
        self.out: list[Piece] = []

    def receive(self, piece: Piece, now: float, at: int = 0) -> None:
        if at == len(self.pipes):
            self.out.append(piece)
        elif isinstance(piece, bytes):
            self.pipes[at].receive_data(piece, now)
        else:
            self.pipes[at].receive_eof(now)

    def advance(self, now: float) -> None:
        for at, pipe in enumerate(self.pipes):
            for piece in pipe.advance(now):
                self.receive(piece, now, at + 1)

    def remove(self, at: int, now: float) -> None:
        rest = self.pipes[at].drain()
        for piece in rest:
            self.receive(piece, now, at + 1)
        del self.pipes[at]

    def bytes_out(self) -> bytes:
        return b"".join(piece for piece in self.out if isinstance(piece, bytes))


delays = st.builds(Latency, latency_ms=st.integers(0, 300), jitter_ms=st.integers(0, 300))
rates = st.builds(Bandwidth, rate_kb_per_s=st.integers(0, 50))
steps = st.one_of(
    st.tuples(st.just("data"), st.binary(min_size=1, max_size=3000)),
    st.tuples(st.just("time"), st.floats(0, 2)),
    st.tuples(st.just("change"), st.one_of(delays, rates)),
    st.tuples(st.just("drain"), st.integers(0, 2)),
)


@given(
    toxics=st.lists(st.one_of(delays, rates), min_size=1, max_size=3),
    script=st.lists(steps, max_size=40),
    seed=st.integers(0, 10),
)
def test_no_chain_of_delays_and_rates_loses_or_swaps_a_byte(
    toxics: list[Toxic], script: list[tuple[str, Any]], seed: int
):
    """
    Whatever comes between, once all toxics are removed the bytes that went in have come out,
    in order, and after them one end.
    """
    pipes = [toxic.pipe(Draws(seed, str(at)), 0.0) for at, toxic in enumerate(toxics)]
    wire, kinds = Wire(pipes), [type(toxic) for toxic in toxics]
    sent, now = b"", 0.0
    for what, value in script:
        if what == "data":
            sent += value
            wire.receive(value, now)
        elif what == "time":
            now += value
            wire.advance(now)
        elif what == "change":
            for pipe, kind in zip(wire.pipes, kinds, strict=True):
                if kind is type(value):
                    pipe.change(value, now)
        elif value < len(wire.pipes):
            wire.remove(value, now)
            del kinds[value]
        assert sent.startswith(wire.bytes_out())
        held = sum(pipe.held_bytes for pipe in wire.pipes)
        assert held + len(wire.bytes_out()) == len(sent)

    wire.receive(EOF, now)
    while wire.pipes:
        wire.remove(0, now)

    assert wire.bytes_out() == sent
    assert wire.out.index(EOF) == len(wire.out) - 1


@given(
    toxic=st.one_of(delays, st.builds(Bandwidth, rate_kb_per_s=st.integers(1, 50))),
    chunks=st.lists(st.binary(min_size=1, max_size=3000), max_size=20),
)
def test_waiting_until_the_next_due_time_is_enough_to_get_everything_out(
    toxic: Toxic, chunks: list[bytes]
):
    """
    A relay that sleeps until `next_due` each time ends with all bytes delivered: no pipe
    names a time at which it then has nothing.
    """
    pipe = toxic.pipe(Draws(7, "test"), 0.0)
    for number, chunk in enumerate(chunks):
        pipe.receive_data(chunk, number / 100)
    pipe.receive_eof(len(chunks) / 100)

    out: list[Piece] = []
    while (due := pipe.next_due()) is not None:
        pieces = pipe.advance(due)
        assert pieces
        out += pieces

    assert out.pop() is EOF
    assert b"".join(piece for piece in out if isinstance(piece, bytes)) == b"".join(chunks)
