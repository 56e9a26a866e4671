"""A token that an upstream, a library or somebody's code puts into words is in nothing that leaves the relay.

Every output is looked at: console, file, streams, chat, the debug sink, metrics, routes, notices, tracebacks and reprs.
"""

import io
import logging
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, get_args

import aiohttp
import msgspec
import pytest
from msgspec import Struct

from relay import Exchange, Record, Redactor, Relay, UpstreamError, UsageError
from relay.config.settings import GatewaySettings
from relay.jobs.observations import Answer, Failure, Observation, Result
from relay.secret import Secret
from relay.testing import ManualClock
from relay.upstreams.base import ExchangeListener
from sinks import ConsoleSink, DebugSink, FileSink
from sinks.kinds import SINK_KINDS, make_sink
from tests.web.serving import serve

CANARY = "canary0a7f3C9e5Bd1"

SHAPES = (
    f"Authorization: Bearer {CANARY}",
    f"cannot connect to postgresql://relay:{CANARY}@db.example/jobs",
    f"GET https://cdn.example/v.mp4?X-Amz-Signature={CANARY}&x=1 failed",
    f"302 Found, Location: https://login.example/?access_token={CANARY}",
    f'{{"error": "no", "client_secret": "{CANARY}"}}',
    f"password={CANARY}",
)
"""A secret that is known by its looks alone."""

BARE = f"nobody could tell that {CANARY} is one"


class NoRedactor(Redactor):
    """Lets everything through: what this test finds then shows where it looks."""

    def __call__(self, text: str, limit: int | None = None, *, short: bool = True) -> str:
        return text

    def link(self, url: str) -> str:
        return url

    def value(self, value: Any) -> Any:
        return value


class Leaky:
    """An adapter that redacts nothing: each poll of a task puts a text of *words* wherever an adapter can."""

    name = "leaky"
    interval = 2.5
    deadline = 1_500.0
    polls_each_task = True

    def __init__(self, words: Sequence[str]) -> None:
        self.on_exchange: ExchangeListener | None = None
        self._words = words
        self._polls: dict[str, Iterator[Observation | Exception]] = {}
        self._submitted = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def submit(self, input: Mapping[str, Any]) -> str:
        self._submitted += 1
        return f"task_{self._submitted}"

    def check_input(self, input: Mapping[str, Any]) -> None:
        if "break" in input.values():
            raise RuntimeError(" ".join(self._words))

    async def cancel(self, task: str) -> None:
        raise UpstreamError("refused", self._words[0])

    async def observe(self, tasks: Sequence[str]) -> Answer:
        task = tasks[0]
        if self.on_exchange is not None:
            for words in self._words:
                self.on_exchange(an_exchange(words))
        answer = next(self._polls.setdefault(task, self._story(task)))
        if isinstance(answer, Exception):
            raise answer
        return Answer(listed=1, tasks={task: answer})

    def _story(self, task: str) -> Iterator[Observation | Exception]:
        for words in self._words:
            yield Observation(
                status="running", raw_status=words, percent=3, raw_percent=words, log=(words,), warning=words
            )
            yield UpstreamError("server", words)
            yield RuntimeError(words)
        if task.endswith("1"):
            yield Observation(status="failed", failure=Failure(kind="upstream", message=" ".join(self._words)))
        link = f"https://ann:{CANARY}@cdn.example/v.mp4"
        value = {"notes": list(self._words), "api_key": CANARY}
        yield Observation(status="succeeded", result=Result(urls=(link,), value=value))


def an_exchange(words: str) -> Exchange:
    return Exchange(
        jobs=(),
        upstream="leaky",
        method="GET",
        url=f"https://api.example/?key={CANARY}",
        status=302,
        seconds=0.1,
        request=f"Cookie: session={CANARY}\nX-Api-Key: {CANARY}\n\n{words}",
        response=f"Location: https://ann:{CANARY}@login.example/\n\n{words}",
        at=ManualClock().now(),
    )


def breaks(words: Sequence[str]) -> Callable[[Record], None]:
    """A sink whose client's library quotes the whole address."""

    def sink(record: Record) -> None:
        try:
            raise aiohttp.InvalidUrlClientError(f"https://ann:{CANARY}@hooks.example/?sig={CANARY}")
        except aiohttp.ClientError as error:
            raise ConnectionError(words[record.seq % len(words)]) from error

    return sink


def breaks_later(words: Sequence[str]) -> Any:
    async def sink(record: Record) -> None:
        raise ConnectionError(words[record.seq % len(words)])

    return sink


def content(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in folder.iterdir()}


