"""What the answers of a declared API mean for a task: its status, its failure and its result."""

from msgspec.structs import replace

from relay.errors import UpstreamError
from relay.events import Status
from relay.jobs.observations import Failure, Observation, Result
from relay.upstreams.declared.api import Api
from relay.upstreams.declared.questions import Question
from relay.upstreams.declared.readings import Reading
from relay.upstreams.http.client import HttpClient
from relay.upstreams.http.redaction import redact
from relay.upstreams.http.reply import Reply
from relay.upstreams.reading.links import safe
from relay.upstreams.reading.logs import lines
from relay.upstreams.reading.media import media_types
from relay.upstreams.reading.reasons import ended, in_words
from relay.upstreams.reading.values import identifier, is_something

__all__ = ["Judge"]


class Judge:
    """Makes observations of readings, by the states and codes of *api*; addresses are below the base URL of *http*."""

    def __init__(self, api: Api, http: HttpClient) -> None:
        self._api = api
        self._http = http

    def observation(self, question: Question, task: str, reading: Reading, reply: Reply) -> Observation:
        """What *reading* says about *task*. Raises UpstreamError where it is about none."""
        if not 200 <= reply.status < 300 and not is_something(reading.error):
            reading = replace(reading, error=f"the upstream answered {reply.status}")
        status = self._status(question, reading)
        is_over = status in ("succeeded", "failed", "cancelled")
        result = self._found(question, task, reading) if status == "succeeded" else None
        seen = Observation(
            status=status,
            raw_status=reading.word,
            percent=None if is_over else reading.percent,
            source=None if is_over else reading.source,
            raw_percent=None if is_over else reading.raw_percent,
            queue_position=None if is_over else reading.queue_position,
            eta=None if is_over else reading.eta,
            log=() if reading.log is None else lines(in_words(reading.log, self._http.redactor), whole=is_over),
            log_offset=None if reading.log is None else 0,
            result=result,
            failure=self._failed(status, reading),
            poll_after=None if is_over else reply.poll_after,
            warning=reading.warning or _missing(question, result),
        )
        return redact(seen, self._http.redactor)

    def _status(self, question: Question, reading: Reading) -> Status:
        error = _given(reading.error) or _given(reading.code)
        if reading.word is not None:
            return "failed" if reading.status == "succeeded" and error else reading.status
        meaning = self._api.codes.get(identifier(reading.code) or "")
        if error and meaning is not None and meaning != "policy" and meaning != "refused":
            raise UpstreamError(meaning, f"the upstream answered: {in_words(error, self._http.redactor)}")
        if error and (meaning == "policy" or question is self._api.result):
            return "failed"
        if error:
            raise UpstreamError("refused", f"the upstream tells of no task: {in_words(error, self._http.redactor)}")
        if question is self._api.result and question.status is None:
            return "succeeded"
        raise UpstreamError("malformed", f"{question.name}.status, {question.status!r}, finds nothing in the answer")

    def _failed(self, status: Status, reading: Reading) -> Failure | None:
        failure = ended(
            status, reading.word, self._http.redactor, reason=_given(reading.error), code=_given(reading.code)
        )
        meaning = self._api.codes.get(identifier(reading.code) or "")
        if failure is None or failure.kind == "cancelled" or meaning is None:
            return failure
        if meaning == "server" or meaning == "refused":
            return Failure(kind="upstream", message=failure.message, retryable=meaning == "server")
        return Failure(kind=meaning, message=failure.message, retryable=meaning in ("rate-limit", "timeout"))

    def _found(self, question: Question, task: str, reading: Reading) -> Result | None:
        """What a task has brought that has succeeded; None where another request asks for it."""
        urls, value = reading.urls, reading.value
        if not urls and question is self._api.poll and self._api.content is not None:
            urls = (f"{self._http.base_url}/{self._api.content.filled({'task': task})}",)
        if not urls and value is None and question is self._api.poll and self._api.result is not None:
            return None
        return Result(
            urls=urls,
            media_types=media_types(urls),
            expires=reading.expires,
            value=safe(value, self._http.redactor.value),
            fileless=not urls,
        )


def _missing(question: Question, result: Result | None) -> str | None:
    """The warning that a task has succeeded, and what it should have brought is not there."""
    if result is None or result.urls or result.value is not None or not question.brings:
        return None
    return f"the task has succeeded, and {question.name}.{question.brings} finds nothing"


def _given(error: object) -> object:
    """An error that was found, None if the value is no error."""
    return error if is_something(error) else None
