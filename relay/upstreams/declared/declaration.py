"""An API as it is declared, in `relay.toml` or in Python: which requests it takes, and where its answers say what.

A text in braces is a placeholder (`relay.upstreams.declared.templates`), an expression is JMESPath
(`relay.upstreams.declared.expressions`).
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta, Struct

__all__ = ["AnswerRequest", "CancelRequest", "PollRequest", "ResultRequest", "SubmitRequest"]

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
    """A request whose answer tells of tasks; `items` and `id` make it one request for all of them.

    *answers* are the HTTP statuses, besides 2xx, that come with an answer and not only with an error.
    *scale* is what *progress* is out of: a number, or an expression that finds one.
    """

    path: _Path
    method: _Method = "GET"
    query: _Query = {}
    headers: _Headers = {}
    body: _Body = None
    answers: _Statuses = ()
    items: Expression | None = None
    id: Expression | None = None
    progress: Expression | None = None
    scale: _Scale | None = None
    queue_position: Expression | None = None
    eta: Expression | None = None
    log: Expression | None = None
    expires: Expression | None = None
    error: Expression | None = None
    code: Expression | None = None


class PollRequest(AnswerRequest, frozen=True, kw_only=True):
    """How tasks are asked for. *content* is the path of a finished task's file, where no answer names its address."""

    status: Expression
    urls: Expression | None = None
    content: _Path | None = None


class ResultRequest(AnswerRequest, frozen=True, kw_only=True):
    """How the result of a finished task is asked for, where the poll's answer does not hold it.

    *ref* finds, in the poll's answer, what `{ref}` stands for in this request.
    """

    urls: Expression
    status: Expression | None = None
    ref: Expression | None = None
