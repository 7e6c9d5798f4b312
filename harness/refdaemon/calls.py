"""
The calls of one connection: admission, execution, effect, answer.

Rule: the effect is on file before the answer leaves, and nothing is awaited between
the two, so that neither a cancel nor a lost connection can come in between.

A connection that is lost does not cancel its calls: a daemon that had begun the
work finishes it. Its effect is written and its answer has nowhere to go.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import msgspec

from harness.clock import now_ns
from harness.dialects.exai import CallTool, CallToolRes, Fault, Output, ProgressFrame, tool_name
from harness.refdaemon.state import State
from harness.refdaemon.tools import Report, Result, Tool

__all__ = ["Calls"]

log = logging.getLogger(__name__)


class Calls:
    """
    Runs one connection's calls, side by side.

    Args:
        state: The daemon's.
        session: Whose calls these are.
        send: Sends a reply to the caller; may be called after the connection is gone.
    """

    def __init__(self, state: State, session: str, send: Callable[[Any], None]) -> None:
        self._state = state
        self._session = session
        self._send = send
        self._running: dict[str, asyncio.Task[None]] = {}

    def take(self, call: CallTool, received_ns: int) -> None:
        """Refuse a call, run it, or start it; it is answered in any case."""
        fault = self._inadmissible(call)
        if fault is not None:
            self._refuse(call, fault, received_ns)
            return
        tools = self._state.tools.by_name
        tool = tools.get(call.name) or tools.get(tool_name(call.name))
        if tool is None:
            fault = Fault("TOOL_NOT_FOUND", "no tool of that name", {"requested_tool": call.name})
            self._refuse(call, fault, received_ns)
            return
        try:
            arguments = msgspec.convert(call.arguments, tool.arguments)
        except msgspec.ValidationError as error:
            self._refuse(call, Fault("VALIDATION_ERROR", f"arguments: {error}"), received_ns)
            return
        if tool.plain is not None:
            self._finish(tool, call, tool.plain(arguments), received_ns)
        else:
            self._start(tool, call, arguments, received_ns)

    def cancel(self, request_id: str) -> bool:
        """
        End a running call and answer it with CANCELLED.

        Returns:
            Whether a call of that id was running.
        """
        task = self._running.pop(request_id, None)
        if task is None:
            return False
        # Answered here and not in the task: one that never began to run sees no cancellation.
        task.cancel()
        self._state.counters.calls_cancelled += 1
        fault = Fault("CANCELLED", "the call was cancelled before its tool was done")
        self._send(CallToolRes(request_id, ok=False, error=fault, answered_ns=now_ns()))
        return True

    def cancel_all(self) -> None:
        """End every running call."""
        for request_id in list(self._running):
            self.cancel(request_id)

    def _inadmissible(self, call: CallTool) -> Fault | None:
        if not call.request_id:
            return Fault("VALIDATION_ERROR", "request_id is empty; a call needs one of its own")
        if self._state.draining:
            return Fault("SERVICE_UNAVAILABLE", "the daemon is shutting down")
        if call.request_id in self._running:
            return Fault("DUPLICATE", "a call of this request_id is running on this connection")
        return None

    def _refuse(self, call: CallTool, fault: Fault, received_ns: int) -> None:
        self._state.counters.calls_refused += 1
        self._answer_fault(call, fault, received_ns)

    def _start(self, tool: Tool, call: CallTool, arguments: Any, received_ns: int) -> None:
        task = asyncio.get_running_loop().create_task(self._run(tool, call, arguments, received_ns))
        self._running[call.request_id] = task
        self._state.running.add(task)
        task.add_done_callback(self._state.running.discard)

    async def _run(self, tool: Tool, call: CallTool, arguments: Any, received_ns: int) -> None:
        assert tool.coroutine is not None
        mine = asyncio.current_task()
        try:
            result = await tool.coroutine(arguments, self._reporter(call.request_id))
        finally:
            # Cancelled and answered already: the id may be another call's by now.
            is_current = self._running.get(call.request_id) is mine
            if is_current:
                del self._running[call.request_id]
        if is_current:
            self._finish(tool, call, result, received_ns)

    def _reporter(self, request_id: str) -> Report:
        def report(progress: float, total: float, message: str) -> None:
            self._send(ProgressFrame(request_id, progress, total, message))

        return report

    def _finish(self, tool: Tool, call: CallTool, result: Result, received_ns: int) -> None:
        """Write the effect, then answer."""
        counters = self._state.counters
        effects = self._state.effects
        if effects is not None:
            try:
                effects.write(tool.name, call, self._session, result.value)
            except OSError as error:
                log.warning("effect log: a line could not be written, %s", error.strerror)
                counters.calls_failed += 1
                fault = Fault("INTERNAL_ERROR", "the effect log could not be written")
                self._answer_fault(call, fault, received_ns)
                return
        if result.failed:
            counters.calls_failed += 1
            self._answer_fault(call, Fault("TOOL_EXECUTION_ERROR", result.text), received_ns)
            return
        counters.calls_executed += 1
        outputs = [Output("text", result.text)]
        self._send(CallToolRes(call.request_id, True, outputs, None, received_ns, now_ns()))  # noqa: FBT003 - positions are what the hot path can afford

    def _answer_fault(self, call: CallTool, fault: Fault, received_ns: int) -> None:
        self._send(
            CallToolRes(
                call.request_id,
                ok=False,
                error=fault,
                received_ns=received_ns,
                answered_ns=now_ns(),
            )
        )
