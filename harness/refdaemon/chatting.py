"""
The provider as the tool `chat` has it: behind its breaker, within its budget.

Imported only where there is a provider: HTTP and what goes with it take a while to load.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from harness.clock import now
from harness.refdaemon.asking import Provider, ProviderFailed
from harness.refdaemon.tools import Context, ToolFailed
from harness.resilience.backoff import RetryBudget
from harness.resilience.breaker import Breaker
from harness.resilience.config import Config

__all__ = ["Chatting"]


class Chatting:
    """
    Args:
        config: Where the provider is, and how it is asked.
        breaker: The provider's.
        allow_remote: Whether it may be on another machine.
        refused: Told the breaker's name each time it lets nothing through.
        defects: Those of the daemon.

    Raises:
        TargetRefused: If it is, and may not be.
    """

    def __init__(
        self,
        config: Config,
        *,
        breaker: Breaker,
        allow_remote: bool,
        refused: Callable[[str], None],
        defects: frozenset[str] = frozenset(),
    ) -> None:
        self._breaker = breaker
        self._defects = defects
        self._budget = RetryBudget(config.retry)
        self._provider = Provider(
            config.provider.url,
            clock=now,
            breaker=breaker,
            budget=self._budget,
            settings=config.provider,
            retry=config.retry,
            allow_remote=allow_remote,
            refused=refused,
        )

    def adopt(self, config: Config) -> None:
        """Go by other values from the next attempt on."""
        self._budget.adopt(config.retry)
        self._provider.adopt(config.provider, config.retry)

    async def ask(self, prompt: str, context: Context, delay_ms: int) -> str:
        """
        Ask, under the name of the intention and for as long as somebody waits.

        Raises:
            ToolFailed: If there was no answer.
        """
        deadline_s = context.left_s()
        if "blocking-connect" in self._defects:
            self._knock(within_s=deadline_s)
        if "stuck-breaker" in self._defects and not self._breaker.is_closed:
            raise ToolFailed("SERVICE_UNAVAILABLE", "the breaker is not closed", {})
        if "deadline-ignored" in self._defects:
            deadline_s = 3600.0
        try:
            return await self._provider.ask(
                prompt, key=context.key, deadline_s=deadline_s, delay_ms=delay_ms
            )
        except ProviderFailed as failed:
            about = {"may_have_run": failed.may_have_run, "retry_after_s": failed.retry_after_s}
            raise ToolFailed(failed.kind, failed.headline, about) from None

    def _knock(self, *, within_s: float) -> None:
        """See whether the provider is there, as the defect "blocking-connect" does."""
        where = self._provider.address
        try:
            with socket.create_connection((where.host, where.port), within_s) as door:
                door.sendall(b"GET /health HTTP/1.0\r\n\r\n")
                door.recv(1)
        except OSError as error:
            raise ToolFailed("PROVIDER_ERROR", f"the provider is not there: {error}", {}) from None
