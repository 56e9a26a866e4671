"""The dialect of Replicate's API: `/v1/predictions`, whose progress is in the log, in the manner of tqdm."""

import re
from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

from relay.clock import Clock
from relay.errors import UsageError
from relay.observations import Failure, Observation, normalised
from relay.upstreams.http import Reply, Token
from relay.upstreams.items import ItemUpstream, segment
from relay.upstreams.logs import lines
from relay.upstreams.outputs import files, links

__all__ = ["Replicate"]

_PERCENT: Final = re.compile(r"(?<![0-9.])([0-9]{1,3})%\|")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")

# Replicate's own code for it, and what its models say of themselves; neither need hold a word of `ItemUpstream`'s list.
_FLAGGED: Final = re.compile(r"\(E005\)|flagged as sensitive|NSFW", re.IGNORECASE)

_CALLS: Final = ("start", "logs", "completed")


class _Prediction(Struct):
    status: str
    output: Any = None
    error: Any = None
    logs: str | None = None


class Replicate(ItemUpstream):
    """The predictions of one account of Replicate.

    *base_url* is what Replicate's own clients take, `https://api.replicate.com`. *interval*, *deadline* and *timeout*
    are in seconds. At most *concurrency* polls are under way at once. A result is every address in a prediction's
    output, whose form is the model's own; one that holds none is no result.

    Raises UsageError where *base_url* or *token* cannot be what they should.
    """

    def __init__(
        self,
        base_url: str,
        token: Token,
        *,
        name: str = "replicate",
        interval: float = 2.5,
        deadline: float = 1500.0,
        timeout: float = 30.0,
        concurrency: int = 8,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(
            base_url,
            token,
            name=name,
            interval=interval,
            deadline=deadline,
            timeout=timeout,
            concurrency=concurrency,
            clock=clock,
        )

    async def submit(self, input: Mapping[str, Any]) -> str:
        """Create a prediction of *input*, the body of the request, and return its id.

        One of three keys says what is to run: `version`, or `model` or `deployment` as `owner/name`, which are not
        sent. Raises UsageError where it is not one of them, UpstreamError where the upstream does not take it.
        """
        if sum(key in input for key in ("version", "model", "deployment")) != 1:
            raise UsageError("the input needs one of the keys 'version', 'model' and 'deployment'")
        body = dict(input)
        for key in ("model", "deployment"):
            if key in body:
                return await self._create(f"v1/{key}s/{_checked(key, body.pop(key))}/predictions", body)
        return await self._create("v1/predictions", body)

    async def cancel(self, task: str) -> None:
        """Ask Replicate to stop *task*. Raises UpstreamError."""
        await self._request("POST", f"{self._path(task)}/cancel", jobs=(task,))

    def calling_back(self, input: Mapping[str, Any], url: str) -> Mapping[str, Any]:
        """See `relay.upstreams.CallsBack`. Output that grows is not told before the end, so it brings no call."""
        return input if "webhook" in input else {**input, "webhook": url, "webhook_events_filter": list(_CALLS)}

    def _path(self, task: str) -> str:
        return f"v1/predictions/{segment(task)}"

    def _read(self, _task: str, body: dict[str, Any], _reply: Reply) -> Observation:
        said = self._typed(body, _Prediction)
        status = normalised(said.status)
        ended = status in ("succeeded", "failed", "cancelled")
        log = lines(self._words(said.logs), whole=ended)
        failure = self._ended(status, said.status, reason=said.error)
        if failure is not None and failure.kind == "upstream" and _FLAGGED.search(failure.message):
            failure = Failure(kind="policy", message=failure.message)
        percent = None if ended else _percent(said.logs or "")
        return Observation(
            status=status,
            raw_status=said.status,
            percent=percent,
            source=None if percent is None else "parsed",
            log=log,
            log_offset=0,
            result=files(links(said.output)) if status == "succeeded" else None,
            failure=failure,
        )


def _percent(logs: str) -> int | None:
    """The last figure that a progress bar in *logs* shows; None where there is none."""
    figures = _PERCENT.findall(logs)
    return min(100, int(figures[-1])) if figures else None


def _checked(key: str, name: object) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UsageError(f"the key {key!r} of the input is of the form owner/name")
    return name
