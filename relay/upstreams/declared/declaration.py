"""An API as it is declared, in `relay.toml` or in Python: which requests it takes, and where its answers say what.

A text in braces is a placeholder (`relay.upstreams.declared.templates`), an expression is JMESPath
(`relay.upstreams.declared.expressions`).
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from msgspec import Meta, Struct

from relay.secret import NO_SECRET, Secret
from relay.upstreams.settings import Concurrency, HttpUrl, Name, PaceSettings, Seconds

__all__ = ["AnswerRequest", "CancelRequest", "HttpSettings", "PollRequest", "ResultRequest", "SubmitRequest"]

Expression: TypeAlias = Annotated[str, Meta(min_length=1, description="a JMESPath expression, as text")]

_Method = Annotated[
    Literal["GET", "POST", "PUT", "PATCH", "DELETE"], Meta(description="one of GET, POST, PUT, PATCH, DELETE")
]
_Path = Annotated[str, Meta(min_length=1, description="a path below base_url, such as videos/{task}")]
_Query = Annotated[Mapping[str, str | int | float | bool], Meta(description="a table of texts and numbers")]
_Headers = Annotated[Mapping[str, str], Meta(description="a table of texts")]
_Body = Annotated[Any, Meta(description="a table, which is sent as JSON")]
_Statuses = Annotated[
    tuple[Annotated[int, Meta(ge=400, le=499)], ...], Meta(description="a list of HTTP statuses from 400 to 499")
]
_Scale = Annotated[float | str, Meta(description="a number such as 1 or 100, or a JMESPath expression, as text")]


class SubmitRequest(Struct, frozen=True, kw_only=True):
    """How work is handed in. *id* finds the task's id in the answer, *error* why there is none."""

    path: _Path
    id: Expression
    method: _Method = "POST"
    query: _Query = {}
    headers: _Headers = {}
    body: _Body = "{input}"
    error: Expression | None = None


class CancelRequest(Struct, frozen=True, kw_only=True):
    """How a task is called off. *error* finds, in an answer of status 2xx, why it was not."""

    path: _Path
    method: _Method = "POST"
    query: _Query = {}
    headers: _Headers = {}
    body: _Body = None
    error: Expression | None = None


class AnswerRequest(Struct, frozen=True, kw_only=True):
    """A request whose answer reports on tasks; `items` and `id` make it one request for all of them.

    *next* finds, in a list that comes in pages, what `{next?}` stands for in the request for the next page, or that
    page's address. Where there is none, `{page}` is the number of the page, and `{offset}` how many items come before.

    *answers* are the HTTP statuses, besides 2xx, that come with an answer and not only with an error.
    *scale* is what *progress* is out of: a number, or an expression that finds one. *urls* finds the addresses of
    files, and *result* any other value that a finished task has brought; it is done also where neither finds anything.
    """

    path: _Path
    method: _Method = "GET"
    query: _Query = {}
    headers: _Headers = {}
    body: _Body = None
    answers: _Statuses = ()
    items: Expression | None = None
    id: Expression | None = None
    next: Expression | None = None
    progress: Expression | None = None
    scale: _Scale | None = None
    queue_position: Expression | None = None
    eta: Expression | None = None
    log: Expression | None = None
    urls: Expression | None = None
    result: Expression | None = None
    expires: Expression | None = None
    error: Expression | None = None
    code: Expression | None = None


class PollRequest(AnswerRequest, frozen=True, kw_only=True):
    """The request that polls. *content* is the path of a finished task's file, if no answer names its address."""

    status: Expression
    content: _Path | None = None


class ResultRequest(AnswerRequest, frozen=True, kw_only=True):
    """The request for the result of a finished task, if the poll's answer does not hold it.

    *ref* finds, in the poll's answer, what `{ref}` stands for in this request.
    """

    status: Expression | None = None
    ref: Expression | None = None


class HttpSettings(Struct, frozen=True, kw_only=True):
    """One account of an API that is declared in `relay.toml`, as `relay.upstreams.Declared` has it."""

    kind: ClassVar[str] = "http"

    base_url: HttpUrl
    poll: PollRequest
    token: Secret = NO_SECRET
    auth_header: str = "Authorization"
    auth_scheme: str = "Bearer"
    headers: _Headers = {}
    states: _Headers = {}
    codes: _Headers = {}
    submit: SubmitRequest | None = None
    result: ResultRequest | None = None
    cancel: CancelRequest | None = None
    name: Name = "http"
    interval: Seconds = 5.0
    deadline: Seconds = 1500.0
    timeout: Seconds = 30.0
    concurrency: Concurrency = 8
    pace: PaceSettings = PaceSettings()
