"""The dialect of Luma's Dream Machine: `/generations`, no figures, one asset that counts."""

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

from relay.clock import Clock
from relay.errors import UpstreamError, UsageError
from relay.events import Status
from relay.observations import Observation, Result, normalised
from relay.upstreams.http import Reply, Token
from relay.upstreams.items import ItemUpstream, needing, segment
from relay.upstreams.media import is_link, media_types

__all__ = ["Luma"]

_WORDS: Final[Mapping[str, Status]] = {"dreaming": "running"}


class _Assets(Struct):
    video: Any = None
    image: Any = None


class _Generation(Struct):
    state: str | None = None
    failure_reason: Any = None
    assets: _Assets | None = None


class Luma(ItemUpstream):
    """The generations of one account of Luma's Dream Machine.

    *base_url* is what Luma's own clients take, such as `https://api.lumalabs.ai/dream-machine/v1`. *interval*,
    *deadline* and *timeout* are in seconds; at most *concurrency* polls are under way at once. The dialect tells no
    percent, and has no way to call a generation off: deleting one is for what has ended.

    Raises UsageError where *base_url* or *token* cannot be what they should.
    """

    def __init__(
        self,
        base_url: str,
        token: Token,
        *,
        name: str = "luma",
        interval: float = 5.0,
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
        """Create a generation of *input*, the body of the request with at least a `model`, and return its id.

        `generation_type` says whether it is a `video`, which it is without it, or an `image`. Raises UsageError where
        it is neither or there is no model, UpstreamError where the upstream does not take it.
        """
        kind = input.get("generation_type", "video")
        if kind not in ("video", "image"):
            raise UsageError(f"the input has an unknown generation_type {kind!r}; known are video, image")
        return await self._create(f"generations/{kind}", needing(input, "model"))

    def calling_back(self, input: Mapping[str, Any], url: str) -> Mapping[str, Any]:
        """See `relay.upstreams.CallsBack`."""
        return {"callback_url": url, **input}

    def _path(self, task: str) -> str:
        return f"generations/{segment(task)}"

    def _read(self, _task: str, body: dict[str, Any], _reply: Reply) -> Observation:
        said = self._typed(body, _Generation)
        if said.state is None:
            words = self._words(said.failure_reason) or self._words(body.get("detail")) or "no state"
            raise UpstreamError("refused", f"the upstream tells of no generation: {words}")
        status = _WORDS.get(said.state) or normalised(said.state)
        if status == "succeeded" and said.failure_reason:
            status = "failed"
        if status == "succeeded":
            assets = said.assets or _Assets()
            # The progress video beside them shows how it came about, and is no result.
            urls = tuple(url for url in (assets.video, assets.image) if is_link(url))
            result = Result(urls=urls, media_types=media_types(urls))
            return Observation(status=status, raw_status=said.state, result=result)
        failure = self._ended(status, said.state, reason=said.failure_reason)
        return Observation(status=status, raw_status=said.state, failure=failure)
