"""The abilities that a declaration gives its adapter, with the arguments that `relay.upstreams.base` names."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from relay.jobs.observations import Answer

__all__ = ["Cancel", "FetchResult", "Submit"]


class FetchResult(Protocol):
    """`FetchesResults.fetch_result`."""

    async def __call__(self, tasks: Sequence[str]) -> Answer: ...


class Submit(Protocol):
    """`Submits.submit`."""

    async def __call__(self, input: Mapping[str, Any]) -> str: ...


class Cancel(Protocol):
    """`Cancels.cancel`."""

    async def __call__(self, task: str) -> None: ...
