"""
Asking the provider: behind a breaker, within a deadline, repeated within a budget.

Rule: all attempts of one question carry its key, so that a provider that keeps keys works on it
once; and what an error says of whether it was worked on is true of all of them together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from harness.address import address_of_url, refuse_remote
from harness.clock import Draws
from harness.errors import BreakerOpen, HarnessError
from harness.http.client import AnswerTooLarge, exchange
from harness.refdaemon.provider_answers import Failed, header_of, judged
from harness.resilience.backoff import Backoff, RetryBudget, RetrySettings
from harness.resilience.breaker import Breaker
from harness.resilience.config.provider import ProviderSettings

__all__ = ["Kind", "Provider", "ProviderFailed"]

Kind = Literal["PROVIDER_ERROR", "TIMEOUT", "SERVICE_UNAVAILABLE"]

_PATH: Final = "/v1/chat"


class ProviderFailed(HarnessError):
    """
    A question that brought no answer.

    Attributes:
        kind: "SERVICE_UNAVAILABLE": nothing was sent, since the breaker was open or no repeat
            was left; "TIMEOUT": the time ran out; "PROVIDER_ERROR": all else. Keys of
            `errors.OUTCOMES`.
        may_have_run: Whether the provider may have worked on it. False is certain.
        retry_after_s: When asking again makes sense, in seconds, where somebody said so.
    """

    def __init__(
        self, message: str, *, kind: Kind, may_have_run: bool, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.kind: Kind = kind
        self.may_have_run = may_have_run
        self.retry_after_s = retry_after_s


@dataclass(kw_only=True)
class _Question:
    """One question, through all its attempts; `end_s` is on the provider's clock."""

    body: bytes
    key: str
    end_s: float
    backoff: Backoff
    attempt: int = 0
    may_have_run: bool = False

    def failed(
        self, kind: Kind, message: str, *, retry_after_s: float | None = None
    ) -> ProviderFailed:
        """The end of it."""
        if kind == "SERVICE_UNAVAILABLE" and self.may_have_run:
            kind = "PROVIDER_ERROR"
        return ProviderFailed(
            f"{message} (attempts: {self.attempt})",
            kind=kind,
            may_have_run=self.may_have_run,
            retry_after_s=retry_after_s,
        )


