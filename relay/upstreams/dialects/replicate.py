"""The dialect of Replicate's API: `/v1/predictions`, whose progress is in the log, in the manner of tqdm."""

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from relay.errors import UsageError
from relay.jobs.observations import Failure, Observation
from relay.upstreams.http.reply import Reply
from relay.upstreams.per_task import PerTaskUpstream, segment
from relay.upstreams.reading.fields import Fields
from relay.upstreams.reading.links import links, output
from relay.upstreams.reading.logs import lines
from relay.upstreams.reading.media import media_type
from relay.upstreams.settings import Name, Seconds, UpstreamSettings, WebhookUpstreamSettings

__all__ = ["Replicate", "ReplicateSettings"]

_PERCENT: Final = re.compile(r"(?<![0-9.,])([0-9]{1,3})%\|")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")

# Replicate's own code for it, and what its models say of themselves: neither need hold a word of the common list.
_FLAGGED: Final = re.compile(r"\(E005\)|flagged as sensitive|NSFW", re.IGNORECASE)

_CALLS: Final = ("start", "logs", "completed")


class ReplicateSettings(WebhookUpstreamSettings, frozen=True, kw_only=True):
    """One account of Replicate."""

    kind: ClassVar[str] = "replicate"

    name: Name = kind
    interval: Seconds = 2.5


class Replicate(PerTaskUpstream):
    """The predictions of one account of Replicate.

    *base_url* is what Replicate's own clients take, `https://api.replicate.com`. *interval*, *deadline* and *timeout*
    are in seconds. At most *concurrency* polls are under way at once. A result is every address in a prediction's
    output, whose form is the model's own, and the output itself where it is more than that: a text, or any other value.

    Raises UsageError where *base_url* or *token* cannot be what they should.
    """

    settings: ClassVar[type[UpstreamSettings]] = ReplicateSettings
    prompt_at: str = "input.prompt"

    def check_input(self, input: Mapping[str, Any]) -> None:
        """See `relay.upstreams.ChecksInput`."""
        _request(input)

    async def submit(self, input: Mapping[str, Any]) -> str:
        """Create a prediction of *input*, the body of the request, and return its id.

        One of three keys says what is to run: `version`, or `model` or `deployment` as `owner/name`, which are not
        sent. Raises UsageError where it is not one of them, UpstreamError where the upstream does not take it.
        """
        path, body = _request(input)
        return await self._create(path, body)

    async def cancel(self, task: str) -> None:
        """Ask Replicate to stop *task*. Raises UpstreamError."""
        await self._request("POST", f"{self._path(task)}/cancel", jobs=(task,))

    def with_webhook(self, input: Mapping[str, Any], url: str) -> Mapping[str, Any]:
        """See `relay.upstreams.AcceptsWebhook`. Growing output is published at the end only, and brings no call."""
        return input if "webhook" in input else {**input, "webhook": url, "webhook_events_filter": list(_CALLS)}

    def _path(self, task: str) -> str:
        return f"v1/predictions/{segment(task)}"

    def _read(self, task: str, body: dict[str, Any], _reply: Reply) -> Observation:
        answer = Fields(body)
        word, status = answer.status("status")
        if word is None:
            raise answer.unlike("a text", "status")
        made = answer["output"]
        ended = status in ("succeeded", "failed", "cancelled")
        log = "\n".join(line for line in answer.items("logs") if isinstance(line, str))
        failure = self._ended(status, word, reason=answer["error"], answer=answer)
        if failure is not None and failure.kind == "upstream" and _FLAGGED.search(failure.message):
            failure = Failure(kind="policy", message=failure.message)
        percent = None if ended else _percent(log)
        return Observation(
            status=status,
            raw_status=word,
            percent=percent,
            source=None if percent is None else "parsed",
            log=lines(self._words(log), whole=ended),
            log_offset=0,
            result=output(made, _addresses(made, self._address(task)), self._http.redactor.value)
            if status == "succeeded"
            else None,
            failure=failure,
            warning=answer.warning,
        )


def _percent(logs: str) -> int | None:
    """The last figure that a progress bar in *logs* shows; None where there is none."""
    figures = _PERCENT.findall(logs)
    return min(100, int(figures[-1])) if figures else None


def _addresses(made: object, here: str) -> tuple[str, ...]:
    """The addresses in what was *made*, which may be text: without a host, only what names a file is one."""
    return links(made) or tuple(url for url in links(made, base=here) if media_type(url) is not None)


def _checked(key: str, name: object) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UsageError(f"the key {key!r} of the input is of the form owner/name")
    return name


def _request(input: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The path and the body of the request that submits *input*. Raises UsageError."""
    if sum(key in input for key in ("version", "model", "deployment")) != 1:
        raise UsageError("the input needs one of the keys 'version', 'model' and 'deployment'")
    body = dict(input)
    for key in ("model", "deployment"):
        if key in body:
            return f"v1/{key}s/{_checked(key, body.pop(key))}/predictions", body
    return "v1/predictions", body
