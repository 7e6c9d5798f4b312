"""
The traffic of the tests with the reference daemon, held against docs/protocol.schema.json.

Every reply must fit, and so must every request that was answered as one: what a test sends in order
to be refused need not. A frame that does not fit fails the test that met it. How many were held is
told at the end; where the whole tier ran and it was none, that fails.

Foreign daemons, made-up ones and those with a defect switched on are not held to it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import jsonschema_rs
import msgspec
import pytest

from harness.client.reply import shortened
from harness.daemons.base import Daemon
from harness.daemons.reference import Reference
from harness.dialects.base import Incoming, Kind
from harness.dialects.exai import Exai

__all__ = ["HELD", "SCHEMA", "Conversation", "Held", "HeldExai", "Misfit", "is_whole", "schema_of"]

ROOT: Final = Path(__file__).resolve().parents[1]
PAGE: Final = "docs/protocol.schema.json"
SCHEMA: Final[dict[str, Any]] = json.loads((ROOT / PAGE).read_text())

_FRAME_SHOWN: Final = 600
_WHY_SHOWN: Final = 200
_DEFECT: Final = "--defect"
_PROPERTY: Final = "frames held"
_TIER: Final = Path("tests/integration")
_DIRECTIONS: Final = ("request", "reply")
# Which request a reply answers. An `error` does not say.
_ANSWERED: Final = {
    "call_tool_res": "call_tool",
    "progress": "call_tool",
    "stream_chunk": "call_tool",
    "list_tools_res": "list_tools",
    "pong": "ping",
    "health_res": "health",
    "cancelled": "cancel",
    "reconfigured": "reconfigure",
    "hello_ack": "hello",
}
_MEANWHILE: Final = ("progress", "stream_chunk")
_OF_ARGUMENTS: Final = "arguments: "


class Misfit(AssertionError):
    """A frame does not fit the schema."""


def schema_of(name: str) -> dict[str, Any]:
    """The part of the page's schema of that name."""
    return {"$schema": SCHEMA["$schema"], "$defs": SCHEMA["$defs"], "$ref": f"#/$defs/{name}"}


def _ops(direction: str) -> list[str]:
    return [each["$ref"].rpartition("/")[2] for each in SCHEMA["$defs"][direction]["oneOf"]]


# Each by its op: what a frame is meant to be is told better than what else it is not either.
_VALIDATORS: Final = {
    direction: {op: jsonschema_rs.validator_for(schema_of(op)) for op in _ops(direction)}
    for direction in _DIRECTIONS
}


class Held:
    """
    Frames that were held, and what did not fit.

    Attributes:
        count: How many frames.
        misfits: What is wrong, for people; taken away by `judge`.
    """

    def __init__(self) -> None:
        self.count = 0
        self.misfits: list[str] = []
        self._tokens: set[str] = set()
        # A test may receive the same frame a hundred thousand times.
        self._last: dict[str, tuple[bytes | str | None, dict[str, Any]]] = dict.fromkeys(
            _DIRECTIONS, (None, {})
        )
        # Sessions live on several loops.
        self._lock = threading.Lock()

    def reply(self, frame: bytes | str) -> dict[str, Any]:
        """Hold what the daemon sent; what it says, {} where that cannot be read."""
        return self._hold(frame, "reply")

    def request(self, frame: bytes | str) -> dict[str, Any]:
        """Hold what a client sent, and meant to be understood."""
        return self._hold(frame, "request")

    def judge(self) -> None:
        """
        Say what did not fit since the last time.

        Raises:
            Misfit: If anything did not.
        """
        with self._lock:
            found, self.misfits = self.misfits, []
        if found:
            raise Misfit("\n".join(found))

    def _hold(self, frame: bytes | str, direction: str) -> dict[str, Any]:
        with self._lock:
            self.count += 1
        last, found = self._last[direction]
        if frame == last:
            return found
        try:
            value = msgspec.json.decode(frame)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            self._misfit(f"a {direction} is no JSON: {error}", {}, frame)
            return {}
        if not isinstance(value, dict):
            self._misfit(f"a {direction} is no JSON object", {}, frame)
            return {}
        if isinstance(token := value.get("token"), str) and token:
            self._tokens.add(token)
        op = value.get("op")
        validator = _VALIDATORS[direction].get(op) if isinstance(op, str) else None
        if validator is None:
            rows = {"schema": f"#/$defs/{direction}"}
            self._misfit(f"a {direction} has an op that {PAGE} does not know", rows, frame)
        elif not validator.is_valid(value):
            wrong = next(iter(validator.iter_errors(value)))
            rows = {
                "where": "/".join(["$", *map(str, wrong.instance_path)]),
                "schema": "/".join(["#", *map(str, wrong.schema_path)]),
                "why": shortened(self._hidden(wrong.message), room=_WHY_SHOWN),
            }
            self._misfit(f"a {op} does not fit {PAGE}", rows, frame)
        else:
            self._last[direction] = frame, value
        return value

    def _misfit(self, what: str, rows: Mapping[str, str], frame: bytes | str) -> None:
        text = frame if isinstance(frame, str) else frame.decode(errors="replace")
        shown = shortened(self._hidden(text), room=_FRAME_SHOWN)
        lines = [f"  {name:<7} {said}" for name, said in {**rows, "frame": shown}.items()]
        with self._lock:
            self.misfits.append("\n".join([what, *lines]))

    def _hidden(self, text: str) -> str:
        for token in self._tokens:
            # As it stands in JSON, too, whose writers differ.
            written = [json.dumps(token, ensure_ascii=each)[1:-1] for each in (True, False)]
            for form in (token, *written):
                text = text.replace(form, "***")
        return text


