"""`relay tail`, a process of its own beside a relay: its lines are the very lines of that relay's console."""

import asyncio
import os
import pty
import re
import signal
import subprocess
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from relay.audit import audit
from relay.cli import main
from relay.cli.bars import bar
from relay.cli.stream import RelayStream
from relay.cli.tail import _tail
from relay.clock import SystemClock
from relay.events import Checking, Done, Position, Progress
from relay.testing import ManualClock, ScriptedUpstream
from relay.wire.record_json import stamp
from sinks.sse import frame
from tests.cli.asking import get, post
from tests.cli.running import PATIENCE, SCRIPT, Running, relay
from tests.upstreams.stub import Stub, reply

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def every_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever runs in this process prints every record, as `tests.cli.running` has it of others."""
    monkeypatch.setenv("RELAY_LOG_LEVEL", "debug")


@pytest.fixture
def fake(tmp_path: Path) -> Generator[Running]:
    with relay("fake", "--port", "0", "--speed", "20", folder=tmp_path) as process:
        yield process


def configured(fake: Running, folder: Path) -> str:
    """Write relay.toml for *fake*; the token that it takes."""
    base_url, token = fake.says(r"base_url (\S+)")[1], fake.says(r"token (\S+)")[1]
    fake.says(r"task \S+ plays happy")
    (folder / "relay.toml").write_text(
        f'[[upstreams]]\nkind = "sora"\nbase_url = "{base_url}"\ntoken = "env:TOKEN"\ninterval = "100ms"\n'
    )
    return token


def address_of(serve: Running) -> str:
    return serve.says(r"(?:serving on|page is at) (http://[^/]+)/")[1]


def submitted(address: str, scenario: str) -> str:
    job: str = post(f"{address}/v1/jobs", {"upstream": "sora", "input": {"prompt": f"[{scenario}] a cat"}})["job"]
    return job


@pytest.mark.parametrize("form", ["pretty", "json"])
def test_it_prints_the_very_lines_that_the_console_prints(
    form: str, fake: Running, tmp_path: Path, capfd: Capture
) -> None:
    token = configured(fake, tmp_path)
    with relay("serve", "--port", "0", "--log-format", form, folder=tmp_path, TOKEN=token) as serve:
        address = address_of(serve)
        jobs = [submitted(address, scenario) for scenario in ("happy", "gap")]
        assert main(["tail", address, "--format", form, *(f"--job={job}" for job in jobs)]) == 0
        assert main(["tail", f"{address}/v1/events", "--format", form, "--job", jobs[0]]) == 0
        serve.interrupt()
        assert serve.ends() == 0

    told, said = capfd.readouterr()
    alone = [line for line in serve.printed if jobs[0] in line]
    assert (told.splitlines(), said) == (serve.printed + alone, "")


def test_its_json_lines_tell_the_same_story_as_console_and_stream(
    fake: Running, tmp_path: Path, capfd: Capture
) -> None:
    token = configured(fake, tmp_path)
    with relay("serve", "--port", "0", folder=tmp_path, TOKEN=token) as serve:
        address = address_of(serve)
        job = submitted(address, "violation")
        stream = get(f"{address}/v1/jobs/{job}/events")
        assert main(["tail", address, "--job", job]) == 1
        serve.interrupt()
        assert serve.ends() == 0

    tailed = capfd.readouterr().out.encode()
    assert tailed == "".join(f"{line}\n" for line in serve.printed).encode()
    recordings = {"tail": tailed, "stream": stream}
    verdict = audit([(name, recording.splitlines(keepends=True)) for name, recording in recordings.items()])
    assert (verdict.same, verdict.records) == (True, len(serve.printed))


async def test_a_relay_that_is_killed_and_restarted_is_come_back_to_without_a_hole_or_a_repetition(
    tmp_path: Path,
) -> None:
    """Its job goes on only once the relay is back: the clock of the upstream is moved by hand."""
    loop, clock = asyncio.get_running_loop(), ManualClock()
    async with ScriptedUpstream(clock=clock) as upstream:
        (tmp_path / "relay.toml").write_text(
            f'[[upstreams]]\nkind = "sora"\nbase_url = "{upstream.url}"\ntoken = "env:TOKEN"\ninterval = "100ms"\n'
        )

        def finish() -> None:
            asyncio.run_coroutine_threadsafe(clock.advance(60), loop).result(PATIENCE)

        await asyncio.to_thread(tell_through_a_kill, tmp_path, upstream.token, finish)


def tell_through_a_kill(folder: Path, token: str, finish: Callable[[], None]) -> None:
    with relay("serve", "--port", "0", folder=folder, TOKEN=token) as serve:
        address = address_of(serve)
        job = submitted(address, "happy")
        with relay("tail", address, "--job", job, folder=folder, piped=True) as tail:
            before = [tail.prints() for _ in range(6)]
            serve.interrupt(signal.SIGKILL)
            serve.ends()
            tail.says(r"the connection was lost \(.+\); coming back")
            port = str(urlsplit(address).port)
            with relay("serve", "--port", port, folder=folder, TOKEN=token) as again:
                tail.says("the connection is back")
                finish()
                assert tail.ends() == 0
                told = [line.rstrip("\n") for line in before] + tail.printed
                again.interrupt()
                assert again.ends() == 0

    with relay("replay", "relay.db", "--speed", "0", "--job", job, folder=folder) as replay:
        assert replay.ends() == 0
    assert told == replay.printed
    assert [re.sub(r"\(.+\)", "", line) for line in tail.said] == [
        "relay: the connection was lost ; coming back",
        "relay: the connection is back",
    ]


def test_a_relay_that_ends_in_order_says_bye_and_is_come_back_to(fake: Running, tmp_path: Path) -> None:
    token = configured(fake, tmp_path)
    with relay("serve", "--port", "0", folder=tmp_path, TOKEN=token) as serve:
        address = address_of(serve)
        with relay("tail", address, folder=tmp_path, piped=True) as tail:
            job = submitted(address, "happy")
            assert job in tail.prints()
            serve.interrupt()
            assert serve.ends() == 0
            tail.says(r"bye: the relay is shutting down; coming back in [0-9.]+ s")
            port = str(urlsplit(address).port)
            with relay("serve", "--port", port, folder=tmp_path, TOKEN=token):
                tail.says("the connection is back")
                while '"type":"done"' not in (last := tail.prints()):
                    assert last
                tail.interrupt()
                assert tail.ends() == 130
    assert len(tail.said) == 2


def test_it_ends_quietly_when_nobody_reads_it_any_more(tmp_path: Path) -> None:
    with relay("demo", "--port", "0", "--jobs", "1", "--speed", "0.01", folder=tmp_path) as demo:
        with relay("tail", address_of(demo), folder=tmp_path, piped=True) as tail:
            assert tail.prints()
            tail.stop_reading()
            assert tail.ends() == 141
        assert tail.said == []


def test_ctrl_c_ends_it_quietly(tmp_path: Path) -> None:
    with relay("demo", "--port", "0", "--jobs", "1", "--speed", "0.01", folder=tmp_path) as demo:
        with relay("tail", address_of(demo), folder=tmp_path, piped=True) as tail:
            assert tail.prints()
            tail.interrupt()
            assert tail.ends() == 130
        assert tail.said == []


def test_what_was_told_already_is_not_told_again(tmp_path: Path, capfd: Capture) -> None:
    with relay("demo", "--port", "0", "--jobs", "1", "--speed", "50", folder=tmp_path) as demo:
        address = address_of(demo)
        assert main(["tail", address, "--job", job_of(address)]) == 0
        whole = capfd.readouterr().out.splitlines()
        stream = get(f"{address}/v1/jobs/{job_of(address)}/events").decode()
        ids = re.findall("^id: (.+)$", stream, re.MULTILINE)

        for since, rest in [(ids[-3], whole[-2:]), (ids[-1], []), ("start", whole), ("0", whole), ("now", [])]:
            assert main(["tail", address, "--job", job_of(address), "--since", since]) == 0
            assert capfd.readouterr() == ("".join(f"{line}\n" for line in rest), ""), since


def job_of(address: str) -> str:
    """The only job of the relay at *address*."""
    (found,) = re.findall(rb'"job":"([^"]+)"', get(f"{address}/v1/jobs"))
    return str(found.decode())


async def test_more_lines_than_the_console_holds_are_all_printed(capfd: Capture) -> None:
    at, position = datetime(2026, 1, 1, tzinfo=UTC), Position("e", 1)
    records = [stamp("a", seq, at, Checking(attempt=seq, of=20_000), position) for seq in range(1, 20_000)]
    records.append(stamp("a", 20_000, at, Done(urls=()), position))
    async with Stub(reply(b"".join(map(frame, records)), content_type="text/event-stream")) as stub:
        stream = RelayStream(stub.url, ["a"], clock=SystemClock())
        assert await _tail(stream, "json", asyncio.Event()) == 0

    assert capfd.readouterr().out.encode() == b"".join(record.json + b"\n" for record in records)


STORY = b"".join(map(frame, [stamp("a", 1, datetime(2026, 1, 1, tzinfo=UTC), Done(urls=()), Position("e", 1))]))
CREDENTIALS = ["--token=env:TOKEN", "--header=X-Api-Key=file:key", "--header=Cookie=env:COOKIE"]


async def tailed(url: str, folder: Path, *arguments: str) -> Running:
    """`relay tail` with secrets in its environment and in a file, once it has ended."""
    (folder / "key").write_text("canary-key\n")
    secrets = {"TOKEN": "canary-token", "USER_PASSWORD": "me:canary-word", "COOKIE": "session=canary-cookie"}

    def run() -> Running:
        with relay("tail", url, "--job", "a", *arguments, folder=folder, **secrets) as tail:  # type: ignore[arg-type]
            tail.ends()
        return tail

    return await asyncio.to_thread(run)


def presented(request: bytes) -> dict[str, str]:
    """The headers of *request* that hold a secret."""
    lines = [line.partition(": ") for line in request.decode().split("\r\n")]
    return {name.lower(): value for name, _, value in lines if "canary" in value or name.lower() == "authorization"}


async def test_it_presents_what_is_named_and_never_prints_it(tmp_path: Path) -> None:
    everything = {
        "authorization": "Bearer canary-token", "x-api-key": "canary-key", "cookie": "session=canary-cookie"
    }  # fmt: skip
    basic = {"authorization": "Basic bWU6Y2FuYXJ5LXdvcmQ="}
    for arguments, headers in [([], {}), (CREDENTIALS, everything), (["--basic", "env:USER_PASSWORD"], basic)]:
        async with Stub(reply(STORY, content_type="text/event-stream")) as stub:
            tail = await tailed(stub.url, tmp_path, *arguments)
        assert (tail.said, len(tail.printed)) == ([], 1)
        assert [presented(request) for request in stub.requests] == [headers]


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden", "302 Found", "303 See Other"])
async def test_a_refusal_says_how_to_present_a_secret_and_no_redirect_is_followed(status: str, tmp_path: Path) -> None:
    async with Stub(reply(STORY, content_type="text/event-stream")) as elsewhere:
        async with Stub(reply("<p>log in", status, content_type="text/html", location=elsewhere.url)) as stub:
            tail = await tailed(stub.url, tmp_path, *CREDENTIALS)
        assert elsewhere.requests == []
    assert tail.printed == []
    assert tail.said == [
        f"relay: {stub.url} answers {status[:3]}; present what it asks for with --token, --basic or --header"
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--token", "canary"],
            "--token is a secret; keep it out of the command line, and write env:NAME or file:PATH",
        ),
        (["--token", "env:NONE"], "--token comes from the environment variable NONE, which is not set"),
        (["--token", "env:TWO"], "--token comes from the environment variable TWO, which has a space at character 7"),
        (["--token", "env:BEARER"], "--token comes from the environment variable BEARER, which begins with the word"),
        (["--token", "file:none"], "--token comes from the file none, which cannot be read: No such file or directory"),
        (["--basic", "env:ONE"], "--basic comes from the environment variable ONE, which has no colon; it is written"),
        (["--header", "X-Key"], "--header X-Key is a secret; keep it out of the command line"),
        (["--header", "X-Key=canary"], "--header X-Key is a secret; keep it out of the command line"),
        (["--header", "X-Key=env:LINES"], "--header X-Key comes from the environment variable LINES, which goes on in"),
        (["--header", "X-Key=env:UMLAUT"], "which has characters that are not ASCII; a header has none"),
        (["--header", "a b=env:ONE"], "--header is a name and where its value comes from, as in"),
        (["--header", "Last-Event-ID=env:ONE"], "--header Last-Event-ID is set by relay tail itself"),
        (["--token", "env:ONE", "--header", "authorization=env:ONE"], "one header has one value; give one of --token,"),
    ],
)
def test_a_mistake_about_a_secret_is_one_line_that_does_not_hold_it(
    arguments: list[str], said: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = {
        "ONE": "canary",
        "TWO": "canary canary",
        "BEARER": "Bearer canary",
        "LINES": "canary\nx",
        "UMLAUT": "canary\u00e4",
    }
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert main(["tail", "127.0.0.1:1", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert "canary" not in line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ftp://127.0.0.1"], "'ftp://127.0.0.1' is no address of a relay; that is one such as http://127.0.0.1:8080"),
        (["http://me:secret@127.0.0.1"], "without user and query; see relay tail --help"),
        (["http://127.0.0.1:99999"], "is no address of a relay"),
        (["http://"], "is no address of a relay"),
        (["127.0.0.1:1"], "nothing answers at http://127.0.0.1:1 (Connection refused); name the address of a relay"),
        (["--since", "yesterday"], "'yesterday' is neither 'start', 'now' nor the id of a record, such as '7f3a-42'"),
        (["--since", "e-1\r\nCookie: x"], "is neither 'start', 'now' nor the id of a record"),
        (["--format", "xml"], "'xml' is not one of 'pretty', 'json', 'bars'"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_do(arguments: list[str], said: str, capsys: Capture) -> None:
    assert main(["tail", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_a_mistake_of_which_nobody_reads_is_its_status_alone() -> None:
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    ours, theirs = os.pipe()
    os.close(ours)
    try:
        ended = subprocess.run([SCRIPT, "tail", "127.0.0.1:1"], stderr=theirs, env=buffered, check=False)
        assert ended.returncode == 2
    finally:
        os.close(theirs)


def test_a_job_that_is_not_known_is_one_line_and_status_2(tmp_path: Path, capsys: Capture) -> None:
    with relay("serve", "--port", "0", folder=tmp_path) as serve:
        address = address_of(serve)
        assert main(["tail", address, "--job", "job_x"]) == 2
    assert capsys.readouterr().err == f"relay: no job 'job_x' is known at {address}; GET {address}/v1/jobs lists all\n"


def test_bars_need_a_terminal_and_are_lines_elsewhere(tmp_path: Path, capfd: Capture) -> None:
    with relay("demo", "--port", "0", "--jobs", "1", "--speed", "50", folder=tmp_path, piped=True) as demo:
        address = address_of(demo)
        assert demo.prints()
        job = job_of(address)
        assert main(["tail", address, "--job", job, "--format", "bars"]) == 0
        told, said = capfd.readouterr()
        assert main(["tail", address, "--job", job, "--format", "pretty"]) == 0
    assert said == "relay: bars need a terminal; these are lines instead\n"
    assert told == capfd.readouterr().out


@contextmanager
def on_a_terminal(*arguments: str) -> Generator[tuple[int, subprocess.Popen[bytes]]]:
    """`relay` with *arguments*, and the other end of the terminal that it prints on."""
    ours, theirs = pty.openpty()
    environ = {**os.environ, "COLUMNS": "80", "LINES": "24", "TERM": "xterm"}
    try:
        with subprocess.Popen([SCRIPT, *arguments], stdout=theirs, stderr=theirs, env=environ) as process:
            os.close(theirs)
            try:
                yield ours, process
            finally:
                process.kill()
    finally:
        os.close(ours)


async def test_on_a_terminal_each_job_ends_as_a_bar() -> None:
    """The relay tells the end only once the bar that runs has been drawn."""
    at, position = datetime(2026, 1, 1, tzinfo=UTC), Position("e", 1)
    running = stamp("job_1", 1, at, Progress(percent=40, status="running"), position)
    done = stamp("job_1", 2, at, Done(urls=("https://a/b",)), position)
    drawn = asyncio.Event()

    async def tell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + frame(running))
        await drawn.wait()
        writer.write(frame(done))
        writer.close()

    def watch(address: str, loop: asyncio.AbstractEventLoop) -> tuple[int, str]:
        shown = b""
        with on_a_terminal("tail", address, "--job", "job_1", "--format", "bars") as (terminal, process):
            while data := read(terminal):
                shown += data
                if b"(running)" in shown:
                    loop.call_soon_threadsafe(drawn.set)
            return process.wait(PATIENCE), shown.decode().replace("\r\n", "\n")

    async with await asyncio.start_server(tell, "127.0.0.1", 0) as server:
        address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        status, shown = await asyncio.to_thread(watch, address, asyncio.get_running_loop())

    live = bar("job_1", 40, "40% (running)")
    assert (status, shown.replace("\r\x1b[J", "")) == (
        0,
        f"{live}\n\x1b[1A{bar('job_1', 100, 'done, 1 file')}\n",
    )


def read(terminal: int) -> bytes:
    """What comes next; nothing at its end, which Linux tells as an error."""
    try:
        return os.read(terminal, 65_536)
    except OSError:
        return b""
