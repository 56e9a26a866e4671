"""What ends a command from outside: a terminal that is closed, SIGHUP, SIGTERM, a second signal."""

import os
import pty
import re
import signal
import subprocess
from collections.abc import Generator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import pytest

from relay.journal import SqliteJournal
from tests.cli.asking import answer, post
from tests.cli.running import PATIENCE, SCRIPT, Running, relay
from tests.cli.test_serve import LINGERS
from tests.journal.telling import Teller

ENDS = '''
class Ends:
    """Says in a file that it was left in order."""

    def __call__(self, record): ...

    async def __aenter__(self): ...

    async def __aexit__(self, *error):
        open("ended", "x").close()
'''


class Terminal:
    """A command that a terminal of its own controls, as in a window; only what it prints is seen."""

    def __init__(self, ours: int, process: subprocess.Popen[bytes]) -> None:
        self._ours = ours
        self._process = process
        self._shown = b""

    def shows(self, pattern: bytes) -> re.Match[bytes]:
        """Wait until *pattern* is on the terminal."""
        while not (match := re.search(pattern, self._shown)):
            self._shown += os.read(self._ours, 65_536)
        return match

    def close(self) -> int:
        """Close the window; the exit status of what ran in it."""
        os.close(self._ours)
        return self._process.wait(PATIENCE)


@contextmanager
def in_a_window(*arguments: str, folder: Path, **environ: str) -> Generator[Terminal]:
    ours, theirs = pty.openpty()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RELAY_")}
    process = subprocess.Popen(
        [SCRIPT, *arguments],
        cwd=folder,
        env={**kept, "RELAY_LOG_LEVEL": "debug", **environ, "TERM": "xterm"},
        preexec_fn=partial(os.login_tty, theirs),
    )
    os.close(theirs)
    try:
        yield Terminal(ours, process)
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def fake(tmp_path: Path) -> Generator[Running]:
    with relay("fake", "--port", "0", "--scenario", "never-finishes", folder=tmp_path) as process:
        yield process


