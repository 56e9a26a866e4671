"""A JSON API, by declaration: requests with placeholders, and expressions that find what the answers say."""

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any, ClassVar, Final, Unpack

from msgspec.structs import replace

from relay.errors import UpstreamError
from relay.jobs.observations import Answer, Observation, Result
from relay.upstreams.declared.abilities import Cancel, FetchResult, Submit
from relay.upstreams.declared.api import Api
from relay.upstreams.declared.declaration import (
    CancelRequest,
    HttpSettings,
    PollRequest,
    ResultRequest,
    SubmitRequest,
)
from relay.upstreams.declared.expressions import Evaluation, Expression
from relay.upstreams.declared.judge import Judge
from relay.upstreams.declared.questions import FindingsListener, Order, Question
from relay.upstreams.declared.readings import Finding, Reading, found, masked
from relay.upstreams.declared.requests import (
    FilledRequest,
    check_header_name,
    checked_headers,
    naming,
)
from relay.upstreams.declared.templates import Values, check_no_secret
from relay.upstreams.http.client import Token
from relay.upstreams.http.empty_answer import without_a_list
from relay.upstreams.http.reply import Reply
from relay.upstreams.per_task import TASK_LIMIT, PerTaskOptions, PerTaskUpstream
from relay.upstreams.reading.long_lists import LIST_LIMIT, for_each, read_beside
from relay.upstreams.reading.pages import Page
from relay.upstreams.reading.values import identifier, is_something
from relay.upstreams.settings import UpstreamSettings

__all__ = ["Declared"]

_TWICE: Final = "the upstream lists this task twice; the last entry counts"
_NO_REF: Final = "the task has succeeded, and result.ref finds nothing to ask for"
_TWO_RESULTS: Final = "the upstream lists two results of this task; the first counts"


