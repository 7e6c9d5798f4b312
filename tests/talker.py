"""A stranger's daemon for containers: it sends back what it hears, and says so in its log."""

from __future__ import annotations

from typing import Any

from harness.daemons.base import Container
from harness.daemons.container import Containerized
from harness.daemons.reference import IMAGE
from harness.dialects.plain import Plain
from harness.environment.base import Environment

__all__ = ["TALKER", "said_back", "talking"]

TALKER = """
import asyncio
from websockets.asyncio.server import serve

async def talk(connection):
    async for message in connection:
        print(f"heard {message}", flush=True)
        await connection.send(message)

async def main():
    async with serve(talk, "0.0.0.0", 9000):
        print("talker is up", flush=True)
        await asyncio.Future()

asyncio.run(main())
"""
"""Its program. Tests change a line of it where they need one that errs."""


def talking(program: str = TALKER, **more: Any) -> Containerized:
    """It, or one made from it, in our own image."""
    container = Container(image=IMAGE, port=9000, command=("python3", "-c", program))
    return Containerized(container=container, dialect=Plain(), **more)


async def said_back(here: Environment, word: str) -> str | None:
    """What it answers, asked once by a client that comes for that alone."""
    async with here.client() as client:
        return (await client.call(word)).text
