"""The dialect of Kling's API: an envelope with a code, which reports errors even if HTTP says 200."""

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from relay.clock import Clock
from relay.errors import ErrorKind, UpstreamError, UsageError
from relay.jobs.observations import Failure, Observation, Result
from relay.secret import NO_SECRET, Secret
from relay.upstreams.http.client import Token
from relay.upstreams.http.jwt import SignedToken
from relay.upstreams.http.reply import Reply
from relay.upstreams.per_task import PerTaskUpstream, as_object, segment
from relay.upstreams.reading.fields import Fields, only
from relay.upstreams.reading.links import anywhere, files
from relay.upstreams.reading.values import is_something
from relay.upstreams.settings import Name, Seconds, UpstreamSettings, WebhookUpstreamSettings

__all__ = ["Kling", "KlingSettings"]

_STATUS: Final = ("task_status", "status")
_SEARCHED: Final = ("text2video", "image2video")
_LISTS: Final = frozenset({"videos", "images", "audios"})
_ROUTE: Final = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_RISK: Final = re.compile(r"risk control|sensitive", re.IGNORECASE)

# By hundreds: authentication, the account, the request, the rules; and 5000 on, the service. These are the exceptions.
_KINDS: Final[Mapping[int, ErrorKind]] = {
    1103: "auth",
    1203: "not-found",
    1302: "rate-limit",
    1303: "rate-limit",
    1304: "auth",
}


class KlingSettings(WebhookUpstreamSettings, frozen=True, kw_only=True):
    """One account of Kling's API: with a *token*, or with the two keys of which the API's own tokens are made."""

    kind: ClassVar[str] = "kling"

    token: Secret = NO_SECRET
    name: Name = kind
    interval: Seconds = 10.0
    access_key: Secret = NO_SECRET
    secret_key: Secret = NO_SECRET


