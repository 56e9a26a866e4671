"""The dialect of Sora's web backend: one list of all pending tasks of the account, results in a second list."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from difflib import get_close_matches
from types import TracebackType
from typing import Annotated, Any, Final, Literal, Self, cast
from urllib.parse import parse_qs, urlsplit

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import replace

from relay.clock import Clock
from relay.errors import UpstreamError, UsageError
from relay.observations import Answer, Failure, Observation, Result, normalised
from relay.upstreams.base import ExchangeListener
from relay.upstreams.http import HttpClient, Reply, Token
from relay.upstreams.lists import LIST_LIMIT, for_each, read_beside, split
from relay.upstreams.masking import without_secrets
from relay.upstreams.media import is_link, media_type
from relay.upstreams.wire import DEPTH_LIMIT, check_depth, read_count, read_fraction, read_json, read_seconds

__all__ = ["Sora", "VideoInput"]

_DEPTH: Final = DEPTH_LIMIT - 1
_TWICE_PENDING: Final = "the list of pending tasks holds this task more than once; the last counts"
_TWO_DRAFTS: Final = "there is more than one draft of this task; the first counts"
_CREATE: Final = "nf/create"
_PENDING: Final = "nf/pending/v2"
_DRAFTS: Final = ("project_y/profile/drafts/v2?limit=15", "project_y/profile/drafts?limit=15")


class VideoInput(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `Sora.submit` takes. Only the prompt is needed; what is left out without a default is not sent.

    *n_frames* is 300, 450 or 750 for 10, 15 or 25 seconds; *model* is `sy_8`, or `sy_ore` for the better one.
    """

    prompt: Annotated[str, Meta(min_length=1)]
    kind: Literal["video"] = "video"
    orientation: Literal["portrait", "landscape"] = "landscape"
    size: Literal["small", "large"] = "small"
    n_frames: Annotated[int, Meta(ge=1)] = 300
    model: str = "sy_8"
    inpaint_items: list[dict[str, Any]] = []
    style_id: str | UnsetType | None = UNSET
    remix_target_id: str | UnsetType | None = UNSET
    cameo_ids: list[str] | UnsetType | None = UNSET
    cameo_replacements: Any = UNSET
    title: str | UnsetType | None = UNSET
    storyboard_id: str | UnsetType | None = UNSET
    project_config: Any = UNSET
    trim_config: Any = UNSET
    metadata: Any = UNSET
    audio_caption: str | UnsetType | None = UNSET
    audio_transcript: str | UnsetType | None = UNSET
    video_caption: str | UnsetType | None = UNSET


class _Created(Struct):
    id: Annotated[str, Meta(min_length=1, max_length=256)]


class _Pending(Struct, gc=False):
    # The figures are read one by one: their types, when set, are not documented anywhere, and one that is odd must not
    # cost the status beside it.
    status: str | None = None
    progress_pct: Any = None
    progress_pos_in_queue: Any = None
    estimated_queue_wait_time: Any = None
    failure_reason: Any = None


class _Listed(_Pending, kw_only=True, gc=False):
    id: str


_read_listed = msgspec.json.Decoder(_Listed).decode


class _Draft(Struct):
    kind: str | None = None
    url: str | None = None
    downloadable_url: str | None = None
    reason: Any = None
    reason_str: str | None = None
    markdown_reason_str: str | None = None
    error_reason: Any = None
    encodings: Any = None


