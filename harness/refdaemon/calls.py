"""
The calls of one session: admission, execution, effect, answer.

Rules:
- The effect is on file before the answer leaves, and nothing is awaited between the two, so
  that neither a cancel nor a lost connection can come in between.
- One key is one call: it runs once, and whoever asks for it gets what that came to.
- A connection that is lost does not cancel its calls: a daemon that had begun the work
  finishes it. Its effect is written, and its answer goes to the session's next connection.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

import msgspec

from harness.clock import now, now_ns
from harness.dialects.exai import CallTool, CallToolRes, Fault, Output, tool_name
from harness.refdaemon.keys import keys_of
from harness.refdaemon.tools import Result, Tool, ToolFailed
from harness.refdaemon.work import Asker, Work
from harness.resilience.admission import Refused
from harness.resilience.idempotency import GONE, Kept

if TYPE_CHECKING:
    from harness.refdaemon.session import Session
    from harness.refdaemon.state import State

__all__ = ["Calls", "over_capacity"]

log = logging.getLogger(__name__)

_RAN_BEFORE: Final = "it ran, and what it came to is kept no longer"
_OTHER_CALL: Final = "this key, or request id, was used for another call of this session"


def over_capacity(refused: Refused) -> Fault:
    """The error of what was not let in: which limit, and when to come again."""
    return Fault(
        "OVER_CAPACITY",
        str(refused),
        {
            "limit": refused.limit,
            "found": refused.found,
            "allowed": refused.allowed,
            "retry_after_s": refused.retry_after_s,
        },
    )


class Calls:
    """
    Runs one session's calls, side by side.

    Args:
        state: The daemon's.
        session: Whose calls these are; answers go there.
    """

    __slots__ = ("_asked", "_session", "_state", "_tools", "keys")

    def __init__(self, state: State, session: Session) -> None:
        self._state = state
        self._session = session
        self._tools = state.tools.by_name
        self.keys = keys_of(state)
        # By the request ids that wait for them.
        self._asked: dict[str, Work] = {}

    def take(self, call: CallTool, received_ns: int, size: int) -> None:
        """
        Refuse a call, run it, or start it; it is answered in any case.

        Args:
            call: What came.
            received_ns: When it was read.
            size: How long its frame was, in bytes.
        """
        state = self._state
        tool = self._tools.get(call.name) or self._tools.get(tool_name(call.name))
        if tool is None or not call.request_id or state.draining:
            self.refuse(call.request_id, self._inadmissible(call), received_ns)
            return
        try:
            arguments = tool.decode(call.arguments)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            fault = Fault("VALIDATION_ERROR", f"arguments: {error}")
            self.refuse(call.request_id, fault, received_ns)
            return
        key = call.key or call.request_id
        kept = self.keys.find(key)
        if kept is not None:
            self._again(kept, call, arguments, received_ns)
        elif tool.plain is None:
            self._start(tool, call, arguments, key, received_ns, size)
        else:
            began_ns = now_ns()
            answer: str | Fault
            try:
                result = tool.plain(arguments)
            # As for those that take their time: its connection has others on it.
            except Exception as error:  # noqa: BLE001
                answer = self._broke(tool, error)
            else:
                answer = self._carried_out(tool, call, result)
            answered_ns = now_ns()
            state.figures.ran(began_ns - received_ns, answered_ns - began_ns)
            size += _weight(answer)
            self.keys.keep(Kept(key, arguments, answer, answered_ns / 1e9, size))
            self._answer(call.request_id, answer, received_ns, began_ns, answered_ns)

    def refuse(self, request_id: str | None, fault: Fault, received_ns: int) -> None:
        """Answer a call that does not run."""
        self._state.figures.counters.calls_refused += 1
        self._answer(request_id, fault, received_ns, None, now_ns())

    def _refuse_other(self, call: CallTool, received_ns: int) -> None:
        """Its key, or its request id, is another call's."""
        fault = Fault("INVALID_REQUEST", _OTHER_CALL, {"key": call.key or call.request_id})
        self.refuse(call.request_id, fault, received_ns)

    def cancel(self, request_id: str) -> bool:
        """
        Answer a request that waits with CANCELLED; the tool ends where nobody else waits.

        Returns:
            Whether a request of that id was waiting.
        """
        work = self._asked.get(request_id)
        if work is None:
            return False
        self._state.figures.counters.calls_cancelled += 1
        fault = Fault("CANCELLED", "the call was cancelled before its tool was done")
        self._leave(work, request_id, fault)
        return True

    def cancel_all(self) -> None:
        """End every running call."""
        for request_id in list(self._asked):
            self.cancel(request_id)

    def _inadmissible(self, call: CallTool) -> Fault:
        """Why a call cannot be let in, whatever its arguments are."""
        if not call.request_id:
            return Fault("VALIDATION_ERROR", "request_id is empty; a call needs one of its own")
        if self._state.draining:
            return Fault("SERVICE_UNAVAILABLE", "the daemon is shutting down")
        return Fault("TOOL_NOT_FOUND", "no tool of that name", {"requested_tool": call.name})

    def _again(self, kept: Kept, call: CallTool, arguments: Any, received_ns: int) -> None:
        """A key that is known: wait for it with others, or be told what it came to."""
        if kept.answer is not GONE and kept.what != arguments:
            self._refuse_other(call, received_ns)
            return
        if kept.answer is None:
            work = next(each for each in self._asked.values() if each.kept is kept)
            if self._asked.get(call.request_id, work) is work:
                self._ask(work, call, received_ns)
            else:
                self._refuse_other(call, received_ns)
            return
        self._state.metrics.client(self._session.name).deduplicated()
        self._state.figures.counters.calls_replayed += 1
        answer = kept.answer
        if answer is GONE:
            answer = Fault("RESULT_GONE", _RAN_BEFORE, {"key": kept.name})
        self._answer(call.request_id, answer, received_ns, None, now_ns(), replayed=True)

    def _start(
        self, tool: Tool, call: CallTool, arguments: Any, key: str, received_ns: int, size: int
    ) -> None:
        state = self._state
        if call.request_id in self._asked:
            self._refuse_other(call, received_ns)
            return
        refused = state.admission.begin(self._session.name)
        if refused is not None:
            state.figures.limits[refused.limit] += 1
            self.refuse(call.request_id, over_capacity(refused), received_ns)
            return
        limit_s = state.config.server.call_timeout_s
        if call.timeout_ms is not None:
            limit_s = min(limit_s, call.timeout_ms / 1000)
        work = Work(
            session=self._session,
            call=call,
            tool=tool,
            arguments=arguments,
            kept=self.keys.begin(key, arguments),
            size=size,
            deadline_s=now() + limit_s,
        )
        self._ask(work, call, received_ns)
        work.task = asyncio.get_running_loop().create_task(self._run(work))
        state.running.add(work.task)
        # Not in the task: one that is cancelled before it began never runs a line of it.
        work.task.add_done_callback(lambda task: self._ended(work, task))
        self._beat(work)
        if "serial-connection" in state.defects and self._session.line is not None:
            self._session.line.wait_for(work.task)

    def _ask(self, work: Work, call: CallTool, received_ns: int) -> None:
        """One more waits for it; or the same one again, from now on."""
        before = work.askers.get(call.request_id)
        if before is not None:
            # One answer is for both.
            self._state.figures.counters.calls_replayed += 1
            if before.overdue is not None:
                before.overdue.cancel()
        asker = work.askers[call.request_id] = Asker(received_ns=received_ns)
        self._asked[call.request_id] = work
        if call.timeout_ms is not None:
            asker.overdue = asyncio.get_running_loop().call_later(
                call.timeout_ms / 1000, self._overdue, work, call.request_id, call.timeout_ms
            )

    def _leave(self, work: Work, request_id: str, fault: Fault) -> None:
        """One waits no longer; the last one takes the call with it."""
        asker = work.askers.pop(request_id)
        del self._asked[request_id]
        if asker.overdue is not None:
            asker.overdue.cancel()
        # Who came to a call that ran had it begin as he came.
        began_ns = max(work.began_ns, asker.received_ns) if work.began_ns else None
        if not work.askers:
            # First: who has the answer may call again at once.
            self._free(work)
        self._answer(request_id, fault, asker.received_ns, began_ns, now_ns())
        if not work.askers:
            self.keys.forget(work.kept)
            work.stop()

    def _overdue(self, work: Work, request_id: str, timeout_ms: float) -> None:
        self._state.figures.counters.calls_timed_out += 1
        message = f"not done within the caller's {timeout_ms} ms"
        self._leave(work, request_id, Fault("TIMEOUT", message, {"timeout_ms": timeout_ms}))

    async def _run(self, work: Work) -> None:
        work.began_ns = now_ns()
        limit_s = self._state.config.server.call_timeout_s
        assert work.tool.coroutine is not None
        try:
            async with asyncio.timeout(limit_s) as bound:
                result = await work.tool.coroutine(work.arguments, work)
        except ToolFailed as failed:
            fault = Fault(failed.code, str(failed), failed.details)
            if "poisoned-key" in self._state.defects:
                began_ns = work.began_ns
                self._answer(work.call.request_id, fault, began_ns, began_ns, now_ns())
                return
            self._settle(work, fault, keep=False)
        # A tool that is none of ours may raise anything; its callers must learn of it.
        except Exception as error:  # noqa: BLE001
            if bound.expired():
                message = f"not done within {limit_s:g} s"
                fault = Fault("TIMEOUT", message, {"timeout_ms": limit_s * 1000})
                self._settle(work, fault, keep=False)
                return
            self._settle(work, self._broke(work.tool, error), keep=True)
        else:
            if work.askers:
                self._settle(work, self._carried_out(work.tool, work.call, result), keep=True)

    def _settle(self, work: Work, answer: str | Fault, *, keep: bool) -> None:
        """Tell all who wait what it came to; remember it, where it counts as done."""
        if not work.askers:
            # The last one left: its key is free, and may be another's by now.
            return
        figures, answered_ns = self._state.figures, now_ns()
        # First: who has the answer may call again at once.
        self._free(work)
        if keep:
            self.keys.done(work.kept, answer, size=work.size + _weight(answer))
        else:
            self.keys.forget(work.kept)
        first = True
        for request_id, asker in work.askers.items():
            answers = request_id
            if "swapped-replies" in self._state.defects:
                answers = next(iter(self._asked))
            del self._asked[request_id]
            if first:
                waited_ns = work.began_ns - asker.received_ns
                figures.ran(max(0, waited_ns), answered_ns - work.began_ns)
                if not keep:
                    self._count_failure(answer)
            else:
                figures.counters.calls_replayed += 1
            self._answer(
                answers,
                answer,
                asker.received_ns,
                max(work.began_ns, asker.received_ns),
                answered_ns,
                replayed=not first,
            )
            first = False
        work.ended()
        work.askers.clear()

    def _count_failure(self, answer: str | Fault) -> None:
        counters = self._state.figures.counters
        if isinstance(answer, Fault) and answer.code == "TIMEOUT":
            counters.calls_timed_out += 1
        else:
            counters.calls_failed += 1

    def _ended(self, work: Work, task: asyncio.Task[None]) -> None:
        """The task is over, however: its place is free."""
        self._state.running.discard(task)
        work.ended()
        self._free(work)

    def _free(self, work: Work) -> None:
        lost = not work.askers or self._session.line is None
        if lost and "leaked-slot" in self._state.defects:
            return
        if work.in_flight:
            work.in_flight = False
            self._state.admission.ended(self._session.name)

    def _beat(self, work: Work) -> None:
        """Tell of a call that takes long, again and again."""
        if work.began_ns and work.askers and "silent-work" not in self._state.defects:
            work.still_running()
        interval_s = self._state.config.server.progress_interval_s
        work.heartbeat = asyncio.get_running_loop().call_later(interval_s, self._beat, work)

    def _broke(self, tool: Tool, error: Exception) -> Fault:
        """A tool raised. It may have done anything before: it is not run again for its key."""
        log.error("tool %s: failed", tool.name, exc_info=error)
        self._state.figures.counters.calls_failed += 1
        return Fault("INTERNAL_ERROR", f"the tool broke: {type(error).__name__}")

    def _carried_out(self, tool: Tool, call: CallTool, result: Result) -> str | Fault:
        """Put what a tool did on file; what its callers are told."""
        counters, effects = self._state.figures.counters, self._state.effects
        if effects is not None:
            try:
                effects.write(tool.name, call, self._session.name, result.value)
            except OSError as error:
                log.warning("effect log: a line could not be written, %s", error.strerror)
                counters.calls_failed += 1
                return Fault("INTERNAL_ERROR", "the effect log could not be written")
        if result.failed:
            counters.calls_failed += 1
            return Fault("TOOL_EXECUTION_ERROR", result.text)
        counters.calls_executed += 1
        return result.text

    def _answer(
        self,
        request_id: str | None,
        answer: str | Fault,
        received_ns: int,
        began_ns: int | None,
        answered_ns: int,
        *,
        replayed: bool = False,
    ) -> None:
        if isinstance(answer, str):
            ok, outputs, fault = True, [Output("text", answer)], None
        else:
            ok, outputs, fault = False, [], answer
            self._state.figures.codes[answer.code] += 1
        # By position: that is what the hot path can afford.
        reply = CallToolRes(
            request_id, ok, outputs, fault, received_ns, began_ns, answered_ns, replayed
        )
        self._session.send(reply, since_ns=answered_ns)


def _weight(answer: str | Fault) -> int:
    """About what an answer takes of memory, in bytes."""
    return len(answer) if isinstance(answer, str) else 200
