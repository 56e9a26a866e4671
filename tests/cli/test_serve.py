"""`relay serve` and `relay fake`, each a process of its own, and the sinks that relay.toml names."""

import signal
from collections.abc import Generator
from pathlib import Path

import pytest

from relay.audit import Verdict, audit
from relay.cli.loops import VARIABLE
from tests.cli.asking import answer, get, post
from tests.cli.running import Running, relay

NOTIFY = '''
def notify(record):
    """The whole of a custom sink."""
    with open("seen.jsonl", "ab") as file:
        file.write(record.json + b"\\n")
'''

FAILS = """
class Fails:
    def __init__(self, word):
        self.word = word

    def __call__(self, record):
        raise RuntimeError(self.word)
"""

LINGERS = """
import asyncio
import sys


class Lingers:
    def __call__(self, record): ...

    async def __aenter__(self): ...

    async def __aexit__(self, *error):
        print("lingering", file=sys.stderr, flush=True)
        await asyncio.Event().wait()
"""


@pytest.fixture(params=["asyncio", "uvloop"], autouse=True)
def loop(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop of every process that a test starts."""
    monkeypatch.setenv(VARIABLE, request.param)


@pytest.fixture
def fake(tmp_path: Path) -> Generator[Running]:
    with relay("fake", "--port", "0", "--speed", "50", folder=tmp_path) as process:
        yield process


def upstream(fake: Running) -> tuple[str, str]:
    """What `relay fake` says: the table for relay.toml, and the token."""
    base_url, token = fake.says(r"base_url (\S+)")[1], fake.says(r"token (\S+)")[1]
    fake.says(r"task \S+ plays happy")
    return f'[[upstreams]]\nkind = "sora"\nbase_url = "{base_url}"\ntoken = "env:TOKEN"\ninterval = "100ms"\n', token


def test_every_sink_of_relay_toml_hears_every_record_and_one_that_raises_costs_the_others_nothing(
    fake: Running, tmp_path: Path
) -> None:
    (tmp_path / "own.py").write_text(NOTIFY + FAILS)
    table, token = upstream(fake)
    (tmp_path / "relay.toml").write_text(
        f"""
        {table}
        [[sinks]]
        kind = "own:Fails"
        word = "never mind"
        [[sinks]]
        kind = "own:notify"
        [[sinks]]
        kind = "console"
        """
    )
    with relay("serve", "--port", "0", folder=tmp_path, TOKEN=token) as serve:
        address = serve.says(r"serving on (\S+)/;")[1]
        job = post(f"{address}/v1/jobs", {"upstream": "sora", "input": {"prompt": "[gap] a cat"}})["job"]
        received = get(f"{address}/v1/jobs/{job}/events")
        serve.interrupt()
        assert serve.ends() == 0

    seen = (tmp_path / "seen.jsonl").read_bytes()
    console = "".join(f"{line}\n" for line in serve.printed).encode()
    recordings = {"sink": seen, "console": console, "stream": received}
    verdict = audit([(name, recording.splitlines(keepends=True)) for name, recording in recordings.items()])
    assert verdict == Verdict(recordings=3, jobs=1, records=len(serve.printed), findings=())
    assert serve.said[1:] == [
        f"relay: sink Fails failed on {job} seq 1: RuntimeError: never mind; it misses this record, the others do not",
        "relay: sink Fails failed 5 times in a row and is set aside; it is tried again every 30 s",
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_in_order_when_it_is_interrupted(number: signal.Signals, tmp_path: Path) -> None:
    with relay("serve", "--port", "0", folder=tmp_path) as serve:
        serve.says("serving on http://127.0.0.1:")
        serve.says("no upstream is configured")
        serve.interrupt(number)
        assert serve.ends() == 0
    assert serve.printed == []


def test_a_second_interrupt_ends_it_at_once(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(LINGERS)
    (tmp_path / "relay.toml").write_text('[[sinks]]\nkind = "own:Lingers"')
    with relay("serve", "--port", "0", folder=tmp_path) as serve:
        serve.says("serving on")
        serve.interrupt()
        serve.says("lingering")
        serve.interrupt()
        assert serve.ends() == -signal.SIGINT
    assert not any("Traceback" in line for line in serve.said)


def test_options_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "relay.toml").write_text('[server]\nport = 1\nhost = "127.0.0.2"')
    with relay("serve", "--host", "127.0.0.1", folder=tmp_path, RELAY_SERVER_PORT="0") as serve:
        assert serve.says(r"serving on http://127\.0\.0\.1:([0-9]+)/")[1] not in ("0", "1")


def test_it_answers_to_its_own_names_only(tmp_path: Path) -> None:
    (tmp_path / "relay.toml").write_text('[server]\npublic_url = "https://progress.example.org/relay"')
    with relay("serve", "--port", "0", folder=tmp_path) as serve:
        said = serve.says(r"serving on (\S+)/, for users (\S+);")
        assert said[2] == "https://progress.example.org/relay"
        assert [status(said[1], host) for host in ("localhost", "progress.example.org", "evil.example.com")] == [
            200,
            200,
            421,
        ]


def status(address: str, host: str) -> int:
    with answer("GET", f"{address}/healthz", Host=host) as response:
        return response.status


def test_the_scripted_upstream_ends_when_it_is_interrupted(fake: Running) -> None:
    upstream(fake)
    fake.interrupt()
    assert fake.ends() == 0
    assert fake.printed == []


POSTS = """
class Posts:
    def __init__(self, url, headers):
        if url == "nowhere":
            raise ValueError(f"no such address: {url}, {headers}")
        self.url, self.headers = url, headers

    def __call__(self, record):
        raise RuntimeError(f"{self.url} answers 500 to {self.headers}")
"""
POSTING = """
[[sinks]]
kind = "own:Posts"
url = "env:HOOK"
headers = { key = "file:key" }
"""


def test_a_sinks_secret_reaches_the_sink_and_is_in_no_notice_of_what_it_raises(fake: Running, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(POSTS)
    (tmp_path / "key").write_text("canary-key\n")
    table, token = upstream(fake)
    (tmp_path / "relay.toml").write_text(table + POSTING)
    with relay("serve", "--port", "0", folder=tmp_path, TOKEN=token, HOOK="https://canary-hook/") as serve:
        address = serve.says(r"serving on (\S+)/;")[1]
        post(f"{address}/v1/jobs", {"upstream": "sora", "input": {"prompt": "[happy] a cat"}})
        serve.says(r"sink Posts failed on job_\S+ seq 1: RuntimeError: \*\*\* answers 500 to \{'key': '\*\*\*'\}")
        serve.interrupt()
        assert serve.ends() == 0
    assert "canary" not in "".join(serve.said)


def test_a_sink_that_cannot_be_made_is_one_line_without_its_secrets(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(POSTS)
    (tmp_path / "key").write_text("canary-key\n")
    (tmp_path / "relay.toml").write_text(POSTING)
    with relay("serve", "--port", "0", folder=tmp_path, HOOK="nowhere") as serve:
        assert serve.ends() == 2
    assert serve.said == [
        "relay: sink own:Posts cannot be made with url, headers: ValueError: no such address: ***, {'key': '***'}"
    ]


def test_the_environment_of_a_service_of_its_name_is_passed_over_and_named_once(tmp_path: Path) -> None:
    (tmp_path / "relay.toml").write_text('[server]\nport = 0\n[journal]\nurl = "memory:"\n')
    injected = {
        "RELAY_SERVER_PORT": "tcp://10.0.0.1:8080",
        "RELAY_SERVER_PORT_8080_TCP_ADDR": "10.0.0.1",
        "RELAY_SERVER_SERVICE_HOST": "10.0.0.1",
        "RELAY_SERVER_SERVICE_PORT": "8080",
        "RELAY_SERVER_DEBUG": "",
        "RELAY_LOOP": "",
    }
    with relay("serve", folder=tmp_path, piped=False, **injected) as serve:
        serve.says(r"serving on http://127\.0\.0\.1:\d+/;")
        serve.interrupt()
        assert serve.ends() == 0
    assert serve.said[0] == (
        "relay: the environment variables of a service are passed over, as they are not the relay's own:"
        " RELAY_SERVER_PORT, RELAY_SERVER_PORT_8080_TCP_ADDR, RELAY_SERVER_SERVICE_HOST and 1 more"
    )
    assert [line for line in serve.said[1:] if "service" in line] == []
