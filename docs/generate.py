"""Writes docs/reference/events.md from the classes of `relay.events`; run it after a change to them."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import msgspec
from msgspec import inspect

from relay.codec import stamp
from relay.errors import ErrorKind
from relay.events import (
    EVENTS,
    Accepted,
    Cancelled,
    Checking,
    Done,
    DraftsFetch,
    Event,
    Failed,
    FailureKind,
    Level,
    Log,
    Position,
    Progress,
    ProgressSource,
    Received,
    Retrying,
    Stalled,
    Status,
)

WIDTH = 96
PAGE = Path(__file__).parent / "reference" / "events.md"

HEAD = """\
<!-- Made by docs/generate.py from the classes of relay.events; change those, then run it. -->

# Events

What can happen to a job. Each event becomes one record, and each record goes to every sink: a line of the console, a
block of a stream, a line of the page. `text` is worded once, in the event's class, and every output prints that.

| event | level | says |
| --- | --- | --- |
{table}

Sora's dialect has `log` lines only for warnings; readers should expect others.

## The envelope

A record on the wire is one JSON object in ASCII, on one line of at most 256 KiB: these fields first, then the event's
own. The examples below are broken into lines for reading.

| field | type | |
| --- | --- | --- |
| `v` | integer | The version of this schema: 1. |
| `job` | string | The job's id. |
| `seq` | integer | Which record of this job it is: 1, 2, 3 and so on, without holes. |
| `at` | date and time | When it was published, in UTC (RFC 3339). For people: clocks jump, `seq` does not. |
| `type` | string | The event's name, as in the headings below. |
| `level` | string | `debug`, `info`, `warning` or `error`. |
| `text` | string | The event in words: one line, at most 1,000 characters, safe to print as it is. |

A job has exactly one terminal record (`done`, `failed` or `cancelled`), and nothing follows it. Text fields are cut at
8,192 characters, with a marker. `text` shows control characters as escapes; the other fields hold what the upstream
sent, as JSON.

Raw requests and answers ([`exchange`](http.md#debug-streams)) are no events: they have no `seq` and are not kept.

## The events
"""

# One job's story, so that the examples fit together. A signed URL is a secret, so this one opens nothing.
EXAMPLES: tuple[Event, ...] = (
    Accepted(upstream="sora", task="task_01kdjvexample"),
    Checking(attempt=1, of=600),
    Received(listed=3, seconds=0.212),
    Progress(
        percent=36, status="running", raw_status="running", source="reported", eta=71.0, eta_low=64.0, eta_high=96.0
    ),
    DraftsFetch(attempt=1),
    Retrying(kind="rate-limit", message="the upstream answered 429: Too many requests.", attempt=1, next_in=5.0),
    Stalled(seconds=180.0),
    Log(line="frame 120 of 300"),
    Done(
        urls=("https://files.example/raw.mp4?sig=made-up",),
        media_types=("video/mp4",),
        expires=datetime(2026, 1, 2, tzinfo=UTC),
    ),
    Failed(kind="policy", message="the upstream reports a violation of its content rules"),
    Cancelled(by="caller"),
)

# msgspec sorts the values of a Literal; here they are in the order in which they are declared.
DECLARED = {
    frozenset(get_args(kind)): get_args(kind) for kind in (Level, Status, ProgressSource, ErrorKind, FailureKind)
}


def page() -> str:
    """The page, whole."""
    table = "\n".join(f"| [`{tag(kind)}`](#{tag(kind)}) | {level(kind)} | {first_line(kind)} |" for kind in EVENTS)
    return HEAD.format(table=table) + "".join(map(section, EVENTS))


def section(kind: type[Event]) -> str:
    """One event: what it says, its fields, and a record as it is on the wire."""
    example = next(event for event in EXAMPLES if type(event) is kind)
    lines = [
        "",
        f"### {tag(kind)}",
        "",
        *paragraphs(kind),
        "",
        f"Level: {level(kind)}. Class: `relay.{kind.__name__}`.",
        "",
        "| field | type | default | |",
        "| --- | --- | --- | --- |",
        *rows(kind),
        "",
        "```json",
        *wire(example).splitlines(),
        "```",
        "",
    ]
    return "\n".join(lines)


def tag(kind: type[Event]) -> str:
    return str(kind.__struct_config__.tag)


def level(kind: type[Event]) -> str:
    return "as `severity` says" if kind is Log else f"`{kind.default_level}`"


def paragraphs(kind: type[Event]) -> list[str]:
    return [line.strip() for line in (kind.__doc__ or "").strip().splitlines()]


def first_line(kind: type[Event]) -> str:
    return paragraphs(kind)[0]


def rows(kind: type[Event]) -> Iterator[str]:
    described = inspect.type_info(kind)
    assert isinstance(described, inspect.StructType)
    for field in described.fields:
        extra = field.type.extra_json_schema if isinstance(field.type, inspect.Metadata) else None
        default = "" if field.required else f"`{json.dumps(msgspec.to_builtins(field.default))}`"
        yield f"| `{field.name}` | {words(field.type)} | {default} | {(extra or {}).get('description', '')} |"


def words(kind: inspect.Type) -> str:
    """A type in the words of JSON."""
    match kind:
        case inspect.Metadata(type=inner):
            return words(inner)
        case inspect.UnionType(types=types):
            return " or ".join(sorted(map(words, types), key="null".__eq__))
        case inspect.IntType(ge=low, le=high):
            return f"integer{bounds(low, high)}"
        case inspect.FloatType(ge=low, le=high):
            return f"number{bounds(low, high)}"
        case inspect.LiteralType(values=values):
            return ", ".join(f"`{value}`" for value in DECLARED.get(frozenset(values), values))
        case inspect.VarTupleType(item_type=item):
            return f"list of {words(item)}"
        case inspect.StrType():
            return "string"
        case inspect.BoolType():
            return "boolean"
        case inspect.DateTimeType():
            return "date and time"
        case inspect.NoneType():
            return "null"
        case _:
            raise TypeError(f"say in docs/generate.py how {kind} is called")


def bounds(low: float | None, high: float | None) -> str:
    if high is not None:
        return f" {low}..{high}"
    return f" from {low}" if low is not None else ""


def wire(event: Event) -> str:
    """A record of *event* as JSON: the envelope, the text and the event's own fields, each from a new line on."""
    number = EXAMPLES.index(event)
    at = datetime(2026, 1, 1, 12, tzinfo=UTC) + timedelta(seconds=2.5 * number)
    record = stamp("job_2f1c", number + 1, at, event, Position("7f3a", number + 1))
    body: dict[str, Any] = json.loads(record.json)
    own = {name: body.pop(name) for name in type(event).__struct_fields__}
    text = body.pop("text")
    return "{" + ",\n ".join(line for part in (body, {"text": text}, own) for line in wrapped(part)) + "}"


def wrapped(fields: dict[str, Any]) -> list[str]:
    """*fields* as JSON without its braces, broken between fields, where a line would be over WIDTH."""
    lines: list[str] = []
    for field in (json.dumps({name: value})[1:-1] for name, value in fields.items()):
        if lines and len(lines[-1]) + len(field) < WIDTH:
            lines[-1] += f", {field}"
        else:
            lines.append(field)
    return lines


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
