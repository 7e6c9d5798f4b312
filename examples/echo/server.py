"""An echo server: what comes in goes out."""

import asyncio
import sys

from websockets.asyncio.server import serve


async def echo(connection):
    async for message in connection:
        await connection.send(message)


async def main(host, port):
    async with serve(echo, host, port) as server:
        await server.serve_forever()


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