class Kling(PerTaskUpstream):
    """The video tasks of one account of Kling's API, or of a gateway that speaks its dialect.

    A task is its route and its id, `image2video/7581...`; an id alone is one of `text2video`. *base_url* is
    `https://api-singapore.klingai.com`. The *token* is sent as it is; the API itself takes a JSON Web Token of half an
    hour at most, which a `relay.upstreams.http.jwt.SignedToken` makes of the account's two keys. *interval*, *deadline*
    and *timeout* are in seconds. At most *concurrency* polls are under way at once. Tasks have no figure of progress,
    and cannot be called off.

    Raises UsageError where *base_url* or *token* cannot be what they should.
    """

    settings: ClassVar[type[UpstreamSettings]] = KlingSettings
    image_at: str | None = "image"

    @classmethod
    def token_of(cls, settings: UpstreamSettings, clock: Clock) -> Token:
        """The token as it is given, or tokens that are signed with the two keys."""
        assert isinstance(settings, KlingSettings)  # noqa: S101 - as `from_settings` calls it
        given = [secret is not NO_SECRET for secret in (settings.token, settings.access_key, settings.secret_key)]
        if given == [True, False, False]:
            return settings.token.reveal
        if given == [False, True, True]:
            return SignedToken(settings.access_key.reveal, settings.secret_key.reveal, clock=clock)
        raise UsageError("give either token, or access_key and secret_key")

    def check_input(self, input: Mapping[str, Any]) -> None:
        """See `relay.upstreams.ChecksInput`."""
        _request(input)

    async def submit(self, input: Mapping[str, Any]) -> str:
        """Create a task of *input*, the body of the request, and return its route and id.

        Its key `route`, which is not sent, says which kind; without it, an `image` or `image_tail` makes an
        `image2video`, and else it is a `text2video`. Raises UsageError for what is no route, UpstreamError where the
        upstream does not take it.
        """
        route, body = _request(input)
        envelope = Fields(as_object((await self._request("POST", f"v1/videos/{route}", json=body)).json()))
        named = envelope.about("task_id", "id")
        task = None if named is None else named.first("task_id", "id")
        if task is None:
            self._check(envelope)
        return f"{route}/{self._new_task(task)}"

    def with_webhook(self, input: Mapping[str, Any], url: str) -> Mapping[str, Any]:
        """See `relay.upstreams.AcceptsWebhook`."""
        return {"callback_url": url, **input}

    def with_reference(self, input: Mapping[str, Any], reference: str) -> Mapping[str, Any]:
        """See `relay.upstreams.FindsSubmitted`."""
        return {"external_task_id": reference, **input}

    async def find_submitted(self, reference: str) -> str | None:
        """The route and id of the task that was submitted as *reference*, on the two routes that most tasks have.

        The API finds a task by either of its ids.
        """
        for route in _SEARCHED:
            try:
                reply = await self._request("GET", f"v1/videos/{route}/{segment(reference)}")
                envelope = Fields(as_object(reply.json()))
                named = envelope.about("task_id", "id")
                if named is None or named.first("task_id", "id") is None:
                    self._check(envelope)
                else:
                    return f"{route}/{self._new_task(named.first('task_id', 'id'))}"
            except UpstreamError as error:
                if error.kind not in ("not-found", "refused"):
                    raise
        return None

    _marks = ("data", "code", *_STATUS)

    def _path(self, task: str) -> str:
        route, slash, id = task.partition("/")
        if not slash:
            route, id = "text2video", task
        if not _ROUTE.fullmatch(route):
            raise UpstreamError("not-found", f"{task!r} is not of the form route/id")
        return f"v1/videos/{route}/{segment(id)}"

    def _read(self, task: str, body: dict[str, Any], _reply: Reply) -> Observation:
        envelope = Fields(body)
        answer = envelope.about(*_STATUS) or envelope.vital("data")
        word, status = answer.status(_STATUS[answer["task_status"] is None and answer["status"] is not None])
        code = envelope.code("code")
        if word is None:
            self._check(envelope)
            raise UpstreamError("malformed", "the answer is not in this dialect: it says no task_status")
        reason = answer["task_status_msg"]
        if status == "failed" and not is_something(reason) and code:
            reason = envelope["message"]
        failure = self._ended(status, word, reason=reason, answer=answer)
        if failure is not None and failure.kind == "upstream" and _RISK.search(failure.message):
            failure = Failure(kind="policy", message=failure.message)
        result = _files(answer, self._address(task)) if status == "succeeded" else None
        if result is None or not result.urls:
            answer.part("task_result")
        return Observation(status=status, raw_status=word, result=result, failure=failure, warning=envelope.warning)

    def _check(self, envelope: Fields) -> None:
        """Raise UpstreamError, by its code, if *envelope* reports an error: HTTP says 200 all the same."""
        code = envelope.code("code")
        if code:
            words = self._words(envelope["message"])
            raise UpstreamError(_kind_of(code), f"the upstream answered code {code}" + (f": {words}" if words else ""))
        if code is None:
            raise UpstreamError("malformed", "the answer is not in this dialect: it has no code")
        if not envelope.part("data"):
            raise UpstreamError("malformed", "the answer is not in this dialect: it has no data")


def _files(answer: Fields, here: str) -> Result:
    """Every file with an address, whatever the lists of them are called; where there is none, any address."""
    made = answer.part("task_result") if only(answer["task_result"]) is not None else Fields({})
    lists = [name for name in made if name in _LISTS or isinstance(made[name], list)]
    found = [url for name in lists for one in made.objects(name) if (url := one.address("url", here)) is not None]
    return files(found or anywhere(answer.all, here))


def _kind_of(code: int) -> ErrorKind:
    if code in _KINDS:
        return _KINDS[code]
    match code // 100:
        case 10:
            return "auth"
        case hundred if hundred >= 50:
            return "server"
        case _:
            return "refused"


def _request(input: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The route and the body of the request that submits *input*. Raises UsageError."""
    body = dict(input)
    route = body.pop("route", "image2video" if {"image", "image_tail"} & body.keys() else "text2video")
    if not isinstance(route, str) or not _ROUTE.fullmatch(route):
        raise UsageError("the key 'route' of the input is a word such as text2video or multi-image2video")
    return route, body