class Sora:
    """The jobs of one account of Sora's web backend, or of a gateway that speaks its dialect.

    However many tasks are asked for, `observe` and `fetch_result` make one request each. *interval*, *deadline* and
    *timeout* are in seconds. The dialect has no way to call a task off. Raises UsageError where *base_url* or *token*
    cannot be what they should.

    *on_exchange*, where set, hears every raw exchange, secrets masked; its `jobs` are the task ids asked for.
    """

    def __init__(
        self,
        base_url: str,
        token: Token,
        *,
        name: str = "sora",
        interval: float = 2.5,
        deadline: float = 1500.0,
        timeout: float = 30.0,
        clock: Clock | None = None,
    ) -> None:
        self.name = name
        self.interval = interval
        self.deadline = deadline
        self.on_exchange: ExchangeListener | None = None
        self._http = HttpClient(base_url, token, upstream=name, timeout=timeout, clock=clock)
        self._drafts = _DRAFTS

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.__aexit__(kind, error, trace)

    def credential(self) -> object:
        """A value that changes whenever the token does."""
        return self._http.credential()

    async def observe(self, tasks: Sequence[str]) -> Answer:
        """What the list of pending tasks says about *tasks*. A task listed twice counts as listed last.

        Raises UpstreamError; an answer that is no list is malformed, and never taken for an empty one.
        """
        reply = await self._get(_PENDING, tasks, limit=LIST_LIMIT)
        items: Sequence[object] | None = split(reply.body)
        if items is None:
            items = await read_beside(reply.body, _listed)
        wanted = set(tasks)
        found: dict[str, Observation | UpstreamError] = {}

        def read(item: object) -> None:
            listed = _read_item(item)
            task = listed.id if isinstance(listed, _Listed) else listed.get("id")
            if isinstance(task, str) and task in wanted:
                found[task] = self._observed(listed, _TWICE_PENDING if task in found else None)

        await for_each(items, read)
        return Answer(listed=len(items), tasks=found)

    async def fetch_result(self, tasks: Sequence[str]) -> Answer:
        """What the list of drafts says about *tasks*. Of two drafts of one task the first counts, which is the newer.

        Raises UpstreamError.
        """
        body = (await self._get_drafts(tasks)).json()
        items = cast("dict[str, object]", body).get("items") if isinstance(body, dict) else None
        if not isinstance(items, list):
            raise UpstreamError("malformed", "the list of drafts holds no list of items")
        drafts = cast("list[object]", items)
        found: dict[str, Observation | UpstreamError] = {}
        for task, item in _about(drafts, tasks, "task_id"):
            if task not in found:
                found[task] = self._fetched(item)
            elif isinstance(first := found[task], Observation):
                found[task] = replace(first, warning=_TWO_DRAFTS)
        return Answer(listed=len(drafts), tasks=found)

    async def submit(self, input: Mapping[str, Any]) -> str:
        """Create a video of *input*, which has the keys of VideoInput, and return its task id.

        Raises UsageError where *input* is not that, UpstreamError where the upstream does not take it.
        """
        body = msgspec.to_builtins(_video(input))
        answer = (await self._http.request("POST", _CREATE, json=body, on_exchange=self.on_exchange)).json()
        try:
            return msgspec.convert(answer, _Created).id
        except msgspec.ValidationError:
            raise UpstreamError("malformed", "the task may have been created, but the answer names no task") from None

    async def _get(self, path: str, tasks: Sequence[str], *, limit: int | None = None) -> Reply:
        return await self._http.request("GET", path, jobs=tasks, limit=limit, on_exchange=self.on_exchange)

    async def _get_drafts(self, tasks: Sequence[str]) -> Reply:
        path, other = self._drafts
        try:
            return await self._get(path, tasks)
        except UpstreamError as error:
            if error.kind != "not-found":
                raise
        reply = await self._get(other, tasks)
        self._drafts = (other, path)
        return reply

    def _observed(self, item: _Listed | dict[str, Any], warning: str | None) -> Observation | UpstreamError:
        try:
            task = item if isinstance(item, _Listed) else msgspec.convert(item, _Pending)
        except msgspec.ValidationError as error:
            return UpstreamError("malformed", f"the task is listed in a form that cannot be read: {error}")
        status = normalised(task.status)
        percent, source, raw_percent = read_fraction(task.progress_pct)
        seen = Observation(
            status=status,
            raw_status=task.status,
            percent=percent,
            source=source,
            raw_percent=raw_percent,
            queue_position=read_count(task.progress_pos_in_queue),
            eta=read_seconds(task.estimated_queue_wait_time),
            failure=self._ended(status, task),
            warning=warning,
        )
        return without_secrets(seen, self._http.mask)

    def _ended(self, status: str, task: _Pending) -> Failure | None:
        if status not in ("failed", "cancelled"):
            return None
        message = self._words(task.failure_reason) or f"the upstream says {task.status!r}"
        if status == "cancelled":
            return Failure(kind="cancelled", message=message)
        return Failure(kind="upstream", message=message, retryable=True)

    def _fetched(self, item: dict[str, Any]) -> Observation | UpstreamError:
        try:
            draft = msgspec.convert(item, _Draft)
        except msgspec.ValidationError as error:
            return UpstreamError("malformed", f"the draft is in a form that cannot be read: {error}")
        url = next(filter(is_link, (draft.downloadable_url, draft.url)), None)
        failure, word = self._refused(draft, url), draft.kind and self._http.mask(draft.kind)
        if failure is not None:
            return Observation(status="failed", raw_status=word, failure=failure)
        if url is None:
            return Observation(status="succeeded", raw_status=word, result=Result(urls=()))
        media_type = _media_type(url, draft.encodings)
        result = Result(urls=(url,), media_types=(media_type,) if media_type else (), expires=_expiry(url))
        return Observation(status="succeeded", raw_status=word, result=result)

    def _refused(self, draft: _Draft, url: str | None) -> Failure | None:
        reason = self._words(draft.reason_str) or self._words(draft.markdown_reason_str) or self._words(draft.reason)
        if draft.kind == "sora_error":
            message = self._words(draft.error_reason) or reason or "the upstream reports an error without a reason"
            return Failure(kind="upstream", message=message, retryable=True)
        if draft.kind == "sora_content_violation" or (draft.reason_str and url is None):
            return Failure(kind="policy", message=reason or "the upstream reports a violation of its content rules")
        return None

    def _words(self, reason: object) -> str:
        """A reason as text without secrets, empty where there is none: its form is not documented anywhere."""
        if reason is None or reason == "":
            return ""
        return self._http.mask(reason if isinstance(reason, str) else json.dumps(reason))


