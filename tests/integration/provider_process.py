"""
The stand-in provider as a real process, and somebody who asks it.

Every wait is bounded by `PATIENCE_S`.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from harness.address import Address, address_of_url
from harness.clock import now
from harness.http.client import Answer, exchange
from harness.records import Execution, read_lines

PATIENCE_S = 10.0


class ProviderProcess:
    """A running provider."""

    def __init__(self, process: asyncio.subprocess.Process, url: str, executions: Path) -> None:
        self.process = process
        self.url = url
        self.address: Address = address_of_url(url, schemes=("http",))
        self.executions_file = executions

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Anything at all."""
        async with asyncio.timeout(PATIENCE_S):
            return await exchange(
                self.address, method, path, body=body, headers=headers, max_bytes=1 << 20
            )

    async def chat(
        self, prompt: str, *, key: str | None = None, deadline_ms: int | None = None, **more: Any
    ) -> Answer:
        """Ask it something; `more` goes into the body."""
        headers = {} if key is None else {"Idempotency-Key": key}
        headers |= {} if deadline_ms is None else {"X-Deadline-Ms": str(deadline_ms)}
        body = json.dumps({"prompt": prompt, **more}).encode()
        return await self.request("POST", "/v1/chat", body=body, headers=headers)

    async def health(self) -> dict[str, Any]:
        """What it says of itself."""
        answer = await self.request("GET", "/health")
        assert answer.status == 200
        report: dict[str, Any] = json.loads(answer.body)
        return report

    async def health_when(self, figure: str, value: int) -> dict[str, Any]:
        """The first report in which a figure has a value."""
        deadline = now() + PATIENCE_S
        while (report := await self.health())[figure] != value:
            assert now() < deadline, report
        return report

    def executions(self) -> list[Execution]:
        """What is on file; a torn line fails."""
        records, tail = read_lines(self.executions_file.read_bytes(), Execution)
        assert tail == b""
        return records

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it; its exit code."""
        self.process.send_signal(number)
        async with asyncio.timeout(PATIENCE_S):
            return await self.process.wait()


@asynccontextmanager
async def provider_process(
    folder: Path, *arguments: str, port: int = 0, variables: Mapping[str, str] | None = None
) -> AsyncIterator[ProviderProcess]:
    """A provider of one's own with a log of executions, killed at the end if it still runs."""
    executions, log = folder / "executions.jsonl", folder / "provider.log"
    command = [sys.executable, "-m", "harness.refdaemon.provider", "--port", str(port)]
    with log.open("ab") as stderr:
        process = await asyncio.create_subprocess_exec(
            *(*command, "--executions", str(executions), *arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
            env={**os.environ, **(variables or {})},
        )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE_S):
            line = await process.stdout.readline()
        assert line, log.read_text()
        yield ProviderProcess(process, json.loads(line)["listening"], executions)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