class Provider:
    """
    The provider behind a daemon. Questions may be asked side by side.

    Args:
        url: Where it is, "http://host:port".
        clock: Seconds that only go forward, `harness.clock.now` for instance.
        breaker: Admits each attempt; shared by all who ask this provider.
        budget: What repeats are taken from; so is it.
        settings: How long an attempt may take, and how large an answer may be.
        retry: How often a question is asked, and the waits between.
        seed: What the waits are drawn from.
        allow_remote: Whether it may be on another machine.
        refused: Told the breaker's name each time it lets nothing through.

    Raises:
        InvalidValue: If the URL is none.
        TargetRefused: If it is of another machine and that is not allowed.

    Attributes:
        attempts: How often it was asked, or was to be.
        repeats: How many of these were no first attempts.
    """

    def __init__(
        self,
        url: str,
        *,
        clock: Callable[[], float],
        breaker: Breaker,
        budget: RetryBudget,
        settings: ProviderSettings = ProviderSettings(),  # noqa: B008 (frozen)
        retry: RetrySettings = RetrySettings(),  # noqa: B008 (frozen)
        seed: int = 0,
        allow_remote: bool = False,
        refused: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.address = address_of_url(url, schemes=("http",))
        refuse_remote(self.address, what="the provider", allow_remote=allow_remote)
        self.breaker = breaker
        self.budget = budget
        self.attempts = 0
        self.repeats = 0
        self._clock = clock
        self._settings = settings
        self._retry = retry
        self._seed = seed
        self._refused = refused
        self._questions = 0

    def adopt(self, settings: ProviderSettings, retry: RetrySettings) -> None:
        """Go by other settings from the next attempt on; breaker and budget have their own."""
        self._settings = settings
        self._retry = retry

    async def ask(self, prompt: str, *, key: str, deadline_s: float, delay_ms: int = 0) -> str:
        """
        Ask until there is an answer, or no sense in asking again.

        An attempt is repeated when the connection failed, the attempt took too long, or the answer
        was 5xx; never beyond the deadline.

        Args:
            prompt: What to ask.
            key: Names the intention; a provider that knows it answers without working again.
            deadline_s: How many seconds from now the caller waits.
            delay_ms: How long the provider shall take, in milliseconds.

        Returns:
            The provider's text.

        Raises:
            ProviderFailed: If there was no answer.
        """
        self._questions += 1
        question = _Question(
            body=msgspec.json.encode({"prompt": prompt, "delay_ms": delay_ms}),
            key=header_of(key),
            end_s=self._clock() + deadline_s,
            backoff=Backoff(self._retry, draws=Draws(self._seed, f"ask/{self._questions}")),
        )
        while True:
            found = await self._admitted(question)
            if isinstance(found, str):
                self.budget.succeeded()
                return found
            await self._wait(question, found)

    async def _admitted(self, question: _Question) -> str | Failed:
        """One attempt, if the breaker lets it through and there is time for it."""
        limit_s = min(question.end_s - self._clock(), self._settings.attempt_timeout_s)
        if limit_s <= 0:
            raise question.failed("TIMEOUT", "no time was left to ask the provider")
        impatient = limit_s < self._settings.attempt_timeout_s
        try:
            permit = self.breaker.admit()
        except BreakerOpen as error:
            self._refused(error.name)
            raise question.failed(
                "SERVICE_UNAVAILABLE", error.headline, retry_after_s=error.retry_after_s
            ) from None
        question.attempt += 1
        self.attempts += 1
        self.repeats += question.attempt > 1
        # However else it ends, cancelled for instance, its place is given back.
        with permit:
            found = await self._attempt(question, limit_s)
            if isinstance(found, str):
                permit.end("success")
            elif impatient and found.kind == "TIMEOUT":
                # It had less time than a provider is given: that was the caller's doing.
                permit.end("ignored")
            else:
                permit.end(found.verdict)
        return found

    async def _attempt(self, question: _Question, limit_s: float) -> str | Failed:
        sent = False

        def leaving() -> None:
            nonlocal sent
            sent = True

        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": question.key,
            "X-Deadline-Ms": str(int(limit_s * 1000)),
        }
        found: str | Failed
        try:
            async with asyncio.timeout(limit_s):
                answer = await exchange(
                    self.address,
                    "POST",
                    _PATH,
                    headers=headers,
                    body=question.body,
                    max_bytes=self._settings.max_answer_bytes,
                    leaving=leaving,
                )
            found = judged(answer)
        except TimeoutError:
            found = Failed("TIMEOUT", f"the provider did not answer within {limit_s:.3g} s")
        except AnswerTooLarge:
            most = self._settings.max_answer_bytes
            found = Failed("PROVIDER_ERROR", f"its answer has more than {most} bytes", passes=False)
        except OSError as error:
            why = "lost" if sent else "not to be had"
            found = Failed("PROVIDER_ERROR", f"the connection to the provider was {why}: {error}")
        # What is refused for the request's own sake was not worked on.
        question.may_have_run |= sent and not (isinstance(found, Failed) and found.refused)
        return found

    async def _wait(self, question: _Question, failed: Failed) -> None:
        """
        Wait for the next attempt.

        Raises:
            ProviderFailed: If there is none.
        """
        end = question.failed(failed.kind, failed.message, retry_after_s=failed.retry_after_s)
        if not failed.passes or question.attempt >= self._retry.attempts:
            raise end
        wait_s = max(question.backoff.next_s(), failed.retry_after_s or 0)
        if self._clock() + wait_s >= question.end_s:
            raise end
        if not self.budget.take():
            if question.may_have_run:
                raise end
            raise question.failed("SERVICE_UNAVAILABLE", f"{failed.message}; no repeat is left")
        await asyncio.sleep(wait_s)