class Declared(PerTaskUpstream):
    """One account of an API that is declared: see `relay.upstreams.declared.declaration` for the requests.

    With `items` in *poll*, one request answers for all tasks; without, each is polled by itself, at most
    *concurrency* at once. *states* are the API's own words, in any case, for the relay's; words that the relay knows
    need none. *codes* are its error codes, and which kind of error each is. The token is sent in *auth_header*, after
    *auth_scheme*; *headers* go with every request. *interval*, *deadline* and *timeout* are in seconds.

    `submit`, `cancel` and `fetch_result` are there where their requests are. Raises UsageError, which names the key,
    for whatever cannot work: an expression, a placeholder, a key that is missing or of no use.

    *on_exchange* receives raw exchanges as elsewhere; *on_findings*, if set, the value that each expression found. In
    both, secrets are redacted.
    """

    settings: ClassVar[type[UpstreamSettings]] = HttpSettings

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
        codes: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        auth_header: str = "Authorization",
        auth_scheme: str = "Bearer",
        **options: Unpack[PerTaskOptions],
    ) -> None:
        super().__init__(
            base_url,
            token,
            scheme=auth_scheme,
            header=auth_header,
            headers=checked_headers("headers", headers or {}),
            **options,
        )
        check_header_name("auth_header", auth_header)
        with naming("auth_scheme"):
            check_no_secret(auth_scheme)
        self.on_findings: FindingsListener | None = None
        self._api = Api(poll, submit=submit, result=result, cancel=cancel, states=states, codes=codes)
        self._judge = Judge(self._api, self._http)
        self.polls_each_task: bool = self._api.poll.items is None
        for request in (poll, submit, result, cancel):
            if request is not None:
                self._http.keep_secret(request.headers)
        # The relay asks an adapter which of these it has, and each declaration has others.
        if self._api.result is not None:
            self.fetch_result: FetchResult = partial(self._fetch_result, self._api.result)
        if self._api.submit is not None and self._api.id is not None:
            self.submit: Submit = partial(self._submit, self._api.submit, self._api.id)
        if self._api.cancel is not None:
            self.cancel: Cancel = partial(self._cancel, self._api.cancel)

    async def observe(self, tasks: Sequence[str]) -> Answer:
        """What the upstream says about *tasks*: in one request if the poll has `items`, else as in `PerTaskUpstream`.

        If a task is listed twice, the last entry counts. Raises UpstreamError.
        """
        if self._api.poll.items is None:
            return await super().observe(tasks)
        return await self._ask_for_all(self._api.poll, tasks)

    async def _fetch_result(self, question: Question, tasks: Sequence[str]) -> Answer:
        """What the upstream says about the results of *tasks*; a task without one is left out. Raises UpstreamError."""
        if question.items is None:
            return await self._each(tasks, partial(self._fetched, question))
        return await self._ask_for_all(question, tasks)

    async def _submit(self, order: Order, id: Expression, input: Mapping[str, Any]) -> str:
        """Hand in *input*, once, and return the task's id.

        Raises UsageError where *input* has not what the request needs, or what it does not send; UpstreamError.
        """
        order.request.check_input(input)
        document = (await self._sent(order.request.filled({"input": input}))).json()
        evaluation = Evaluation()
        findings = (found("id", id, document, evaluation), *order.errors(document, evaluation))
        self._tell("submit", None, findings)
        task = identifier(findings[0].value)
        if task is not None and len(task) <= TASK_LIMIT:
            return self._http.redactor.task(task)
        self._check(findings[1:])
        raise UpstreamError("malformed", "the task may have been created, but submit.id finds none in the answer")

    async def _cancel(self, order: Order, task: str) -> None:
        """Ask the upstream to stop *task*. Raises UpstreamError."""
        reply = await self._sent(order.request.filled({"task": task}), jobs=(task,))
        if order.error is not None and reply.body.strip():
            findings = order.errors(reply.json(), Evaluation())
            self._tell("cancel", task, findings)
            self._check(findings)
            for finding in findings:
                if finding.problem is not None:
                    raise UpstreamError("malformed", f"cancel.error cannot be read: {finding.problem}")

    def _check(self, findings: Sequence[Finding]) -> None:
        """Raise UpstreamError where one of *findings* is an error, which comes with status 2xx all the same."""
        for finding in findings:
            if is_something(finding.value):
                raise UpstreamError("refused", f"the upstream answered: {self._words(finding.value)}")

    def _path(self, task: str) -> str:
        return self._api.poll.request.filled({"task": task}).path

    def _read(self, task: str, body: object, reply: Reply) -> Observation:
        reading = self._reading(self._api.poll, task, body, Evaluation(), self._address(task))
        return self._judge.observation(self._api.poll, task, reading, reply)

    async def _observe(self, task: str) -> Observation:
        reply = await self._ask(self._api.poll, {"task": task}, task)
        return self._read(task, reply.json(), reply)

    async def _fetched(self, question: Question, task: str) -> Observation | None:
        values = {"task": task}
        if self._api.ref is not None:
            # The task is polled again: an adapter remembers nothing, and only this answer holds the reference.
            reply = await self._ask(self._api.poll, values, task)
            document = reply.json()
            seen = self._read(task, document, reply)
            if seen.status != "succeeded":
                return seen if seen.failure is not None else None
            finding = found("ref", self._api.ref, document, Evaluation())
            self._tell("result", task, (finding,))
            if (ref := identifier(finding.value)) is None:
                return replace(seen, result=Result(fileless=True), warning=seen.warning or _NO_REF)
            values["ref"] = ref
        reply = await self._ask(question, values, task)
        if reply.status == HTTPStatus.ACCEPTED:
            return None
        here = self._joined(question.request.filled(values).path)
        reading = self._reading(question, task, reply.json(), Evaluation(), here)
        return _if_ended(self._judge.observation(question, task, reading, reply))

    async def _ask_for_all(self, question: Question, tasks: Sequence[str]) -> Answer:
        """What a list says about *tasks*, page by page until all are found.

        Of a task that is listed twice the last counts, of a result the first.
        """
        wanted = set(tasks)
        told: dict[str, Observation | UpstreamError] = {}
        without: Answer | None = None
        size = 0

        async def ask(cursor: str | None) -> Page:
            nonlocal without, size
            filled = question.paging.filled(cursor)
            reply = await self._sent(filled, jobs=tasks, limit=LIST_LIMIT)
            if reply.is_empty:
                without = without_a_list(reply, tasks if question is self._api.poll and cursor is None else ())
                return Page(listed=0, more=True, poll_after=reply.poll_after)
            listed = await self._read_page(question, reply, self._joined(filled.path), wanted, told)
            size = listed if cursor is None else size
            if len(told) == len(wanted):
                return Page(listed=listed, poll_after=reply.poll_after)
            document = (
                await read_beside(reply.body, lambda document: document) if question.paging.reads(reply) else None
            )
            following, more = question.paging.following(
                reply, document, listed=listed, cursor=cursor, size=size, path=filled.path
            )
            return Page(listed=listed, next=following, more=more, poll_after=reply.poll_after)

        look = await question.pages.look(ask, wanted, told)
        if without is not None and not told:
            return without
        return Answer(listed=look.listed, tasks=told, partial=look.partial, poll_after=look.poll_after)

    async def _read_page(
        self,
        question: Question,
        reply: Reply,
        source: str,
        wanted: Collection[str],
        told: dict[str, Observation | UpstreamError],
    ) -> int:
        """Add the observations of *wanted* tasks on the page at *source*; return how many items it lists."""
        evaluation = Evaluation()
        listed = await question.listed(reply.body, evaluation)
        here: set[str] = set()

        def read(item: object) -> None:
            document = question.opened(item)
            task = question.task_of(document, evaluation)
            if task is None or task not in wanted:
                return
            # While pages are read, items move from one to the next: only on one page are two of them two.
            again = task in here
            here.add(task)
            try:
                seen = self._judge.observation(
                    question, task, self._reading(question, task, document, evaluation, source), reply
                )
            except UpstreamError as error:
                told[task] = error
                return
            if question is self._api.poll:
                told[task] = replace(seen, warning=_TWICE) if again else seen
            elif isinstance(first := told.get(task), Observation):
                told[task] = replace(first, warning=_TWO_RESULTS) if again else first
            elif _if_ended(seen) is not None:
                told[task] = seen

        await for_each(listed, read)
        return len(listed)

    async def _sent(
        self,
        filled: FilledRequest,
        *,
        jobs: Sequence[str] = (),
        answers: Collection[int] = (),
        limit: int | None = None,
    ) -> Reply:
        return await self._request(
            filled.method,
            filled.path,
            json=filled.body,
            headers=filled.headers,
            jobs=jobs,
            answers=answers,
            limit=limit,
        )

    async def _ask(self, question: Question, values: Values, task: str) -> Reply:
        return await self._sent(question.request.filled(values), jobs=(task,), answers=question.answers)

    def _joined(self, path: str) -> str:
        """Where the answer to a request for *path* comes from, which addresses in it are relative to."""
        return f"{self._http.base_url}/{path}"

    def _tell(self, name: str, task: str | None, findings: tuple[Finding, ...]) -> None:
        if self.on_findings is not None:
            self.on_findings(name, task, tuple(masked(finding, self._http.redactor) for finding in findings))

    def _reading(self, question: Question, task: str, document: object, evaluation: Evaluation, here: str) -> Reading:
        findings = question.reader.findings(document, evaluation)
        self._tell(question.name, task, findings)
        return question.reader.reading(findings, here)


def _if_ended(seen: Observation) -> Observation | None:
    return seen if seen.result is not None or seen.failure is not None else None
