"""What relay.toml names, built: upstreams, the console, and sinks of anybody's own."""

import signal
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from relay import Job, Relay
from relay.attachments.adapt import as_sink
from relay.cli.build import build_pace, build_relay, build_sink, build_sinks, build_upstream
from relay.cli.names import own_names, own_origins
from relay.cli.running import run
from relay.config import check_origins, load
from relay.config.settings import (
    AttachSettings,
    ConfiguredSink,
    CustomSinkSettings,
    JournalSettings,
    Settings,
)
from relay.config.tables import read_table
from relay.errors import ConfigError
from relay.events import Checking, Done, Event, Failed, Position, Progress, Record, Retrying
from relay.journal import MemoryJournal, SqliteJournal
from relay.pace import MIN_DELAY
from relay.queue import Queued
from relay.secret import Secret
from relay.testing import ManualClock
from relay.upstreams import Fal, PollRequest
from relay.upstreams.declared.declaration import HttpSettings
from relay.upstreams.dialects.fal import FalSettings
from relay.upstreams.dialects.sora import SoraSettings
from relay.upstreams.registry import DIALECTS, UPSTREAM_KINDS, adapter
from relay.wire.record_json import stamp
from sinks import ConsoleSink, DebugSink
from sinks.console import ConsoleSettings
from sinks.debug import DebugSettings

MODULE = '''
heard = []

def hears(record):
    heard.append(record.event.type)

class Mail:
    """Hears raw exchanges as well, and is entered and left."""
    def __init__(self, to="nobody"):
        self.to, self.heard, self.entered = to, [], []
    def __call__(self, record):
        self.heard.append(record.event.type)
    def exchange(self, exchange): ...
    async def __aenter__(self):
        self.entered.append("in")
    async def __aexit__(self, *error):
        self.entered.append("out")

class Outer:
    inner = hears

async def later(record): ...
class Later:
    async def __call__(self, record): ...
def two(record, more): ...
number = 3
'''


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """`my_sinks`, importable."""
    (tmp_path / "my_sinks.py").write_text(MODULE)
    (tmp_path / "my_exit.py").write_text("raise SystemExit")
    (tmp_path / "my_typo.py").write_text("def f(:")
    monkeypatch.syspath_prepend(tmp_path)
    import my_sinks  # type: ignore[import-not-found]  # pyright: ignore[reportMissingImports]

    yield my_sinks
    for name in ("my_sinks", "my_exit", "my_typo"):
        sys.modules.pop(name, None)


def record(event: Event) -> Record:
    return stamp("job_a", 1, datetime(2026, 1, 1, tzinfo=UTC), event, Position("e", 1))


def custom(target: str, level: Any = "debug", **options: Any) -> Any:
    return of_kind(CustomSinkSettings(target=target, level=level, options=options))


def of_kind(settings: Struct, *more: Any) -> Any:
    """The sink of these settings, as it was made."""
    return build_sink(ConfiguredSink(settings=settings), *more).sink


def test_what_relay_toml_says_of_an_upstream_is_what_is_built() -> None:
    settings = SoraSettings(base_url="http://g:1", token=Secret("t"), name="studio", interval=5.0, deadline=60.0)
    memory = JournalSettings(url="memory:")
    relay = build_relay(
        Settings(upstreams=(settings,), sinks=(ConfiguredSink(settings=DebugSettings()),), journal=memory)
    )
    assert [(up.name, up.interval, up.deadline) for up in relay.upstreams.values()] == [("studio", 5.0, 60.0)]


@pytest.mark.parametrize("kind", UPSTREAM_KINDS)
def test_each_kind_of_upstream_is_built_with_the_defaults_of_its_adapter(kind: str) -> None:
    settings: type[Any] = UPSTREAM_KINDS[kind]
    more: dict[str, Any] = (
        {"poll": PollRequest(path="{task}", status="s", content="{task}")} if settings is HttpSettings else {}
    )
    built = build_upstream(settings(base_url="http://g:1", token=Secret("t"), **more), ManualClock())
    made: Any = adapter(kind)("http://g:1", "t", **more)
    assert (built.name, built.interval, built.deadline) == (made.name, made.interval, made.deadline)


def test_every_kind_that_relay_toml_may_name_can_be_built() -> None:
    assert {kind: settings.kind for kind, settings in UPSTREAM_KINDS.items()} == {kind: kind for kind in DIALECTS}


def test_a_model_of_relay_toml_is_that_of_the_adapter_and_one_that_is_none_is_refused() -> None:
    table = {"base_url": "https://g", "token": "env:T", "model": "fal-ai/flux"}
    settings = read_table(FalSettings, table, "[[upstreams]]", lambda _: Secret("t"))
    assert isinstance(build_upstream(settings, ManualClock()), Fal)
    with pytest.raises(ConfigError, match="model must be a model such as fal-ai/fast-sdxl"):
        read_table(FalSettings, {**table, "model": "flux"}, "[[upstreams]]", lambda _: Secret("t"))


