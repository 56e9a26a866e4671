"""The drafts of Sora's web backend: the results of tasks that have left the list of pending ones. Pure: no I/O."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, cast
from urllib.parse import parse_qs, urlsplit

import msgspec
from msgspec import Struct

from relay.errors import UpstreamError
from relay.jobs.observations import Failure, Observation, Result
from relay.upstreams.http.redaction import Redactor
from relay.upstreams.reading.media import is_link, media_type
from relay.upstreams.reading.pages import cursor_in
from relay.upstreams.reading.values import read_date

__all__ = ["PAGE", "are_all_older", "drafts_on", "is_same", "read_draft", "worded"]

PAGE: Final = 15
"""How many drafts a page has."""


class _Draft(Struct):
    kind: str | None = None
    url: str | None = None
    downloadable_url: str | None = None
    reason: Any = None
    reason_str: str | None = None
    markdown_reason_str: str | None = None
    error_reason: Any = None
    encodings: Any = None


def drafts_on(body: object) -> tuple[list[object], tuple[str | None, bool]]:
    """The drafts on a page, the cursor of the next one, and whether there may be more that it does not lead to."""
    fields = cast("dict[str, object]", body) if isinstance(body, dict) else {}
    if not isinstance(items := fields.get("items"), list):
        raise UpstreamError("malformed", "the list of drafts holds no list of items")
    drafts = cast("list[object]", items)
    # Without a cursor, not even an empty one, a page that is full may have others behind it.
    return drafts, cursor_in(fields["cursor"]) if "cursor" in fields else (None, len(drafts) >= PAGE)


def are_all_older(items: Sequence[object], than: datetime) -> bool:
    """Whether all drafts on a page that say when they were made were made before that, and at least one says so."""
    made = [read_date(cast("dict[str, object]", item).get("created_at")) for item in items if isinstance(item, dict)]
    dates = [date for date in made if date is not None]
    return bool(dates) and max(dates) < than


def is_same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Whether two drafts are one that is listed twice: while pages are read, items move from one to the next."""
    key = first.get("id")
    return first == second if key is None else key == second.get("id")


def read_draft(item: dict[str, Any], redactor: Redactor) -> Observation | UpstreamError:
    """What the draft *item* says about its task, its words without secrets; an error where it cannot be read."""
    try:
        draft = msgspec.convert(item, _Draft)
    except msgspec.ValidationError as error:
        return UpstreamError("malformed", f"the draft is in a form that cannot be read: {error}")
    url = next(filter(is_link, (draft.downloadable_url, draft.url)), None)
    failure, word = _refused(draft, url, redactor), draft.kind and redactor(draft.kind)
    if failure is not None:
        return Observation(status="failed", raw_status=word, failure=failure)
    if url is None:
        return Observation(status="succeeded", raw_status=word, result=Result(urls=()))
    kind = _media_type(url, draft.encodings)
    result = Result(urls=(url,), media_types=(kind,) if kind else (), expires=_expiry(url))
    return Observation(status="succeeded", raw_status=word, result=result)


def _refused(draft: _Draft, url: str | None, redactor: Redactor) -> Failure | None:
    reasons = (draft.reason_str, draft.markdown_reason_str, draft.reason)
    reason = next(filter(None, (worded(each, redactor) for each in reasons)), "")
    if draft.kind == "sora_error":
        message = worded(draft.error_reason, redactor) or reason or "the upstream reports an error without a reason"
        return Failure(kind="upstream", message=message, retryable=True)
    if draft.kind == "sora_content_violation" or (draft.reason_str and url is None):
        return Failure(kind="policy", message=reason or "the upstream reports a violation of its content rules")
    return None


def worded(reason: object, redactor: Redactor) -> str:
    """A reason as text without secrets, empty where there is none: its form is not documented anywhere."""
    if reason is None or reason == "":
        return ""
    return redactor(reason if isinstance(reason, str) else json.dumps(reason))


def _media_type(url: str, encodings: object) -> str | None:
    """The media type by the file's name, in the URL or else of the source encoding; None if neither shows it."""
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
