"""
What a session asks beside calls, and what is said to frames that are refused.

Rule: every refusal names the request it answers, as far as that could be read.
"""

from __future__ import annotations

import hmac

from harness.clock import now_ns, wall_ns
from harness.dialects import exai
from harness.dialects.exai import Fault, FrameError
from harness.refdaemon.calls import over_capacity
from harness.refdaemon.session import Session
from harness.refdaemon.state import State
from harness.refdaemon.telling import health_report
from harness.resilience.admission import Refused

__all__ = ["complain", "meet", "refuse_large", "refuse_limited", "reply", "same"]


def reply(state: State, session: Session, request: exai.Request, since_ns: int) -> None:
    """Answer what is no call."""
    match request:
        case exai.Ping(request_id):
            answer: exai.Reply = exai.Pong(request_id, wall_ns() / 1e9)
        case exai.Health(request_id):
            answer = exai.HealthRes(request_id, ok=True, health=health_report(state))
        case exai.ListTools(request_id):
            answer = exai.ListToolsRes(request_id, state.tools.listing())
        case exai.Cancel(request_id):
            answer = _cancelled(session, request_id)
            _count_error(state, answer.error)
        case exai.Reconfigure():
            answer = _reconfigured(state, request)
            _count_error(state, answer.error)
        case _:
            fault = Fault("INVALID_REQUEST", "hello was said already; a connection has one")
            _refuse_frame(state, session, None, fault)
            return
    session.send(answer, since_ns=since_ns)


def _cancelled(session: Session, request_id: str) -> exai.Cancelled:
    if session.calls.cancel(request_id):
        return exai.Cancelled(request_id, ok=True)
    fault = Fault("NOT_FOUND", "no call of this request_id is running in this session")
    return exai.Cancelled(request_id, ok=False, error=fault)


def _reconfigured(state: State, request: exai.Reconfigure) -> exai.Reconfigured:
    expected = state.config.server.admin_token
    if expected and same(request.token, expected):
        return state.configuring.by_request(request)
    message = "a change of the configuration needs the token of EXAI_WS_ADMIN_TOKEN"
    fault = Fault("UNAUTHORIZED", message)
    return exai.Reconfigured(request.request_id, ok=False, error=fault)


def meet(state: State, error: FrameError) -> None:
    """A frame that cannot be read is met by somebody's except; by a defect it is not."""
    if error.kind == "json" and "crash-on-array" in state.defects:
        raise error


def refuse_limited(
    state: State, session: Session, request: exai.Request, limited: Refused, received_ns: int
) -> None:
    """Refuse what came above a rate, in the words of its kind."""
    state.figures.counters.messages_limited += 1
    state.figures.limits[limited.limit] += 1
    fault = over_capacity(limited)
    if "uncorrelated-errors" in state.defects:
        _refuse_frame(state, session, None, fault)
    elif isinstance(request, exai.CallTool):
        session.calls.refuse(request.request_id, fault, received_ns)
    else:
        _refuse_frame(state, session, getattr(request, "request_id", None), fault)


def refuse_large(
    state: State, session: Session, head: bytes | str, found: int, received_ns: int
) -> None:
    """Refuse what nobody will read all of, `found` bytes, by what stands at its beginning."""
    said = exai.peek(head)
    allowed = state.config.server.max_call_bytes
    fault = Fault(
        "OVER_CAPACITY",
        f"a message of {found} bytes, allowed {allowed}",
        {"limit": "max_call_bytes", "found": found, "allowed": allowed, "retry_after_s": None},
    )
    state.figures.limits["max_call_bytes"] += 1
    if said.get("op") == "call_tool":
        session.calls.refuse(said.get("request_id"), fault, received_ns)
    else:
        _refuse_frame(state, session, said.get("request_id"), fault)


def complain(state: State, session: Session, error: FrameError, received_ns: int) -> None:
    """Answer a frame that is no request."""
    code = "INVALID_REQUEST" if error.kind == "op" else "VALIDATION_ERROR"
    fault = Fault(code, error.message)
    if error.op != "call_tool":
        _refuse_frame(state, session, error.request_id, fault)
        return
    state.figures.counters.frames_refused += 1
    state.figures.codes[fault.code] += 1
    answered_ns = now_ns()
    answer = exai.CallToolRes(
        error.request_id,
        ok=False,
        error=fault,
        received_ns=received_ns,
        answered_ns=answered_ns,
    )
    session.send(answer, since_ns=answered_ns)


def _count_error(state: State, fault: Fault | None) -> None:
    if fault is not None:
        state.figures.codes[fault.code] += 1


def _refuse_frame(state: State, session: Session, request_id: str | None, fault: Fault) -> None:
    state.figures.counters.frames_refused += 1
    state.figures.codes[fault.code] += 1
    session.send(exai.Error(request_id, fault), since_ns=now_ns())


def same(found: str | None, expected: str) -> bool:
    """Whether a token is the one that is expected; "" expects none."""
    # Compared in constant time, so that answers do not tell how much of it was right.
    return not expected or hmac.compare_digest((found or "").encode(), expected.encode())
