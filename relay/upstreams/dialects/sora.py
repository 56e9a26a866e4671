"""The dialect of Sora's web backend: one list of all pending tasks of the account, results in a second list."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Final, Literal, Unpack, cast
from urllib.parse import quote

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import replace

from relay.clock import Clock, SystemClock
from relay.errors import UpstreamError, UsageError
from relay.hints import unknown
from relay.jobs.observations import Answer, Failure, Observation, normalised
from relay.upstreams.dialects.sora_drafts import PAGE, are_all_older, drafts_on, is_same, read_draft, worded
from relay.upstreams.http.account import AccountUpstream, TimingOptions
from relay.upstreams.http.client import Token
from relay.upstreams.http.empty_answer import without_a_list
from relay.upstreams.http.redaction import redact, redact_answer
from relay.upstreams.http.reply import Reply
from relay.upstreams.per_task import paced
from relay.upstreams.reading.long_lists import LIST_LIMIT, for_each, read_beside, split
from relay.upstreams.reading.pages import Page, Pages, has_a_usual_size
from relay.upstreams.reading.values import (
    DEPTH_LIMIT,
    check_depth,
    read_count,
    read_fraction,
    read_json,
    read_seconds,
)
from relay.upstreams.settings import Name, PerAccountSettings, UpstreamSettings

__all__ = ["Sora", "SoraSettings", "VideoInput"]

_DEPTH: Final = DEPTH_LIMIT - 1
_TWICE_PENDING: Final = "the list of pending tasks holds this task more than once; the last counts"
_TWO_DRAFTS: Final = "there is more than one draft of this task; the first counts"
_CREATE: Final = "nf/create"
_PENDING: Final = "nf/pending/v2"
_DRAFTS: Final = (f"project_y/profile/drafts/v2?limit={PAGE}", f"project_y/profile/drafts?limit={PAGE}")
_OF_INTEREST: Final = timedelta(days=1)
"""How much older than the deadline a draft may be and still be looked at: its task may have been followed late."""


class VideoInput(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The input of `Sora.submit`. Only the prompt is required; a key without a default is sent only if given.

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


class SoraSettings(PerAccountSettings, frozen=True, kw_only=True):
    """One account of Sora's web backend. *interval*, *deadline* and *timeout* are in seconds."""

    kind: ClassVar[str] = "sora"

    name: Name = kind


class Sora(AccountUpstream):
    """The jobs of one account of Sora's web backend, or of a gateway that speaks its dialect.

    For any number of tasks `observe` makes one request, and `fetch_result` one for each page of the drafts
    until it has found them all: at most PAGES, and none behind drafts that are older than any job under way.
    *interval*, *deadline* and *timeout* are in seconds. The dialect has no way to call a task off. Raises UsageError
    where *base_url* or *token* cannot be what they should.

    *on_exchange*, if set, receives every raw exchange, secrets redacted; its `jobs` are the requested task ids.
    """

    settings: ClassVar[type[UpstreamSettings]] = SoraSettings

    def __init__(
        self, base_url: str, token: Token, *, clock: Clock | None = None, **options: Unpack[TimingOptions]
    ) -> None:
        super().__init__(base_url, token, clock=clock, **options)
        self._clock: Clock = clock or SystemClock()
        self._drafts = _DRAFTS
        self._pages = Pages()

    async def observe(self, tasks: Sequence[str]) -> Answer:
        """What the list of pending tasks says about *tasks*. A task listed twice counts as listed last.

        Raises UpstreamError; an answer that is no list is malformed, and never counts as an empty one.
        """
        reply = await self._get(_PENDING, tasks, limit=LIST_LIMIT)
        if (answer := without_a_list(reply, tasks)) is not None:
            return answer
        items: Sequence[object] | None = split(reply.body)
        if items is None:
            items = await read_beside(reply.body, _listed)
        wanted = set(tasks)
        found: dict[str, Observation | UpstreamError] = {}

        def read(item: object) -> None:
            listed = _read_item(item)
            task = listed.id if isinstance(listed, _Listed) else listed.get("id")
            if isinstance(task, str) and task in wanted:
                found[task] = paced(self._observed(listed, _TWICE_PENDING if task in found else None), reply)

        await for_each(items, read)
        partial = has_a_usual_size(len(items))
        return Answer(listed=len(items), tasks=found, partial=partial, poll_after=reply.poll_after)

    async def fetch_result(self, tasks: Sequence[str]) -> Answer:
        """What the list of drafts says about *tasks*. Of two drafts of one task the first counts, which is the newer.

        The answer is partial unless the list was read to its end, or to drafts that are too old. Raises UpstreamError.
        """
        found: dict[str, Observation | UpstreamError] = {}
        drafts: dict[str, dict[str, Any]] = {}
        since = self._clock.now() - timedelta(seconds=self.deadline) - _OF_INTEREST

        async def ask(cursor: str | None) -> Page:
            reply = await self._get_drafts(tasks, cursor)
            if reply.is_empty:
                return Page(listed=0, more=True, poll_after=reply.poll_after)
            items, following = drafts_on(reply.json())
            redactor = self._http.redactor
            for task, item in _about(items, tasks, "task_id"):
                if task not in found:
                    found[task], drafts[task] = redact_answer(read_draft(item, redactor), redactor), item
                elif isinstance(first := found[task], Observation) and not is_same(drafts[task], item):
                    found[task] = replace(first, warning=_TWO_DRAFTS)
            cursor, more = following
            enough = are_all_older(items, since)
            return Page(listed=len(items), next=cursor, more=more, enough=enough, poll_after=reply.poll_after)

        look = await self._pages.look(ask, set(tasks), found)
        partial = look.partial or look.enough
        return Answer(
            listed=look.listed,
            tasks=found,
            partial=partial,
            since=since if partial and not look.partial else None,
            poll_after=look.poll_after,
        )

    def check_input(self, input: Mapping[str, Any]) -> None:
        """See `relay.upstreams.ChecksInput`."""
        _video(input)

    async def submit(self, input: Mapping[str, Any]) -> str:
        """Create a video of *input*, which has the keys of VideoInput, and return its task id.

        Raises UsageError where *input* is not that, UpstreamError where the upstream does not take it.
        """
        body = msgspec.to_builtins(_video(input))
        answer = (await self._http.request("POST", _CREATE, json=body, on_exchange=self.on_exchange)).json()
        try:
            return self._http.redactor.task(msgspec.convert(answer, _Created).id)
        except msgspec.ValidationError:
            raise UpstreamError("malformed", "the task may have been created, but the answer names no task") from None

    async def _get(self, path: str, tasks: Sequence[str], *, limit: int | None = None) -> Reply:
        return await self._http.request("GET", path, jobs=tasks, limit=limit, on_exchange=self.on_exchange)

    async def _get_drafts(self, tasks: Sequence[str], cursor: str | None) -> Reply:
        path, other = self._drafts
        if cursor is not None:
            return await self._get(f"{path}&cursor={quote(cursor, safe='')}", tasks)
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
        return redact(seen, self._http.redactor)

    def _ended(self, status: str, task: _Pending) -> Failure | None:
        if status not in ("failed", "cancelled"):
            return None
        message = worded(task.failure_reason, self._http.redactor) or f"the upstream says {task.status!r}"
        if status == "cancelled":
            return Failure(kind="cancelled", message=message)
        return Failure(kind="upstream", message=message, retryable=True)


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


def _video(input: Mapping[str, Any]) -> VideoInput:
    known = VideoInput.__struct_fields__
    for key in input:
        if key not in known:
            raise UsageError(f"the input has an unknown key {key!r}; {unknown(str(key), known)}")
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
