"""A certificate of one's own, servers that show it, and a relay that passes bytes on."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.address import Address

__all__ = ["NAME", "Certificate", "relay", "self_signed"]

NAME = "daemon.example"


@dataclass(frozen=True)
class Certificate:
    """A self-signed certificate for `NAME`, localhost and 127.0.0.1, in PEM form."""

    file: Path
    key: Path

    def server(self, asked: list[str | None] | None = None) -> ssl.SSLContext:
        """A context to serve it with; notes the name that each client asks for (SNI)."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file, self.key)
        if asked is not None:
            context.sni_callback = lambda connection, name, _: asked.append(name)
        return context


def self_signed(folder: Path) -> Certificate:
    """Make one with the `openssl` command; skips the test where there is none."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl command to make a certificate with")
    made = Certificate(folder / "certificate.pem", folder / "key.pem")
    command = [
        *("openssl", "req", "-x509", "-nodes", "-days", "2", "-subj", f"/CN={NAME}"),
        *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
        *("-addext", f"subjectAltName=DNS:{NAME},DNS:localhost,IP:127.0.0.1"),
        *("-addext", "keyUsage=critical,digitalSignature,keyCertSign"),
        *("-keyout", str(made.key), "-out", str(made.file)),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    return made


@asynccontextmanager
async def relay(url: str) -> AsyncIterator[tuple[Address, list[asyncio.StreamWriter]]]:
    """
    Passes bytes on to the port of a URL, both ways.

    Yields:
        Its address, and the connections it accepted.
    """
    accepted: list[asyncio.StreamWriter] = []
    opened: list[asyncio.StreamWriter] = []

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                writer.write(data)
        except OSError:
            pass
        writer.close()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.append(writer)
        there, back = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        opened.append(back)
        await asyncio.gather(copy(reader, back), copy(there, writer))

    server = await asyncio.start_server(pass_on, "127.0.0.1", 0)
    try:
        yield Address(*server.sockets[0].getsockname()), accepted
    finally:
        server.close()
        for writer in (*accepted, *opened):
            writer.transport.abort()
        await server.wait_closed()
