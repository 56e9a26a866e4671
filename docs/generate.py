"""Writes docs/reference/events.md, and tables in docs/reference/metrics.md and upstreams/*.md; run it after a change.

Events come from the classes of `relay.events`, keys from the settings of each kind of upstream, metrics from the table
that `/metrics` is made with.
"""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import msgspec
from msgspec import inspect

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
from relay.secret import NO_SECRET
from relay.upstreams.registry import UPSTREAM_KINDS
from relay.wire.record_json import stamp
from web.metric_table import METRICS

WIDTH = 96
REFERENCE = Path(__file__).parent / "reference"
PAGE = REFERENCE / "events.md"
METRICS_PAGE = REFERENCE / "metrics.md"
METRICS_TABLE = re.compile(r"(<!-- metrics: made by docs/generate.py -->\n).*?(<!-- end of metrics -->)", re.DOTALL)
KEYS = re.compile(r"(<!-- keys: made by docs/generate.py -->\n).*?(<!-- end of keys -->)", re.DOTALL)

HEAD = """\
<!-- Made by docs/generate.py from the classes of relay.events; change those, then run it. -->

# Events

An event is a change in the life of a job. Each event becomes one record, and every sink receives each record: a line of
the console, a block of a stream, a line of the page. The event's class words `text` once, and every output prints that.

| event | level | meaning |
| --- | --- | --- |
{table}

Sora's dialect has `log` lines only for warnings; clients should expect others.

## The envelope

A record on the wire is one JSON object in ASCII, on one line of at most 256 KiB: these fields first, then the event's
own. The examples below are broken into lines for reading.

| field | type | |
| --- | --- | --- |
| `v` | integer | The version of this schema: 1. |
| `job` | string | The job's id. |
| `seq` | integer | The number of the record within the job: 1, 2, 3 and so on, without holes. |
| `at` | date and time | The time of publication, in UTC (RFC 3339). For people: clocks jump, `seq` does not. |
| `type` | string | The event's name, as in the headings below. |
| `level` | string | `debug`, `info`, `warning` or `error`. |
| `text` | string | The event in words: one line, at most 1,000 characters, safe to print. |

A job has exactly one terminal record (`done`, `failed` or `cancelled`), and nothing follows it. Text fields are cut at
8,192 characters, with a marker. `text` shows control characters as escapes; the other fields hold the upstream's own
text, as JSON.

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
    """One event: its meaning, its fields, and an example of a record on the wire."""
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
    if kind is Log:
        return "as `severity` says"
    return "`info`, or `debug` if `unchanged`" if kind is Progress else f"`{kind.default_level}`"


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
        case inspect.AnyType():
            return "any JSON"
        case _:
            raise TypeError(f"say in docs/generate.py how {kind} is called")


def bounds(low: float | None, high: float | None) -> str:
    if high is not None:
        return f" {low}..{high}"
    return f" from {low}" if low is not None else ""


def wire(event: Event) -> str:
    """A record of *event* as JSON: the envelope, the text and the event's own fields, each on a new line."""
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


# The keys of [[upstreams]], in words: first those of every kind, then those that differ from it.

MEANINGS = {
    "base_url": "address of the API",
    "token": "secret; sent as `Authorization: Bearer`",
    "name": "the name in jobs, routes and records; no two upstreams share one",
    "interval": "duration from one poll of a task to the next",
    "deadline": "duration after which a job that has not ended fails with kind `timeout`",
    "timeout": "duration after which a request without a whole answer is abandoned",
    "concurrency": "how many polls may run at the same time",
    "webhook": "whether and how the upstream [calls the relay](../configuration.md#webhook)",
    "model": "a model, such as `fal-ai/fast-sdxl`: a request id alone is a task of it, and submits go to it",
    "stream": "whether fal streams the status of up to 32 tasks, so that a change is polled at once",
    "access_key": "secret; the access key of the account",
    "secret_key": "secret; signs the tokens; never sent",
}
OF_A_KIND = {
    ("sora", "base_url"): "address of the API with its path, such as `https://gateway.example/backend`",
    ("sora", "interval"): "duration from one poll to the next; one poll serves all jobs of the account",
    ("openai-videos", "base_url"): "address of the API with its version, such as `https://gateway.example/v1`",
    ("openai-videos", "interval"): (
        "duration from one poll of a task to the next; `openai-poll-after-ms` of an answer takes precedence"
    ),
    ("new-api", "base_url"): "address of the gateway with its version, such as `https://gateway.example/v1`",
    ("runway", "base_url"): "address of the API, such as `https://api.dev.runwayml.com`",
    ("runway", "interval"): "duration from one poll of a task to the next; Runway asks for 5 s or more",
    ("luma", "base_url"): "address of the API with its version, such as `https://api.lumalabs.ai/dream-machine/v1`",
    ("replicate", "base_url"): "address of the API: `https://api.replicate.com`",
    ("fal", "base_url"): "address of the queue: `https://queue.fal.run`",
    ("fal", "token"): "secret; sent as `Authorization: Key`",
    ("veo", "base_url"): ("address of the API with its version: `https://generativelanguage.googleapis.com/v1beta`"),
    ("veo", "token"): "secret; sent as `x-goog-api-key`",
    ("kling", "base_url"): "address of the API: `https://api-singapore.klingai.com`",
    ("kling", "token"): "secret; sent as `Authorization: Bearer`; required without the two keys",
    ("minimax", "base_url"): "address of the API: `https://api.minimax.io`",
    ("comfyui", "base_url"): "address of the server, such as `http://127.0.0.1:8188`",
    ("comfyui", "token"): "secret; sent as `Authorization: Bearer`, for a proxy in front of the server",
    ("comfyui", "interval"): "duration from one poll to the next; one poll serves all jobs in the queue",
}


def upstream_page(kind: str) -> str:
    """The page of this *kind* of upstream, its table of keys made anew; a page without a mark is left as it is."""
    written = (REFERENCE / "upstreams" / f"{kind}.md").read_text(encoding="utf-8")
    if not KEYS.search(written):
        return written
    table = "\n".join(["", "| key | default | |", "| --- | --- | --- |", *key_rows(kind), "", ""])
    return KEYS.sub(lambda marks: marks[1] + table + marks[2], written)


def key_rows(kind: str) -> Iterator[str]:
    for field in msgspec.structs.fields(UPSTREAM_KINDS[kind]):
        if field.name != "pace":
            meaning = OF_A_KIND.get((kind, field.name), MEANINGS[field.name])
            yield f"| `{field.name}` | {shown_default(field)} | {meaning} |"


def shown_default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "required"
    return "none" if field.default in (None, NO_SECRET) else f"`{json.dumps(field.default)}`"


def metrics_page() -> str:
    """The page of metrics, its table made anew."""
    rows = [
        f"| `{spec.sample()}` | {spec.kind} | {', '.join(f'`{label}`' for label in spec.labels)} | {spec.help} |"
        for spec in METRICS.values()
    ]
    table = "\n".join(["", "| metric | type | labels | |", "| --- | --- | --- | --- |", *rows, "", ""])
    written = METRICS_PAGE.read_text(encoding="utf-8")
    return METRICS_TABLE.sub(lambda marks: marks[1] + table + marks[2], written)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    METRICS_PAGE.write_text(metrics_page(), encoding="utf-8")
    for name in UPSTREAM_KINDS:
        (REFERENCE / "upstreams" / f"{name}.md").write_text(upstream_page(name), encoding="utf-8")
