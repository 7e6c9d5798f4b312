"""A function that is called through a breaker, in the place of itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial, wraps
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from typing import Any, ParamSpec, TypeVar

from harness.errors import InvalidValue

__all__ = ["protected"]

P = ParamSpec("P")
R = TypeVar("R")


def protected(
    call: Callable[..., Any],
    call_async: Callable[..., Awaitable[Any]],
    function: Callable[P, R],
) -> Callable[P, R]:
    """
    Make `Breaker.protect`'s function.

    Args:
        call: The breaker's, for functions.
        call_async: The breaker's, for coroutine functions.
        function: What is to be protected.

    Raises:
        InvalidValue: If it is a generator function.
    """
    if isgeneratorfunction(function) or isasyncgenfunction(function):
        raise InvalidValue(
            f"{function.__qualname__} is a generator; expected a function or a coroutine function",
            [("next", "put `with breaker.admit():` around what it does")],
        )
    if iscoroutinefunction(function):

        @wraps(function)
        async def guarded_async(*args: P.args, **kwargs: P.kwargs) -> Any:
            if kwargs:
                return await call_async(partial(function, *args, **kwargs))
            return await call_async(function, *args)

        return guarded_async  # type: ignore[return-value]

    @wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        result: R = call(partial(function, *args, **kwargs)) if kwargs else call(function, *args)
        return result

    return guarded