def test_serve_ends_in_order_when_its_terminal_is_closed(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(ENDS)
    (tmp_path / "relay.toml").write_text('[[sinks]]\nkind = "console"\n[[sinks]]\nkind = "own:Ends"\n')
    with in_a_window("serve", "--port", "0", folder=tmp_path) as window:
        address = window.shows(rb"serving on (http://127\.0\.0\.1:\d+)/")[1].decode()
        with answer("GET", f"{address}/v1/events", Accept="text/event-stream") as stream:
            window.shows(b"no upstream is configured")
            assert window.close() == 0
            assert b"event: bye\n" in stream.read()
    assert (tmp_path / "ended").exists()


def test_demo_and_fake_end_in_order_when_their_terminal_is_closed(tmp_path: Path) -> None:
    for arguments in (["demo", "--jobs", "1"], ["fake"]):
        with in_a_window(*arguments, "--port", "0", folder=tmp_path) as window:
            window.shows(b"Ctrl-C ends this")
            assert window.close() == 0


def test_follow_and_tail_are_interrupted_when_their_terminal_is_closed(fake: Running, tmp_path: Path) -> None:
    table, token, task = upstream_of(fake)
    (tmp_path / "relay.toml").write_text(table)
    with in_a_window("follow", "sora", task, folder=tmp_path, TOKEN=token) as window:
        window.shows(b"accepted")
        assert window.close() == 130
    with relay("serve", "--port", "0", folder=tmp_path, TOKEN=token) as serve:
        address = serve.says(r"serving on (\S+)/;")[1]
        post(f"{address}/v1/jobs", {"upstream": "sora", "task": task})
        for form in ("pretty", "bars"):
            with in_a_window("tail", address, "--format", form, folder=tmp_path) as window:
                window.shows(b"job_")
                assert window.close() == 130


def upstream_of(fake: Running) -> tuple[str, str, str]:
    """The table for relay.toml, the token, and the task."""
    base_url, token = fake.says(r"base_url (\S+)")[1], fake.says(r"token (\S+)")[1]
    task = fake.says(r"task (\S+) plays")[1]
    return f'[[upstreams]]\nkind = "sora"\nbase_url = "{base_url}"\ntoken = "env:TOKEN"\n', token, task


def test_replay_is_interrupted_when_its_terminal_is_closed(tmp_path: Path) -> None:
    with closing(SqliteJournal(tmp_path / "relay.db")) as journal:
        teller = Teller(journal)
        teller.tell("a")
        teller.wait(3_600)
        teller.tell("a")
    with in_a_window("replay", "relay.db", folder=tmp_path) as window:
        window.shows(b"a +")
        assert window.close() == 130


def test_a_hangup_is_ignored_where_it_was_at_the_start_as_under_nohup(tmp_path: Path) -> None:
    with relay("serve", "--port", "0", folder=tmp_path, under=["nohup"]) as serve:
        address = serve.says(r"serving on (\S+)/;")[1]
        serve.interrupt(signal.SIGHUP)
        with answer("GET", f"{address}/healthz") as response:
            assert response.status == 200
        serve.interrupt(signal.SIGTERM)
        assert serve.ends() == 0


FILE = '[[sinks]]\nkind = "file"\npath = "jobs.jsonl"\n'

REOPENS = '''
import sys

class Reopens:
    """Says that it has opened its file again."""

    def __call__(self, record): ...

    def reopen(self):
        print("opened again", file=sys.stderr, flush=True)

class Fails(Reopens):
    def reopen(self):
        raise OSError("it is not there")
'''


def test_a_hangup_opens_the_files_of_sinks_again_and_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(REOPENS)
    (tmp_path / "relay.toml").write_text('[[sinks]]\nkind = "own:Fails"\n[[sinks]]\nkind = "own:Reopens"\n')
    with relay("serve", "--port", "0", folder=tmp_path) as serve:
        address = serve.says(r"serving on (\S+)/;")[1]
        for _ in range(2):
            serve.interrupt(signal.SIGHUP)
            serve.says("opening the file of a sink again failed: OSError: it is not there")
            serve.says("opened again")
        with answer("GET", f"{address}/healthz") as response:
            assert response.status == 200
        serve.interrupt(signal.SIGTERM)
        assert serve.ends() == 0


def test_a_file_that_was_renamed_is_opened_again_by_a_hangup(fake: Running, tmp_path: Path) -> None:
    table, token, task = upstream_of(fake)
    (tmp_path / "relay.toml").write_text(table + FILE + '[[sinks]]\nkind = "own:Reopens"\n')
    (tmp_path / "own.py").write_text(REOPENS)
    file = tmp_path / "jobs.jsonl"
    with relay("serve", "--port", "0", folder=tmp_path, TOKEN=token) as serve:
        address = serve.says(r"serving on (\S+)/;")[1]
        file.rename(tmp_path / "jobs.1")
        serve.interrupt(signal.SIGHUP)
        serve.says("opened again")
        post(f"{address}/v1/jobs", {"upstream": "sora", "task": task})
        serve.interrupt(signal.SIGTERM)
        assert serve.ends() == 0
    assert (tmp_path / "jobs.1").read_bytes() == b""
    assert b'"type":"accepted"' in file.read_bytes()


def test_serve_with_a_file_ends_in_order_when_its_terminal_is_closed(tmp_path: Path) -> None:
    (tmp_path / "relay.toml").write_text(FILE)
    with in_a_window("serve", "--port", "0", folder=tmp_path) as window:
        window.shows(b"no upstream is configured")
        assert window.close() == 0


@pytest.mark.parametrize("first", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_hangup_behind_the_first_signal_changes_nothing_and_another_signal_ends_at_once(
    first: signal.Signals, second: signal.Signals, tmp_path: Path
) -> None:
    (tmp_path / "own.py").write_text(LINGERS)
    (tmp_path / "relay.toml").write_text('[[sinks]]\nkind = "own:Lingers"')
    with relay("serve", "--port", "0", folder=tmp_path) as serve:
        serve.says("serving on")
        serve.interrupt(first)
        serve.says("lingering")
        serve.interrupt(signal.SIGHUP)
        serve.interrupt(second)
        assert serve.ends() == -second
    assert not any("Traceback" in line for line in serve.said)
