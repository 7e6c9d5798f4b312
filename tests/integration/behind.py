"""
A daemon with a provider behind it, both as small as can be, for tests of the hop between them.

Their programs are texts, so that a container that has none of our tests runs them, too.
"""

from __future__ import annotations

from dataclasses import replace

from harness.daemons.base import Container, Daemon, Provider
from harness.daemons.command import Command
from harness.daemons.reference import IMAGE
from harness.dialects.plain import Plain
from harness.environment.base import Environment

__all__ = ["PATIENCE_S", "asking", "connected", "provider"]

PATIENCE_S = 2.0
"""How long the daemon waits for its provider, in seconds, where a test does not say it."""

_PROVIDER = """
import hashlib, json, os, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

host, port, file = sys.argv[1], int(sys.argv[2]), sys.argv[3]
done = open(file, "ab", buffering=0)
count = 0

class Handler(BaseHTTPRequestHandler):
    # Kept open: what swallows an answer then swallows all there is.
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(200 if self.path == "/health" else 404, b"")

    def do_POST(self):
        global count
        asked = self.rfile.read(int(self.headers["Content-Length"]))
        count += 1
        line = dict(sequence=count, time_ns=time.monotonic_ns(), clock="own", pid=os.getpid())
        line["key"] = json.loads(asked)["prompt"]
        line["digest"] = hashlib.blake2b(asked, digest_size=8).hexdigest()
        done.write(json.dumps(line).encode() + b"\\n")
        self.answer(200, b"said " + line["key"].encode())

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

ThreadingHTTPServer((host, port), Handler).serve_forever()
"""

_DAEMON = """
import asyncio, http.client, json, sys
from websockets.asyncio.server import serve

host, port, behind, patience_s = sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4])

def ask(text):
    connection = http.client.HTTPConnection(behind, timeout=patience_s)
    try:
        connection.request("POST", "/v1/chat", body=json.dumps(dict(prompt=text)))
        return connection.getresponse().read().decode()
    except OSError as error:
        return f"failed: {error!r}"
    finally:
        connection.close()

async def handle(connection):
    async for text in connection:
        # What is said to the daemon alone goes no further.
        said = text if text == "ping" else await asyncio.to_thread(ask, text)
        await connection.send(said)

async def main():
    async with serve(handle, host, port):
        await asyncio.get_running_loop().create_future()

asyncio.run(main())
"""

_LISTEN = ("{host}", "{port}")


def provider(**changes: object) -> Provider:
    """An HTTP server that answers a POST, after it wrote that down."""
    words = ("-c", _PROVIDER, *_LISTEN, "{executions}")
    made = Provider(
        template=("{python}", *words),
        container=Container(image=IMAGE, port=8090, command=("python3", *words)),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def asking(behind: Provider | None = None, *, patience_s: float = PATIENCE_S) -> Daemon:
    """A daemon that asks its provider each message but "ping", and says what came of it."""
    words = ("-c", _DAEMON, *_LISTEN, "{provider}", str(patience_s))
    return Command(
        template=("{python}", *words),
        dialect=Plain(),
        container=Container(image=IMAGE, port=9000, command=("python3", *words)),
        provider=behind or provider(),
    )


async def connected(here: Environment) -> list[int | None]:
    """The connections that the proxy to the provider told of, so far."""
    await here.collect()
    behind = here.stack.behind
    assert behind is not None
    of_hop = [event for event in here.events if event.proxy == behind.hop.proxy]
    return [event.connection for event in of_hop if event.kind == "opened"]
