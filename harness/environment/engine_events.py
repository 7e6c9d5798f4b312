"""
What the container engine tells of a run's containers, and what these say, into the run's record.

The engine stamps by its own wall clock, which orders nothing across clocks; so each record
carries the interval, on our clock, in which it was received.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, Final

from harness.clock import now_ns
from harness.environment.containers import RUN, Engine, Said
from harness.errors import EnvironmentFailed
from harness.history import Current, Recorder

__all__ = ["EngineEvents", "Sayings"]

_LAST_S: Final = 1.0
_CLOCK: Final = "wall:container-engine"
_LAST: Final = "destroy"
# A daemon that tells of every call would bury all else.
_MOST_LINES: Final = 1000


class EngineEvents:
    """
    The events of one run's containers, followed by a thread of its own until `close`.

    Args:
        engine: Who tells.
        run_id: Of which containers.
        recorder: Where they go.
    """

    def __init__(self, engine: Engine, run_id: str, recorder: Recorder) -> None:
        stream, self._hang_up = engine.events()
        self._run_id = run_id
        self._recorder = recorder
        # Its containers by their ids: of a network it is told which of these joined or left.
        self._names: dict[str, str] = {}
        self._heard = threading.Condition()
        self._destroyed: set[str] = set()
        self._over = False
        self._failed: EnvironmentFailed | None = None
        self._thread = threading.Thread(
            target=self._take, args=(stream,), name=f"events of {run_id}", daemon=True
        )
        self._thread.start()

    def _take(self, stream: Iterator[dict[str, Any]]) -> None:
        since_ns = now_ns()
        try:
            for event in stream:
                received_ns = now_ns()
                self._record(event, (since_ns, received_ns))
                since_ns = received_ns
        except EnvironmentFailed as error:
            self._failed = error
        finally:
            with self._heard:
                self._over = True
                self._heard.notify_all()
            self._hang_up()

    def _record(self, event: dict[str, Any], received_ns: tuple[int, int]) -> None:
        actor, action = event["Actor"], str(event["Action"])
        about = actor["Attributes"]
        if event["Type"] == "container" and about.get(RUN) == self._run_id:
            self._names[actor["ID"]] = str(about.get("name"))
        container = self._names.get(about.get("container") or actor["ID"])
        if container is None:
            return
        value: dict[str, Any] = {"container": container, "received_ns": list(received_ns)}
        if event["Type"] == "network":
            value["network"] = about.get("name")
        if "exitCode" in about:
            value["exit_code"] = int(about["exitCode"])
        if "signal" in about:
            value["signal"] = about["signal"]
        self._recorder.record(
            process="engine",
            type="info",
            f=action,
            value=value,
            time_ns=int(event["timeNano"]),
            clock=_CLOCK,
        )
        if action == _LAST:
            with self._heard:
                self._destroyed.add(container)
                self._heard.notify_all()

    def close(self, *, removed: str | None) -> None:
        """
        Follow no longer.

        Args:
            removed: A container that was removed: the event of that is waited for.

        Raises:
            EnvironmentFailed: If one could not be put on record: what is there is not all.
        """
        if removed is not None:
            with self._heard:
                self._heard.wait_for(lambda: self._over or removed in self._destroyed, _LAST_S)
        self._hang_up()
        self._thread.join(_LAST_S)
        if self._failed is not None:
            raise self._failed


class Sayings:
    """
    The lines that a container's program writes, as the engine received them.

    Args:
        process: Who says them: "daemon", "proxy" or "provider".
        recorder: Where they go.
        most: How many; of the rest it is noted once that it is in the log alone.
    """

    def __init__(self, process: str, recorder: Recorder, *, most: int = _MOST_LINES) -> None:
        self._process = process
        self._recorder = recorder
        self._left = self._most = most
        self._to: Recorder | None = None

    def __call__(self, said: Said, received_ns: tuple[int, int]) -> None:
        """Take one down."""
        if isinstance(self._recorder, Current) and self._recorder.to is not self._to:
            # Another test's.
            self._to, self._left = self._recorder.to, self._most
        if self._left < 0:
            return
        line = said.text.decode("utf-8", "replace").rstrip("\r\n")
        value: dict[str, Any] = {"line": line} if self._left else {"rest": "in its log alone"}
        self._left -= 1
        self._recorder.record(
            process=self._process,
            type="info",
            f="log",
            value={**value, "received_ns": list(received_ns)},
            time_ns=said.time_ns,
            clock=_CLOCK,
        )
