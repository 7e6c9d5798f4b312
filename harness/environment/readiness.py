"""
Waiting until programs are ready, with errors that tell why they are not.

Ready means an answer from the program itself, on its own address: a completed hello
of the daemon, a word of the proxy that names its process, a provider's answer to a GET. A
port that accepts proves nothing, and has to do only for a provider that speaks no HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from harness.address import Address
from harness.clock import now
from harness.daemons.base import Daemon, Provider
from harness.environment.dialling import session_with
from harness.environment.processes import Program, Started
from harness.errors import ConnectFailed, ProgramExited, ProxyError, StartTimeout
from harness.http.client import exchange
from harness.proxy.control import Control

__all__ = ["answers", "daemon_ready", "provider_ready", "proxy_ready"]

_POLL_S: Final = 0.02
_LOOK_S: Final = 0.05
_MAX_ANSWER_BYTES: Final = 1 << 20
_HOPELESS: Final = ("unauthorized", "tls")
_HINTS: Final = {"rejected": "check the path, the headers, the subprotocols and the token"}
_NO_HELLO: Final = "hello was sent and never answered"


async def proxy_ready(control: Control, program: Program, *, within_s: float) -> None:
    """
    Wait until our own proxy process answers; whoever else listens there is not it.

    Raises:
        ProgramExited: If it ends instead.
        StartTimeout: If it does not answer in time.
    """

    async def ask(_: float) -> str | None:
        try:
            about = await control.about()
        except ProxyError as error:
            return error.headline
        if about.pid == program.pid:
            return None
        return f"process {about.pid} answers instead of {program.pid}"

    await answers(ask, program, where=control.url, within_s=within_s)


async def answers(
    ask: Callable[[float], Awaitable[str | None]], program: Started, *, where: str, within_s: float
) -> None:
    """
    Wait until a proxy server answers.

    Args:
        ask: Asks it, within so many seconds; None, or why it has not answered.
        program: Whose answer it must be.
        where: Where it is asked.
        within_s: The bound of all, in seconds.

    Raises:
        ProgramExited: If it ends instead.
        StartTimeout: If it does not answer in time.
    """
    what = f"the proxy did not answer within {within_s:g} s"
    await _until(ask, program, what=what, where=where, within_s=within_s)


async def daemon_ready(daemon: Daemon, address: Address, program: Started) -> None:
    """
    Wait until the daemon answers hello on its own address.

    Raises:
        ConnectFailed: If it answers and refuses our token, or we its certificate.
        ProgramExited: If it ends instead.
        StartTimeout: If it does not within `daemon.start_timeout_s`.
    """

    hint = ""

    async def ask(within_s: float) -> str | None:
        nonlocal hint
        probe = session_with(daemon, address, process="probe", open_timeout_s=max(0.05, within_s))
        try:
            async with probe:
                return None
        except ConnectFailed as error:
            # Waiting turns no wrong token into a right one, and no certificate either.
            if error.kind in _HOPELESS:
                raise
            if _NO_HELLO in error.headline:
                hint = (
                    f'does it speak the dialect "{daemon.dialect.name}"? "plain" is any WebSocket'
                )
            # A try near the end has no time to learn anything.
            elif error.kind != "timeout":
                hint = _HINTS.get(error.kind, "")
            return error.headline

    within_s = daemon.start_timeout_s
    what = f'daemon "{daemon.type}" was not ready within {within_s:g} s'
    # A query may hold what is nobody's business.
    where = f"{address}{daemon.path.partition('?')[0]}"
    await _until(ask, program, what=what, where=where, within_s=within_s, hint=lambda: hint)


async def provider_ready(
    provider: Provider,
    address: Address,
    program: Started,
    *,
    silent: Callable[[], Awaitable[bool]],
) -> None:
    """
    Wait until the provider answers a GET of its `ready_path` with 200, on its own address.

    Args:
        provider: Which.
        address: Where.
        program: Its process or container.
        silent: Whether nobody listens there, as the kernel tells; for one without a path.

    Raises:
        ProgramExited: If it ends instead.
        StartTimeout: If it does not within `provider.start_timeout_s`.
    """
    path = provider.ready_path

    async def ask(within_s: float) -> str | None:
        try:
            async with asyncio.timeout(max(_LOOK_S, within_s)):
                if path is not None:
                    return await _status_of(address, path)
                await _accepts(address)
                # What forwards ports accepts for a program that is not there.
                return "nobody listens" if await silent() else None
        except TimeoutError:
            return "no answer"
        except OSError as error:
            return f"{type(error).__name__}: {error.strerror or error}"

    within_s = provider.start_timeout_s
    what = f"the provider was not ready within {within_s:g} s"
    where = f"{address}{(path or '').partition('?')[0]}"
    await _until(ask, program, what=what, where=where, within_s=within_s)


async def _accepts(address: Address) -> None:
    _, writer = await asyncio.open_connection(address.host, address.port)
    writer.close()


async def _status_of(address: Address, path: str) -> str | None:
    """What is wrong with the answer to a GET; None: it is 200."""
    answer = await exchange(address, "GET", path, max_bytes=_MAX_ANSWER_BYTES)
    return None if answer.status == 200 else f"status {answer.status}"


async def _until(
    ask: Callable[[float], Awaitable[str | None]],
    program: Started,
    *,
    what: str,
    where: str,
    within_s: float,
    hint: Callable[[], str] = str,
) -> None:
    """Ask until the answer is None, the program ends or the time is over."""
    deadline = now() + within_s
    tries = 0
    while True:
        tries += 1
        found = await _answer(ask, program, deadline=deadline)
        if found is None:
            return
        seen = now()
        rows = [("command", " ".join(program.command)), ("log tail", program.tail())]
        if not program.alive:
            raise ProgramExited(
                f"the {program.name} {program.state} before it was ready",
                [("address", where), *rows, program.next_step()],
            )
        if seen >= deadline:
            raise StartTimeout(
                what,
                [
                    ("address", f"{where} ({_who(program)} {program.state})"),
                    ("last try", f"{found}, {now() - seen:.1f} s ago, number {tries}"),
                    *rows,
                    *([("next", hint())] if hint() else []),
                    program.next_step(),
                ],
            )
        await asyncio.sleep(_POLL_S)


async def _answer(
    ask: Callable[[float], Awaitable[str | None]], program: Started, *, deadline: float
) -> str | None:
    """
    What becomes of one question, which is given up where the program ends meanwhile: on a
    network of its own nobody refuses us when it is gone.
    """
    asking = asyncio.ensure_future(ask(deadline - now()))
    try:
        while not asking.done():
            await asyncio.wait({asking}, timeout=_LOOK_S)
            if not program.alive and not asking.done():
                return "it ended meanwhile"
        return asking.result()
    finally:
        if not asking.done():
            asking.cancel()
            await asyncio.wait({asking})


def _who(program: Started) -> str:
    kind, name = next(iter(program.identity.items()))
    return f"{'process' if kind == 'pid' else kind} {name}"