async def everything(redactor: Redactor, words: Sequence[str], folder: Path) -> dict[str, str]:
    """All that leaves a relay, by the way on which it does."""
    notices: list[str] = []
    pretty, plain, debug = io.StringIO(), io.StringIO(), io.StringIO()
    sinks = [
        ConsoleSink(pretty, format="pretty"),
        ConsoleSink(plain, format="json"),
        DebugSink(debug),
        FileSink(folder / "jobs.jsonl"),
        FileSink(folder / "jobs.log", format="pretty"),
        breaks(words),
        breaks_later(words),
    ]
    relay = Relay(
        [Leaky(words)],
        sinks=sinks,
        clock=ManualClock(auto=True),
        notify=notices.append,
        redactor=redactor,
    )
    out: dict[str, str] = {}
    async with serve(relay, debug=True, gateway=GatewaySettings()) as client:

        async def answer(name: str, method: str, path: str, **options: Any) -> str:
            async with client.request(method, path, **options) as response:
                out[name] = f"{response.headers} {await response.text()}"
                return out[name]

        for number in (1, 2):
            path = f"/v1/jobs/{relay.follow('leaky', f'other_{number}').id}"
            await answer(f"debug stream {number}", "GET", f"{path}/events?debug=1")
            await answer(f"lines {number}", "GET", f"{path}/events", headers={"Accept": "application/x-ndjson"})
            await answer(f"job {number}", "GET", path)
        chat = {"model": "leaky", "stream": True, "messages": [{"role": "user", "content": "a cat"}]}
        for number in (1, 2):
            await answer(f"chat {number}", "POST", "/v1/chat/completions", json=chat)
        await answer("responses", "POST", "/v1/responses", json={"model": "leaky", "stream": True, "input": "a cat"})
        broken = {**chat, "messages": [{"role": "user", "content": "break"}]}
        await answer("a fault", "POST", "/v1/chat/completions", json=broken)
        running = relay.follow("leaky", "never")
        await answer("cancel", "POST", f"/v1/jobs/{running.id}/cancel")
        for path in ("/v1/jobs", "/metrics", "/readyz"):
            await answer(path, "GET", path)
    out |= {"pretty": pretty.getvalue(), "json": plain.getvalue(), "debug sink": debug.getvalue()}
    out |= content(folder)
    return {**out, "notices": "\n".join(notices)}


@pytest.mark.server
@pytest.mark.parametrize(
    ("redactor", "words"),
    [
        pytest.param(Redactor(), SHAPES, id="by its looks"),
        pytest.param(Redactor([CANARY]), (*SHAPES, BARE), id="as a secret that is configured"),
        pytest.param(Redactor(patterns=["canary[0-9A-Za-z]+"]), (*SHAPES, BARE), id="by a pattern"),
    ],
)
async def test_a_secret_is_in_nothing_that_leaves_the_relay(
    redactor: Redactor, words: Sequence[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    out = await everything(redactor, words, tmp_path)

    out["log"] = "\n".join(line_of(entry) for entry in caplog.records)
    assert {name for name, text in out.items() if CANARY in text} == set()
    assert {name for name, text in out.items() if "***" in text} >= {"pretty", "json", "debug sink", "notices", "log"}
    assert "Traceback" in out["log"]


@pytest.mark.server
async def test_without_redaction_this_test_would_find_it_everywhere(tmp_path: Path) -> None:
    out = await everything(NoRedactor(), (*SHAPES, BARE), tmp_path)

    clean = {name for name, text in out.items() if CANARY not in text}
    assert clean == {"/metrics", "/readyz", "a fault"}


def line_of(entry: logging.LogRecord) -> str:
    trace = "".join(traceback.format_exception(entry.exc_info[1])) if entry.exc_info else ""
    return f"{entry.getMessage()} {trace}"


def filled(settings: type[Struct], folder: Path) -> Struct:
    """Settings with the canary wherever a secret can be; *folder* is for a file."""
    values: dict[str, Any] = {}
    for field in msgspec.structs.fields(settings):
        kinds = {field.type, *get_args(field.type)}
        if Secret in kinds:
            values[field.name] = Secret(CANARY)
        elif field.name in ("url", "dsn", "servers", "endpoint"):
            values[field.name] = f"https://ann:{CANARY}@hooks.example/{CANARY}"
        elif field.required:
            values[field.name] = str(folder / "jobs.jsonl")
    return settings(**values)


@pytest.mark.parametrize("kind", sorted(SINK_KINDS))
def test_no_kind_of_sink_shows_a_secret_of_its_settings(kind: str, tmp_path: Path) -> None:
    settings: Any = filled(SINK_KINDS[kind], tmp_path)
    secrets = [name for name in settings.__struct_fields__ if isinstance(getattr(settings, name), Secret)]
    assert all(CANARY not in repr(getattr(settings, name)) for name in secrets)
    try:
        sink = make_sink(settings)
    except UsageError as error:
        shown = "".join(traceback.format_exception(error))
    else:
        shown = f"{sink!r} {sink}"
    assert CANARY not in shown
