"""
The provider as the tool `chat` has it: behind its breaker, within its budget.

Imported only where there is a provider: HTTP and what goes with it take a while to load.
"""

from __future__ import annotations

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

    Raises:
        TargetRefused: If it is, and may not be.
    """

    def __init__(self, config: Config, *, breaker: Breaker, allow_remote: bool) -> None:
        self._budget = RetryBudget(config.retry)
        self._provider = Provider(
            config.provider.url,
            clock=now,
            breaker=breaker,
            budget=self._budget,
            settings=config.provider,
            retry=config.retry,
            allow_remote=allow_remote,
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
        try:
            return await self._provider.ask(
                prompt, key=context.key, deadline_s=context.left_s(), delay_ms=delay_ms
            )
        except ProviderFailed as failed:
            about = {"may_have_run": failed.may_have_run, "retry_after_s": failed.retry_after_s}
            raise ToolFailed(failed.kind, failed.headline, about) from None