@pytest.mark.parametrize(("url", "kind"), [("memory:", MemoryJournal), ("sqlite:jobs.db", SqliteJournal)])
def test_a_journal_is_where_relay_toml_says_from_the_current_directory(
    url: str, kind: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with closing(build_relay(Settings(journal=JournalSettings(url=url))).journal) as journal:
        assert isinstance(journal, kind)
        assert (tmp_path / "jobs.db").exists() is url.startswith("sqlite")


def test_a_console_prints_in_the_format_of_the_command_line_before_that_of_the_file() -> None:
    sinks = [of_kind(ConsoleSettings(format="pretty"), "json"), of_kind(ConsoleSettings(format="pretty"))]
    assert [sink.format for sink in sinks if isinstance(sink, ConsoleSink)] == ["json", "pretty"]


def test_a_debug_sink_is_built() -> None:
    assert isinstance(of_kind(DebugSettings()), DebugSink)


def test_a_function_is_a_sink_as_it_is(module: Any) -> None:
    assert custom("my_sinks:hears") is module.hears
    assert custom("my_sinks:Outer.inner") is module.hears


def test_a_class_is_made_with_the_keys_of_its_table() -> None:
    assert (custom("my_sinks:Mail", to="ops").to, custom("my_sinks:Mail").to) == ("ops", "nobody")


async def test_a_sink_receives_what_its_table_says_and_every_end_at_any_level(module: Any) -> None:
    table = CustomSinkSettings(target="my_sinks:hears", level="warning")
    types = ("retrying", "done")
    for attached, expected in (
        (AttachSettings(), ["retrying", "done", "failed"]),
        (AttachSettings(types=types), ["retrying", "done"]),
        (AttachSettings(jobs=("job_b",)), ["failed"]),
    ):
        module.heard.clear()
        async with Relay([], sinks=[build_sink(ConfiguredSink(settings=table, attached=attached))]) as relay:
            first, second = (relay.registry.add(Job(id)) for id in ("job_a", "job_b"))
            for event in (
                Checking(attempt=1, of=2),
                Progress(percent=1, status="running"),
                Retrying(kind="network", message="", attempt=1, next_in=1.0),
                Done(urls=()),
            ):
                relay.bus.publish(first, event)
            relay.bus.publish(second, Failed(kind="lost", message=""))
        assert module.heard == expected


async def test_a_sink_with_a_level_keeps_its_other_abilities() -> None:
    settings = CustomSinkSettings(target="my_sinks:Mail", level="info")
    options = build_sink(ConfiguredSink(settings=settings, attached=AttachSettings(name="mail")))
    async with Relay([], sinks=[options]) as relay:
        assert [sink.name for sink in relay.sinks] == ["mail"]
    assert options.sink.entered == ["in", "out"]


def test_sinks_of_the_box_are_called_by_their_kind_and_no_two_alike() -> None:
    console, debug = ConfiguredSink(settings=ConsoleSettings()), ConfiguredSink(settings=DebugSettings())
    named = ConfiguredSink(settings=DebugSettings(), attached=AttachSettings(name="console"))
    mail = ConfiguredSink(settings=CustomSinkSettings(target="my_sinks:Mail"))
    built = build_sinks(Settings(sinks=(console, debug, console, named, mail)))
    assert [sink.name for sink in built] == ["console-2", "debug", "console-3", "console", None]
    with pytest.raises(ConfigError, match=r"two \[\[sinks\]\] are called 'console'; give each a name of its own"):
        build_sinks(Settings(sinks=(named, named)))


@pytest.mark.parametrize("target", ["my_sinks:later", "my_sinks:Later"])
def test_an_asynchronous_sink_is_accepted_and_comes_behind_a_queue(target: str) -> None:
    assert isinstance(as_sink(custom(target)), Queued)


@pytest.mark.parametrize(
    ("attached", "sentence"),
    [
        (AttachSettings(types=("dome",)), "sink my_sinks:hears: no event has the type 'dome'"),
        (AttachSettings(durable=True), "sink my_sinks:hears: a durable sink needs a name"),
    ],
)
def test_a_table_that_cannot_be_is_refused_with_the_name_of_the_sink(attached: AttachSettings, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        build_sink(ConfiguredSink(settings=CustomSinkSettings(target="my_sinks:hears"), attached=attached))


@pytest.mark.parametrize(
    ("target", "options", "line"),
    [
        ("no_such:x", {}, "cannot be imported: ModuleNotFoundError: No module named 'no_such'"),
        ("my_sinks.sub:x", {}, "cannot be imported: ModuleNotFoundError: No module named 'my_sinks.sub'"),
        ("my_exit:x", {}, "cannot be imported: SystemExit: "),
        ("my_typo:f", {}, "cannot be imported: SyntaxError: "),
        (":x", {}, "cannot be imported: ValueError: Empty module name"),
        ("my_sinks:mail", {}, ": my_sinks has no 'mail'; did you mean 'Mail'?"),
        ("my_sinks:Outer.nothing", {}, ": my_sinks has no 'nothing'"),
        ("my_sinks:number", {}, "cannot be called; a sink is a callable of one record"),
        ("my_sinks:two", {}, "cannot be called with a record alone: missing a required argument: 'more'"),
        ("my_sinks:hears", {"to": 1}, "is no class, so it takes no keys; remove to"),
        ("my_sinks:Mail", {"two": 1}, "cannot be made with two: TypeError: "),
    ],
)  # fmt: skip
def test_what_cannot_be_a_sink_is_refused_with_the_reason(target: str, options: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        custom(target, **options)
    said = str(caught.value).removeprefix(f"sink {target}").lstrip(" ")
    assert said.startswith(line)


def test_a_function_without_a_signature_is_a_sink() -> None:
    assert custom("builtins:print") is print


def test_the_names_a_relay_answers_to_are_its_addresses_and_its_public_name() -> None:
    loopback = {"localhost", "127.0.0.1", "[::1]"}
    assert own_names("::1", None) == loopback
    assert own_names("127.0.0.2", "https://Relay.example.org:8443/x") == {*loopback, "127.0.0.2", "relay.example.org"}
    assert own_names("unix:/run/relay.sock", "https://relay.example.org") == {"<local>", "relay.example.org"}
    assert own_names("systemd", None) == {"<local>"}
    assert own_names("::", None) == {"<local>", "[::]"}
    assert own_names("relay.internal", "https://[2001:db8::1]") == {"<local>", "relay.internal", "[2001:db8::1]"}


@pytest.mark.parametrize(
    ("public_url", "origins"),
    [
        (None, set()),
        ("https://Relay.example.org:8443/x", {"https://relay.example.org:8443"}),
        ("https://relay.example.org:443", {"https://relay.example.org"}),
        ("http://[2001:DB8:0::1]:80/", {"http://[2001:db8::1]"}),
        ("https://Bücher.example", {"https://xn--bcher-kva.example"}),
    ],
)
def test_the_origin_of_the_public_address_is_as_a_browser_sends_it(public_url: str | None, origins: set[str]) -> None:
    assert own_origins(public_url) == origins
    check_origins(origins, "")


def test_the_first_interrupt_asks_and_the_second_is_the_systems_own() -> None:
    async def work(stop: Any) -> int:
        signal.raise_signal(signal.SIGTERM)
        await stop.wait()
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == 2 * [signal.SIG_DFL]
        return 7

    before = signal.getsignal(signal.SIGTERM)
    assert run(work) == 7
    assert signal.getsignal(signal.SIGTERM) is before


CALLED = (
    '[[upstreams]]\nkind = "luma"\nbase_url = "https://g"\ntoken = "env:T"\n[upstreams.webhook]\nsecret = "env:S"\n'
)
SERVED = '[server]\npublic_url = "https://relay.example"\n[journal]\nurl = "memory:"\n'
LONG = "sixteen-or-more-of-them"


def configured(tmp_path: Path, text: str, secret: str) -> Settings:
    (tmp_path / "relay.toml").write_text(text)
    return load(tmp_path / "relay.toml", {"T": "token", "S": secret})


def test_an_upstream_with_a_webhook_is_asked_to_call_where_the_relay_is_reached(tmp_path: Path) -> None:
    webhooks = build_relay(configured(tmp_path, SERVED + CALLED, LONG)).webhooks
    assert webhooks is not None
    assert (webhooks.url("luma", "job_1") or "").startswith("https://relay.example/v1/webhooks/luma/job_1/cb_")


@pytest.mark.parametrize(
    ("text", "secret", "problem"),
    [
        (CALLED, LONG, "upstream luma webhook needs an address to call: say public_url in"),
        (SERVED + CALLED, "too-short", "the webhook secret of upstream luma has fewer than 16 characters"),
        (
            SERVED + CALLED + 'signing_secret = "env:T"',
            "sixteen-or-more-of-them",
            "the signing secret of upstream luma",
        ),
    ],
)
def test_a_webhook_that_cannot_work_is_refused_at_the_start(
    tmp_path: Path, text: str, secret: str, problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem) as error:
        build_relay(configured(tmp_path, text, secret))
    assert secret not in str(error.value)


@pytest.mark.parametrize(("interval", "floor"), [(2.5, MIN_DELAY), (1.0, MIN_DELAY), (30.0, 30.0)])
def test_an_interval_that_was_made_longer_is_no_upstreams_to_shorten(interval: float, floor: float) -> None:
    settings = SoraSettings(base_url="http://127.0.0.1", token=Secret("t"), interval=interval)

    assert build_pace(settings).floor == floor
