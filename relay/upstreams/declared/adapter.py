"""Any JSON API, by declaration: requests with placeholders, and expressions that find what the answers say."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from relay.clock import Clock, SystemClock
from relay.errors import UpstreamError, UsageError
from relay.events import Status
from relay.observations import Answer, Observation, Result
from relay.upstreams.declared.declaration import CancelRequest, PollRequest, ResultRequest, SubmitRequest
from relay.upstreams.declared.expressions import Evaluation
from relay.upstreams.declared.questions import FindingsListener, Order, Question, checked_states
from relay.upstreams.declared.readings import Finding, Reading, compiled, found, identifier, is_something
from relay.upstreams.declared.requests import DeclaredRequest, check_header_name, checked_headers, naming
from relay.upstreams.declared.templates import PathTemplate, Values
from relay.upstreams.http import Reply, Token
from relay.upstreams.items import TASK_LIMIT, ItemUpstream
from relay.upstreams.logs import lines
from relay.upstreams.outputs import files
from relay.upstreams.statuses import retry_after

__all__ = ["Declared"]

LIST_LIMIT: Final = 16 * 1024 * 1024
"""The most bytes of an answer about all tasks."""

_LONG: Final = 256 * 1024
_NOT_YET: Final = 202


class Declared(ItemUpstream):
    """One account of an API that is declared: see `relay.upstreams.declared.declaration` for the requests.

    With `items` in *poll*, one request answers for all tasks; without, each is asked for by itself, at most
    *concurrency* at once. *states* are the API's own words, in any case, for the relay's; words that the relay knows
    need none. The token is sent in *auth_header*, after *auth_scheme*; *headers* go with every request. *interval*,
    *deadline* and *timeout* are in seconds.

    `submit`, `cancel` and `fetch_result` are there where their requests are. Raises UsageError, which names the key,
    for whatever cannot work: an expression, a placeholder, a key that is missing or of no use.
    """

    def __init__(
        self,
        base_url: str,
        token: Token = None,
        *,
        poll: PollRequest,
        submit: SubmitRequest | None = None,
        result: ResultRequest | None = None,
        cancel: CancelRequest | None = None,
        states: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        auth_header: str = "Authorization",
        auth_scheme: str = "Bearer",
        name: str = "http",
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
            scheme=auth_scheme,
            header=auth_header,
            headers=checked_headers("headers", headers or {}),
        )
        check_header_name("auth_header", auth_header)
        self.on_findings: FindingsListener | None = None
        self._clock = clock or SystemClock()
        self._content = None if poll.content is None else _content_path(poll.content)
        words = checked_states(states or {})
        self._poll = Question("poll", poll, words)
        self._ref = None if result is None or result.ref is None else compiled("result.ref", result.ref)
        if result is None and poll.urls is None and poll.content is None:
            raise UsageError("poll needs the key 'urls' or 'content', unless there is a result: where its files are")
        if self._ref is not None and self._poll.items is not None:
            raise UsageError("result.ref is for a poll of one task, and poll.items makes it one of all")
        self.item_type = self._poll.items is None
        # The relay asks an adapter which of these it has, and each declaration has others.
        self._result = None
        if result is not None:
            self._result = Question("result", result, words)
            self.fetch_result = self._fetch_result
        if submit is not None:
            self._handing_in = Order("submit", submit, "input")
            self._id = compiled("submit.id", submit.id)
            self.submit = self._submit
        if cancel is not None:
            self._calling_off = Order("cancel", cancel, "task")
            self.cancel = self._cancel

    async def observe(self, tasks: Sequence[str]) -> Answer:
        """What the upstream says about *tasks*: in one request where the poll has `items`, else as in `ItemUpstream`.

        A task listed twice is taken as listed last. Raises UpstreamError.
        """
        if self._poll.items is None:
            return await super().observe(tasks)
        return await self._ask_for_all(self._poll, tasks)

    async def _fetch_result(self, tasks: Sequence[str]) -> Answer:
        """What the upstream says about the results of *tasks*; a task without one is left out. Raises UpstreamError."""
        question = cast(Question, self._result)
        if question.items is None:
            return await self._each(tasks, self._fetched)
        return await self._ask_for_all(question, tasks)

    async def _submit(self, input: Mapping[str, Any]) -> str:
        """Hand in *input*, once, and return the task's id.

        Raises UsageError where *input* has not what the request needs, or what it does not send; UpstreamError.
        """
        order = self._handing_in
        order.request.check_input(input)
        document = (await self._send(order.request, {"input": input})).json()
        evaluation = Evaluation()
        findings = (found("id", self._id, document, evaluation), *order.errors(document, evaluation))
        self._tell("submit", None, findings)
        task = identifier(findings[0].value)
        if task is None or len(task) > TASK_LIMIT:
            self._check(findings[1:])
            raise UpstreamError("malformed", "the task may have been created, but submit.id finds none in the answer")
        return task

    async def _cancel(self, task: str) -> None:
        """Ask the upstream to stop *task*. Raises UpstreamError."""
        reply = await self._send(self._calling_off.request, {"task": task}, jobs=(task,))
        if reply.body.strip():
            findings = self._calling_off.errors(reply.json(), Evaluation()) if self._calling_off.error else ()
            self._tell("cancel", task, findings)
            self._check(findings)

    def _check(self, findings: Sequence[Finding]) -> None:
        """Raise UpstreamError where one of *findings* is an error, which comes with status 2xx all the same."""
        for finding in findings:
            if finding.problem is not None:
                raise UpstreamError("malformed", f"{finding.key} cannot be read: {finding.problem}")
            if is_something(finding.value):
                raise UpstreamError("refused", f"the upstream answered: {self._words(finding.value)}")

    def _path(self, task: str) -> str:
        return self._poll.request.filled({"task": task}).path

    def _read(self, task: str, body: object, reply: Reply) -> Observation:
        return self._judged(self._poll, task, self._reading(self._poll, task, body, Evaluation()), reply)

    async def _observe(self, task: str) -> Observation:
        reply = await self._send(self._poll.request, {"task": task}, jobs=(task,))
        return self._read(task, reply.json(), reply)

    async def _fetched(self, task: str) -> Observation | None:
        question = cast(Question, self._result)
        values = {"task": task}
        if self._ref is not None:
            # The task is asked for again: an adapter remembers nothing, and only this answer says where to look.
            reply = await self._send(self._poll.request, values, jobs=(task,))
            document = reply.json()
            seen = self._read(task, document, reply)
            if seen.status != "succeeded":
                return seen if seen.failure is not None else None
            finding = found("ref", self._ref, document, Evaluation())
            self._tell("result", task, (finding,))
            if (ref := identifier(finding.value)) is None:
                return Observation(status="succeeded", raw_status=seen.raw_status, result=files(()))
            values["ref"] = ref
        reply = await self._send(question.request, values, jobs=(task,))
        if reply.status == _NOT_YET:
            return None
        reading = self._reading(question, task, reply.json(), Evaluation())
        return _if_ended(self._judged(question, task, reading, reply))

    async def _ask_for_all(self, question: Question, tasks: Sequence[str]) -> Answer:
        reply = await self._send(question.request, {}, jobs=tasks, limit=LIST_LIMIT)
        if len(reply.body) <= _LONG:
            return self._all(question, tasks, reply)
        # Reading it holds the loop for as long as it is; a thread gives the loop its turn every few milliseconds.
        return await asyncio.to_thread(self._all, question, tasks, reply)

    def _all(self, question: Question, tasks: Sequence[str], reply: Reply) -> Answer:
        """What a list says about *tasks*. Of a task that is listed twice the last counts, of a result the first."""
        evaluation = Evaluation()
        listed = question.listed(reply.json(), evaluation)
        wanted = set(tasks)
        told: dict[str, Observation | UpstreamError] = {}
        for item in listed:
            task = question.task_of(item, evaluation)
            if task is None or task not in wanted or (question is self._result and task in told):
                continue
            try:
                seen = self._judged(question, task, self._reading(question, task, item, evaluation), reply)
                if question is self._poll or _if_ended(seen) is not None:
                    told[task] = seen
            except UpstreamError as error:
                told[task] = error
        return Answer(listed=len(listed), tasks=told)

    async def _send(
        self, request: DeclaredRequest, values: Values, *, jobs: Sequence[str] = (), limit: int | None = None
    ) -> Reply:
        filled = request.filled(values)
        return await self._request(
            filled.method, filled.path, json=filled.body, headers=filled.headers, jobs=jobs, limit=limit
        )

    def _tell(self, name: str, task: str | None, findings: tuple[Finding, ...]) -> None:
        if self.on_findings is not None:
            self.on_findings(name, task, findings)

    def _reading(self, question: Question, task: str, document: object, evaluation: Evaluation) -> Reading:
        findings = question.reader.findings(document, evaluation)
        self._tell(question.name, task, findings)
        return question.reader.reading(findings)

    def _judged(self, question: Question, task: str, reading: Reading, reply: Reply) -> Observation:
        """What *reading* says about *task*. Raises UpstreamError where it is about none."""
        status = self._status(question, reading)
        ended = status in ("succeeded", "failed", "cancelled")
        succeeded = status == "succeeded"
        return Observation(
            status=status,
            raw_status=reading.word,
            percent=None if ended else reading.percent,
            source=None if ended else reading.source,
            raw_percent=None if ended else reading.raw_percent,
            queue_position=None if ended else reading.queue_position,
            eta=None if ended else reading.eta,
            log=() if reading.log is None else lines(self._words(reading.log), whole=ended),
            log_offset=None if reading.log is None else 0,
            result=self._found(question, task, reading) if succeeded else None,
            failure=self._ended(status, reading.word, reason=_given(reading.error), code=_given(reading.code)),
            poll_after=None if ended else retry_after(reply.headers.get("Retry-After"), self._clock.now()),
        )

    def _status(self, question: Question, reading: Reading) -> Status:
        error = _given(reading.error) or _given(reading.code)
        if reading.word is not None:
            return "failed" if reading.status == "succeeded" and error else reading.status
        if question is self._result and (error or not question.says_status):
            return "failed" if error else "succeeded"
        if error:
            raise UpstreamError("refused", f"the upstream tells of no task: {self._words(error)}")
        raise UpstreamError("malformed", f"{question.name}.status finds nothing in the answer")

    def _found(self, question: Question, task: str, reading: Reading) -> Result | None:
        """The files of a task that has succeeded; None where another request asks for them."""
        if reading.urls:
            return files(reading.urls)
        if question is self._poll and self._content is not None:
            return files((f"{self._http.base_url}/{self._content.filled({'task': task})}",))
        return None if question is self._poll and self._result is not None else files(())


def _content_path(path: str) -> PathTemplate:
    with naming("poll.content"):
        return PathTemplate(path, ("task",))


def _given(error: object) -> object:
    """An error that was found, None where it tells of none."""
    return error if is_something(error) else None


def _if_ended(seen: Observation) -> Observation | None:
    return seen if seen.result is not None or seen.failure is not None else None
