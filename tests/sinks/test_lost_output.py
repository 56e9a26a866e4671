"""Output that cannot be written is not lost without a word: a line on standard error, another when it works again."""

import errno
import io
import os
import threading
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from relay import Record, Relay
from relay.events import Log
from relay.testing import ManualClock, sample_records
from sinks import ConsoleSink, DebugSink
from sinks._writer import LineWriter, Trouble
from tests.cli.asking import get, post
from tests.cli.running import relay
from tests.sinks.outputs import PATIENCE, a_pipe
from tests.web.serving import serve

FULL = Path("/dev/full")
ON_A_FULL_DISK = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full to stand for a full disk")


class Output(io.StringIO):
    """Fails while it is *full*, with whatever that is."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error: BaseException | None = error
        self.tried = threading.Event()

    def write(self, text: str) -> int:
        self.tried.set()
        if self.error is not None:
            raise self.error
        return super().write(text)


class Panic(BaseException):
    """As pyo3's PanicException, which is no Exception."""


class Heard:
    """Keeps what becomes of an output, and waits for it."""

    def __init__(self) -> None:
        self.troubles: list[Trouble] = []
        self.works = threading.Event()

    def __call__(self, trouble: Trouble) -> None:
        self.troubles.append(trouble)
        if trouble.what == "works again":
            self.works.set()


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), ValueError("closed"), Panic("no")])
def test_an_output_that_fails_is_a_trouble_once_and_once_when_it_works_again_with_what_was_lost(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sinks._writer.RETRY_AFTER", 0.001)
    out, heard = Output(error), Heard()
    writer = LineWriter(out, capacity=3, troubled=heard)
    writer.write(b"first\n")
    assert out.tried.wait(PATIENCE)
    for number in range(8):
        writer.write(b"%d\n" % number)
    out.error = None
    assert heard.works.wait(PATIENCE)
    writer.close()

    assert heard.troubles == [Trouble("fails", error, 0), Trouble("works again", None, 5)]
    assert (writer.missed, out.getvalue()) == (5, 'first\n{"type":"skipped","missed":5}\n5\n6\n7\n')


def test_what_is_left_when_it_is_closed_is_a_trouble_and_not_once_more_when_it_is_closed_again() -> None:
    out, heard = Output(OSError(errno.ENOSPC, "full")), Heard()
    writer = LineWriter(out, troubled=heard)
    for line in (b"1\n", b"2\n", b"3\n"):
        writer.write(line)
    writer.close()
    writer.close()

    assert [(trouble.what, trouble.lines) for trouble in heard.troubles] == [("fails", 0), ("left", 3)]


def test_without_an_output_every_line_is_missed_and_that_is_said_once() -> None:
    heard = Heard()
    writer = LineWriter(None, troubled=heard)
    writer.write(b"1\n")
    writer.write(b"2\n")
    writer.close()

    assert (writer.missed, heard.troubles) == (2, [Trouble("fails", None, 1)])


def test_a_pipe_that_is_only_full_is_no_trouble() -> None:
    heard = Heard()
    with a_pipe() as pipe:
        os.set_blocking(pipe.out.fileno(), False)
        writer = LineWriter(pipe.out, troubled=heard)
        for _ in range(2_000):
            writer.write(b"x" * 99 + b"\n")
        writer.write(b"last\n")
        pipe.read_lines("last")
        writer.close()
    assert heard.troubles == []


def test_what_is_told_of_a_trouble_may_fail_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sinks._writer.RETRY_AFTER", 0.001)

    def broken(_: Trouble) -> None:
        raise ValueError("no")

    class Once(Output):
        def write(self, text: str) -> int:
            try:
                return super().write(text)
            finally:
                self.error = None

    out = Once(OSError("full"))
    writer = LineWriter(out, troubled=broken)
    writer.write(b"1\n")
    assert out.tried.wait(PATIENCE)
    writer.close(PATIENCE)
    writer.write(b"2\n")
    writer.close(PATIENCE)
    assert out.getvalue() == "1\n2\n"


@ON_A_FULL_DISK
@pytest.mark.parametrize("kind", [ConsoleSink, DebugSink])
def test_a_full_disk_under_a_sink_of_a_program_is_said_by_the_relays_logger(
    kind: type[ConsoleSink] | type[DebugSink], caplog: pytest.LogCaptureFixture
) -> None:
    record: Record = sample_records()[0]
    with FULL.open("w") as out:
        sink = kind(out)
        sink(record)
        sink.close()
    name = {ConsoleSink: "the console's output", DebugSink: "the debug sink's output"}[kind]
    assert [entry.getMessage() for entry in caplog.records] == [
        f"{name} cannot be written ([Errno 28] No space left on device); lines wait for it, and it is tried again every"
        " second",
        f"{name} was closed before it took the last lines; lost with it: 1 line",
    ]


@pytest.mark.parametrize(("watched", "said"), [(False, 0), (True, 2)])
def test_a_pipe_that_nobody_reads_any_more_is_said_where_somebody_relies_on_it(
    watched: bool, said: int, caplog: pytest.LogCaptureFixture
) -> None:
    with a_pipe() as pipe:
        pipe.stop_reading()
        sink = ConsoleSink(pipe.out, watched=watched)
        sink(sample_records()[0])
        sink.close()
    assert len(caplog.records) == said


NO_SPACE = (
    "the console's output cannot be written ([Errno 28] No space left on device); lines wait for it, and it is tried"
    " again every second"
)
BROKEN = NO_SPACE.replace("[Errno 28] No space left on device", "[Errno 32] Broken pipe")
CLOSED = "the console's output is closed, so nothing is printed there"


@pytest.mark.parametrize(
    ("output", "notice"),
    [
        pytest.param("> /dev/full", NO_SPACE, marks=ON_A_FULL_DISK, id="full disk"),
        pytest.param(">&-", CLOSED, id="closed"),
        pytest.param(None, BROKEN, id="a pipe that nobody reads"),
    ],
)
@pytest.mark.server
def test_relay_serve_goes_on_where_its_output_cannot_be_written_and_says_so(
    output: str | None, notice: str, tmp_path: Path
) -> None:
    under = [] if output is None else ["sh", "-c", f'exec "$0" "$@" {output}']
    with relay("fake", "--port", "0", "--speed", "50", folder=tmp_path) as fake:
        base_url, token = fake.says(r"base_url (\S+)")[1], fake.says(r"token (\S+)")[1]
        (tmp_path / "relay.toml").write_text(
            f'[[upstreams]]\nkind = "sora"\nbase_url = "{base_url}"\ntoken = "env:TOKEN"\ninterval = "100ms"\n'
        )
        with relay("serve", "--port", "0", folder=tmp_path, piped=True, under=under, TOKEN=token) as serving:
            address = serving.says(r"serving on (\S+)/;")[1]
            serving.stop_reading()
            job = post(f"{address}/v1/jobs", {"upstream": "sora", "input": {"prompt": "[happy] a cat"}})["job"]
            assert b'"type":"done"' in get(f"{address}/v1/jobs/{job}/events")
            serving.says("the console's output")
            assert serving.said[-1] == f"relay: {notice}"
            assert get(f"{address}/healthz") == b"ok\n"


@pytest.mark.server
async def test_what_a_console_has_lost_is_in_the_metrics_under_its_own_name() -> None:
    class Once:
        missed = 3

        def __call__(self, record: Record) -> None: ...

    class Twice(Once):
        @property
        def missed(self) -> int:  # type: ignore[override]
            raise ValueError("not now")

    Twice.__qualname__ = Once.__qualname__ = "K"
    hub = Relay([], sinks=[Once(), Once(), Twice(), ConsoleSink(io.StringIO())], clock=ManualClock())
    async with serve(hub) as client:
        hub.bus.publish(hub.registry.admit(), Log(line="one"))
        async with client.get("/metrics") as response:
            text = await response.text()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    missed = {sample.labels["sink"]: sample.value for sample in samples if sample.name == "relay_sink_missed_total"}
    assert missed == {"K": 3.0, "K-2": 3.0, "K-3": 0.0, "ConsoleSink": 0.0}
    keys = [(sample.name, tuple(sorted(sample.labels.items()))) for sample in samples]
    assert len(keys) == len(set(keys)), "no sample twice"
