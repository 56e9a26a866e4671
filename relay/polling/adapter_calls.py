"""The one way to call an adapter: the caller gets an answer or an UpstreamError, and nothing else."""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from relay.clock import TimeLimits
from relay.errors import UpstreamError
from relay.notices import Notify, interrupts, shown
from relay.text import duration

__all__ = ["call_adapter"]

T = TypeVar("T")

_UNLIMITED: Final = TimeLimits(None)


async def call_adapter(
    call: Callable[[], Awaitable[T]], upstream: str, notify: Notify, *, within: TimeLimits = _UNLIMITED
) -> T:
    """Await *call*, a call of the adapter of *upstream*, and return its answer. Raises UpstreamError.

    Any other exception is the adapter's own failure, even a panic in an extension, or a CancelledError while nobody
    cancels: *notify* is called, and an UpstreamError of the kind `internal` is raised. Ctrl-C, an exit and a
    cancellation of the caller pass. A call that has not returned *within* its limit is cancelled, and an UpstreamError
    of the kind `timeout` is raised.
    """
    limit = within.limit()
    try:
        with limit:
            return await call()
    except UpstreamError:
        raise
    except BaseException as error:
        if interrupts(error, limit.task):
            raise
        if limit.expired and within.seconds is not None:
            raise UpstreamError("timeout", f"the adapter has not answered within {duration(within.seconds)}") from None
        notify(f"the adapter of upstream {upstream} failed: {shown(error)}")
        raise UpstreamError("internal", f"the adapter failed with {type(error).__name__}") from error
