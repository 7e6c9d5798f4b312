"""
The proxy as a program: its API over HTTP.

The API is not the data path; here plainness counts, there (`relay`) speed does.
"""

from __future__ import annotations

import logging
import secrets

from harness.address import Address, refuse_remote
from harness.errors import EXIT_VALID, EnvironmentFailed
from harness.http.messages import Options, Request, Response
from harness.http.server import listen as listen_http
from harness.program import announce, stop_signal
from harness.proxy.api import Api
from harness.proxy.bodies import Answer, error
from harness.proxy.ports import reason

__all__ = ["serve"]

# From the first byte of a request to its last.
_READ_TIMEOUT_S = 15.0
_ANSWER_TIMEOUT_S = 25.0
_IDLE_TIMEOUT_S = 60.0
_WRITE_TIMEOUT_S = 30.0
_MAX_BODY_BYTES = 1 << 20

_log = logging.getLogger(__name__)


async def serve(listen: Address, *, seed: int, allow_remote: bool = False) -> int:
    """
    Serve the API until SIGTERM or SIGINT, then close every proxy.

    Prints `{"listening": "http://…"}` when it listens.

    Args:
        listen: Where the API listens; port 0 lets the system choose.
        seed: Root seed of jitter and toxicity.
        allow_remote: Whether anything but loopback may be listened on or connected to.

    Returns:
        0.

    Raises:
        TargetRefused: If `listen` is not loopback and remote targets are not allowed.
        EnvironmentFailed: If it cannot listen there.
    """
    refuse_remote(listen, what="the API's address", allow_remote=allow_remote)
    api = Api(seed=seed, allow_remote=allow_remote)
    stop = stop_signal()

    async def handle(request: Request) -> Response:
        return _response(await api.handle(request.method, request.target, request.body))

    try:
        listening = await listen_http(handle, listen.host, listen.port, options=_options())
    except OSError as failure:
        raise EnvironmentFailed(
            f"the proxy's API cannot listen on {listen}: {reason(failure)}",
            [("next", "end what listens there, or give another --port; --port 0 finds a free one")],
        ) from None
    address = Address(listening.host, listening.port)
    announce(f"http://{address}")
    _log.info("proxy: API on %s, seed %d", address, seed)
    await stop.wait()
    await api.close()
    await listening.close()
    return EXIT_VALID


def _options() -> Options:
    return Options(
        name="proxy",
        idle_timeout_s=_IDLE_TIMEOUT_S,
        read_timeout_s=_READ_TIMEOUT_S,
        answer_timeout_s=_ANSWER_TIMEOUT_S,
        write_timeout_s=_WRITE_TIMEOUT_S,
        max_body_bytes=_MAX_BODY_BYTES,
        refuse_browsers=True,
        failed=lambda status, text: _response(error(status, text)),
        every_answer=lambda: (("X-Toxiproxy-Request-Id", secrets.token_hex(10)),),
    )


def _response(answer: Answer) -> Response:
    return Response(answer.status, answer.body, answer.content_type)
