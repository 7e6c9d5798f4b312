"""
What faults share, and what they may act upon.

A `Fault` is a value. A `Toxic` is a fault on the wire: it goes through the
proxy's API, whichever proxy is there, and in our own proxy it also makes the
`Pipe` that does the harm. All other faults act on the proxy's listener, or on the
program behind it: on the edge the daemon, on the hop to its provider that.

No socket and no clock here: pipes are handed bytes with the time they arrived.

Rule: a change of a chain loses no byte that a toxic did not mean to lose.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from enum import Enum
from functools import wraps
from inspect import get_annotations
from math import inf
from typing import Any, ClassVar, Final, Literal, Protocol, Self, TypeVar, dataclass_transform

from harness.clock import Draws
from harness.errors import InvalidValue

__all__ = [
    "EOF",
    "RESET",
    "End",
    "Fault",
    "Piece",
    "Pipe",
    "Stream",
    "Target",
    "Touch",
    "Toxic",
    "above_zero",
    "fault",
    "wire",
]

T = TypeVar("T", bound="Fault")

Stream = Literal["upstream", "downstream"]
STREAMS: Final[tuple[Stream, ...]] = ("upstream", "downstream")


class End(Enum):
    """How a stream ends."""

    EOF = "eof"
    RESET = "reset"


EOF: Final = End.EOF
RESET: Final = End.RESET

Piece = bytes | End
"""What leaves a pipe: bytes, or the end."""


class Target(Protocol):
    """
    What one injection may act upon: a proxy, and the program at the far end of its hop. Its
    environment makes one for each `inject`.

    Every method is bounded in time and raises `EnvironmentFailed` or `ProxyError`
    where it could not do its part.
    """

    async def add_toxic(self, toxic: Toxic) -> None:
        """Put this injection's toxic on the wire."""

    async def remove_toxic(self) -> None:
        """Take this injection's toxic off, and read back that it is gone."""

    async def close_link(self) -> None:
        """Refuse new connections and close the live ones."""

    async def open_link(self) -> None:
        """Accept connections again, and read back that it is so."""

    async def pause_program(self) -> None:
        """Freeze the processes of the program."""

    async def resume_program(self) -> None:
        """Let them go on."""

    async def kill_program(self) -> None:
        """End them at once."""

    async def stop_program(self, *, within_s: float) -> None:
        """Ask them to end; kill them after that many seconds."""

    async def start_program(self) -> None:
        """Start the program where it does not run, and wait until it is ready."""

    async def disconnect_program(self) -> None:
        """Cut it off its network."""

    async def connect_program(self) -> None:
        """Put it back, with its old address."""

    async def limit_program(
        self,
        *,
        memory_bytes: int | None = None,
        cpus: float | None = None,
        descriptors: int | None = None,
    ) -> None:
        """Tighten those of its limits that are given."""

    async def unlimit_program(self) -> None:
        """Put its usual limits back, but for those that other faults have tightened."""


@dataclass(frozen=True, kw_only=True)
class Fault(ABC):
    """
    A harm that can be put on and taken off. Each kind is a class under `@fault`.

    Attributes:
        type: The kind's name, which is its file's.
        needs: What an environment must be able to do for it: words of
            `environment.abilities`, "process" for instance, or "rst".
    """

    type: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    async def inject(self, target: Target) -> None:
        """Put it on."""

    @abstractmethod
    async def lift(self, target: Target) -> None:
        """Take it off."""

    def settings(self) -> dict[str, Any]:
        """Its fields, for the history."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def complaints(cls, values: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Why there can be no such fault: rows of a name and what is wrong with it."""
        known = {f.name: f for f in fields(cls)}
        unknown = [(name, f"unknown; {cls.takes()}") for name in values if name not in known]
        required = [n for n, f in known.items() if f.default is f.default_factory is MISSING]
        missing = [(name, f"missing; {cls.takes()}") for name in required if name not in values]
        return unknown + missing

    @classmethod
    def takes(cls) -> str:
        """The names it takes, its own first, in a phrase."""
        own = get_annotations(cls)
        names = sorted((f.name for f in fields(cls)), key=lambda name: name not in own)
        return f"{cls.type} takes {', '.join(names) or 'nothing'}"


@dataclass(frozen=True, kw_only=True)
class Touch:
    """
    What a pipe did to some bytes: the proxy's side of the evidence.

    Attributes:
        kind: `delayed`, `dropped`, `cut` (the stream ended here) or `reset`.
        bytes: How many.
    """

    kind: Literal["delayed", "dropped", "cut", "reset"]
    bytes: int