HELD: Final = Held()
"""All that the tests of this process exchange with reference daemons."""


class Conversation:
    """
    One connection that a test speaks on by hand: replies, and the requests they answer.

    Args:
        held: Where frames are held.
    """

    def __init__(self, held: Held = HELD) -> None:
        self._held = held
        self._asked: dict[tuple[str, str | None], list[bytes | str]] = {}

    def sent(self, frame: bytes | str) -> None:
        """A message of ours, good or bad."""
        try:
            value = msgspec.json.decode(frame)
            key = value["op"], value.get("request_id")
            self._asked.setdefault(key, []).append(frame)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError, KeyError):
            # Nothing that can be answered by its id.
            return

    def received(self, frame: bytes | str) -> None:
        """A message of the daemon's."""
        reply = self._held.reply(frame)
        op = reply.get("op")
        asked = self._asked.get((_ANSWERED.get(str(op), ""), reply.get("request_id")))
        if not asked or op in _MEANWHILE:
            return
        if _not_understood(reply):
            # What is refused is answered at once, before those that run.
            asked.pop()
        else:
            self._held.request(asked.pop(0))


def _not_understood(reply: Mapping[str, Any]) -> bool:
    if reply["op"] == "hello_ack":
        return not reply.get("ok")
    error = reply.get("error")
    if reply["op"] != "call_tool_res" or not isinstance(error, dict):
        return False
    words = str(error.get("message"))
    # The schema of requests does not know what the arguments of a tool must be.
    return error.get("code") == "VALIDATION_ERROR" and not words.startswith(_OF_ARGUMENTS)


class HeldExai(Exai):
    """The op dialect, with every frame held. It is equal to the one it stands for."""

    held = HELD

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Exai)

    def __hash__(self) -> int:
        return hash(Exai)

    def hello(self, *, token: str | None, session_id: str | None) -> bytes:
        frame = super().hello(token=token, session_id=session_id)
        self.held.request(frame)
        return frame

    def call(
        self, *, request_id: str, tool: str | bytes, arguments: dict[str, Any], key: str | None
    ) -> bytes:
        frame = super().call(request_id=request_id, tool=tool, arguments=arguments, key=key)
        self.held.request(frame)
        return frame

    def ask(self, kind: Kind, request_id: str) -> bytes:
        frame = super().ask(kind, request_id)
        self.held.request(frame)
        return frame

    def receive(self, frame: bytes | str) -> Incoming:
        self.held.reply(frame)
        return super().receive(frame)


def _held_from_now_on(daemon: Reference) -> None:
    """In the place of `Reference.__post_init__`: its clients' frames are held."""
    if type(daemon.dialect) in (Exai, HeldExai):
        dialect = Exai() if _DEFECT in daemon.options else HeldExai()
        object.__setattr__(daemon, "dialect", dialect)
    Daemon.__post_init__(daemon)


class Counts:
    """Tells at the end how many frames were held, in the process that tells of the session."""

    def __init__(self, config: pytest.Config) -> None:
        self._whole = is_whole(config)
        self._told = {"setup": 0, "call": 0, "teardown": 0}

    @property
    def _count(self) -> int:
        return sum(self._told.values())

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        held = dict(report.user_properties).get(_PROPERTY, {})
        self._told[report.when] += held.get(report.when, 0)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if self._whole and not self._count and exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self._whole or self._count:
            line = f"frames held against {PAGE}: {self._count:,}"
            terminalreporter.write_line(line, red=not self._count)


def is_whole(config: pytest.Config) -> bool:
    """Whether all of the integration tier is asked for; with --inert it is one toxic's tests."""
    told = ("keyword", "markexpr", "collectonly", "inert")
    chosen = any(config.getoption(name, None) for name in told)
    wanted = (config.rootpath / _TIER).resolve()
    asked = [(config.invocation_params.dir / each).resolve() for each in config.args]
    return not chosen and any(each == wanted or each in wanted.parents for each in asked)


def pytest_configure(config: pytest.Config) -> None:
    Reference.__post_init__ = _held_from_now_on  # type: ignore[method-assign]
    # The workers of pytest-xdist report to their controller.
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Counts(config), "frames held")


def _judged(item: pytest.Item, when: str) -> Iterator[None]:
    before = HELD.count
    try:
        result = yield
    except (KeyboardInterrupt, pytest.exit.Exception):
        raise
    except BaseException as error:
        try:
            HELD.judge()
        except Misfit as misfit:
            raise misfit from error
        raise
    finally:
        item.user_properties.append((_PROPERTY, {when: HELD.count - before}))
    HELD.judge()
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    return (yield from _judged(item, "setup"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    return (yield from _judged(item, "call"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    return (yield from _judged(item, "teardown"))