def _listed(body: object) -> list[object]:
    if not isinstance(body, list):
        raise UpstreamError("malformed", f"the list of pending tasks is {_named(body)}, not a list")
    return cast("list[object]", body)


def _read_item(item: object) -> _Listed | dict[str, Any]:
    """One task of a list: read strictly, in a tenth of the time, as long as it is what it should be."""
    if isinstance(item, msgspec.Raw):
        body = bytes(item)
        with suppress(msgspec.MsgspecError):
            listed = _read_listed(body)
            check_depth(body, _DEPTH)
            return listed
        item = read_json(body, _DEPTH)
    return cast("dict[str, Any]", item) if isinstance(item, dict) else {}


def _about(items: Sequence[object], tasks: Sequence[str], key: str) -> list[tuple[str, dict[str, Any]]]:
    """The items about *tasks*, with the task each is about; whatever else the list holds is passed over."""
    wanted = set(tasks)
    objects = (cast("dict[str, Any]", item) for item in items if isinstance(item, dict))
    return [(task, item) for item in objects if isinstance(task := item.get(key), str) and task in wanted]


def _media_type(url: str, encodings: object) -> str | None:
    """The media type by the file's name, in the URL or else of the source encoding; None where neither tells."""
    source = cast("dict[str, object]", encodings).get("source") if isinstance(encodings, dict) else None
    path = cast("dict[str, object]", source).get("path") if isinstance(source, dict) else None
    return next(filter(None, (media_type(link) for link in (url, path) if isinstance(link, str))), None)


def _expiry(url: str) -> datetime | None:
    """When a signed URL stops working, by its `se` (Azure Storage: service SAS, signed expiry)."""
    try:
        date = datetime.fromisoformat(parse_qs(urlsplit(url).query)["se"][0])
    except (KeyError, ValueError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def _video(input: Mapping[str, Any]) -> VideoInput:
    known = VideoInput.__struct_fields__
    for key in input:
        if key not in known:
            near = get_close_matches(str(key), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            raise UsageError(f"the input has an unknown key {key!r}; {hint}")
    try:
        return msgspec.convert(dict(input), VideoInput)
    except msgspec.ValidationError as error:
        raise UsageError(f"the input is not what a video needs: {error}") from None


def _named(body: object) -> str:
    match body:
        case dict():
            return "an object"
        case str():
            return "a string"
        case None:
            return "null"
        case _:
            return "a single value"