class Pipe(ABC):
    """
    One toxic on one direction of one connection.

    Bytes and the end go in with the time they arrived, in seconds; `advance` gives
    out what is due. After an `End` came out, nothing more does.

    Attributes:
        touches: What happened since somebody last emptied this list.
        held_bytes: How much it keeps back at the moment.
        hold_limit_bytes: Above this it wants no more until something left.
    """

    hold_limit_bytes: ClassVar[int] = 64 * 1024

    def __init__(self) -> None:
        self.touches: list[Touch] = []
        self.held_bytes = 0

    @abstractmethod
    def receive_data(self, data: bytes, now: float) -> None:
        """Take bytes that arrived at `now`."""

    @abstractmethod
    def receive_eof(self, now: float) -> None:
        """Take the end of the stream."""

    @abstractmethod
    def next_due(self) -> float | None:
        """When `advance` will have something, None if not by waiting alone."""

    @abstractmethod
    def advance(self, now: float) -> list[Piece]:
        """What is due at `now`, in order."""

    @abstractmethod
    def change(self, toxic: Any, now: float) -> None:
        """Go on with other attributes; what is held obeys them from now on."""

    @abstractmethod
    def drain(self) -> list[Piece]:
        """Give up everything that is held, in order: the toxic is being removed."""

    @property
    def full(self) -> bool:
        """Whether it should be fed no more for now."""
        return self.held_bytes >= self.hold_limit_bytes

    def touch(self, kind: Literal["delayed", "dropped", "cut", "reset"], size: int) -> None:
        """Note what was done to `size` bytes."""
        self.touches.append(Touch(kind=kind, bytes=size))


def above_zero(
    values: Mapping[str, Any], name: str, unit: str, kind: type = float
) -> list[tuple[str, str]]:
    """What is wrong with a number that must be above 0; nothing, where it is not given."""
    value = values.get(name, 1)
    kinds = (int, float) if kind is float else (int,)
    if type(value) in kinds and 0 < value < inf:
        return []
    return [(name, f"{value!r} is not allowed; {unit}, more than 0")]


def wire(name: str, *, default: Any = MISSING) -> Any:
    """
    A field that Toxiproxy knows as the attribute `name`: a whole number, 0 or more.

    Our fields carry their unit in the name, Toxiproxy's attributes do not. Without a
    default a caller must give it; on the wire an absent one is 0, as with Toxiproxy.
    """
    return field(default=default, metadata={"wire": name})


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(wire,))
def fault(cls: type[T]) -> type[T]:
    """
    Make a class a kind of fault: a frozen dataclass that takes its values by name.

    Whatever is wrong with them is raised at once as `InvalidValue`, unknown and missing
    names included.
    """
    made = dataclass(frozen=True, kw_only=True)(cls)
    init: Callable[..., None] = made.__init__

    @wraps(init)
    def checked(self: object, *nameless: object, **values: Any) -> None:
        rows = [(repr(value), f"stands without a name; {made.takes()}") for value in nameless]
        rows += made.complaints(values)
        if rows:
            problems = "1 problem" if len(rows) == 1 else f"{len(rows)} problems"
            raise InvalidValue(f"{made.type}: {problems}", rows)
        init(self, **values)

    made.__init__ = checked  # type: ignore[method-assign]
    return made


@dataclass(frozen=True, kw_only=True)
class Toxic(Fault):
    """
    A fault on one direction of the wire.

    Args:
        stream: "upstream" (client to daemon) or "downstream" (replies). On the hop to its
            provider the daemon is the client.
        toxicity: The share of connections it affects, 0 to 1. In our proxy the draw
            hangs on seed, toxic, connection and direction; Toxiproxy cannot be seeded.

    Raises:
        InvalidValue: If a value is out of range; all complaints at once.
    """

    stream: Stream = "downstream"
    toxicity: float = 1.0

    @classmethod
    def complaints(cls, values: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Also those about values that are out of range."""
        rows = super().complaints(values)
        stream, toxicity = values.get("stream", "downstream"), values.get("toxicity", 1.0)
        if stream not in STREAMS:
            rows.append(("stream", f'"{stream}" is not allowed; upstream or downstream'))
        if type(toxicity) not in (int, float) or not 0 <= toxicity <= 1:
            rows.append(("toxicity", f"{toxicity!r} is not allowed; 0 to 1"))
        for spec in cls.wire_fields():
            value = values.get(spec.name, 0)
            # Toxiproxy keeps these as int64 and refuses fractions.
            if type(value) is not int or not 0 <= value < 2**63:
                rows.append((spec.name, f"{value!r} is not allowed; a whole number, 0 or more"))
        return rows

    @classmethod
    def wire_fields(cls) -> list[Field[Any]]:
        """The fields that are Toxiproxy attributes, in wire order."""
        return [f for f in fields(cls) if "wire" in f.metadata]

    def attributes(self) -> dict[str, int]:
        """The attributes as Toxiproxy's API wants them."""
        return {f.metadata["wire"]: getattr(self, f.name) for f in self.wire_fields()}

    @classmethod
    def from_attributes(
        cls, attributes: dict[str, int], *, stream: Stream, toxicity: float
    ) -> Self:
        """
        Read what the API was sent. Absent attributes are 0, unknown ones are ignored.

        Raises:
            InvalidValue: If a value is out of range.
        """
        values: dict[str, Any] = {
            f.name: attributes.get(f.metadata["wire"], 0) for f in cls.wire_fields()
        }
        return cls(stream=stream, toxicity=toxicity, **values)

    @abstractmethod
    def pipe(self, draws: Draws, now: float) -> Pipe:
        """What does the harm on one direction of one connection, from `now` on."""

    async def inject(self, target: Target) -> None:
        """Add it to the proxy."""
        await target.add_toxic(self)

    async def lift(self, target: Target) -> None:
        """Remove it from the proxy."""
        await target.remove_toxic()
