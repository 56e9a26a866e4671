"""No secret of a configuration is on standard error, whatever fails: sinks, libraries, threads, tasks, the relay."""

import json
import signal
from pathlib import Path

import pytest

from relay.cli import main
from tests.cli.running import relay

CANARY = "canary0a7f3C9e5Bd1"

OWN = '''
import asyncio
import logging
import threading


class Deleted:
    def __init__(self, token):
        self._token = token

    def __del__(self):
        raise ValueError(f"deleted with {self._token}")


class Leaks:
    """Puts its token into everything that ends on standard error."""

    def __init__(self, token):
        self._token = token

    def __call__(self, record): ...

    async def __aenter__(self):
        Deleted(self._token)
        logging.getLogger("somebody.elses").error("cannot post with %s", self._token)
        threading.Thread(target=self._fails, name="poster").start()
        self._task = asyncio.create_task(self._fails_later())

    async def __aexit__(self, *_):
        await asyncio.wait([self._task])
        del self._task
        raise OSError(f"cannot close the connection of {self._token}")

    def _fails(self):
        raise ValueError(f"in a thread with {self._token}")

    async def _fails_later(self):
        raise ValueError(f"in a task with {self._token}")
'''

TABLE = '[[sinks]]\nkind = "own:Leaks"\ntoken = "env:CANARY"\n'


@pytest.mark.parametrize("redact", ["", "[redact]\npatterns = ['canary[0-9A-Za-z]+']\n"], ids=["known", "pattern"])
def test_relay_serve_shows_no_secret_in_what_it_reports(redact: str, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    table = TABLE if not redact else TABLE.replace('"env:CANARY"', f'"{CANARY}"')
    (tmp_path / "relay.toml").write_text(redact + table)
    with relay("serve", "--port", "0", folder=tmp_path, CANARY=CANARY) as serve:
        serve.says("serving on")
        serve.interrupt(signal.SIGTERM)
        assert serve.ends() == 0
    said = "\n".join(serve.said)
    assert CANARY not in said
    for words in (
        "deleted with",
        "cannot post with",
        "in a thread with",
        "in a task with",
        "cannot close the connection of",
    ):
        assert f"{words} ***" in said


def test_a_sink_that_cannot_be_made_or_imported_shows_no_secret(tmp_path: Path) -> None:
    (tmp_path / "relay.toml").write_text(TABLE)
    for own in (
        "class Leaks:\n    def __init__(self, token):\n        raise ValueError('no ' + token)\n",
        "import os\nraise RuntimeError(os.environ['CANARY'])\n",
    ):
        (tmp_path / "own.py").write_text(own)
        for command in (["serve", "--port", "0"], ["doctor"]):
            with relay(*command, folder=tmp_path, CANARY=CANARY) as failing:
                assert failing.ends() in (1, 2)
            said = "\n".join([*failing.said, *failing.printed])
            assert CANARY not in said
            assert "***" in said


def test_a_fault_of_the_relay_itself_is_a_traceback_without_secrets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(_: object) -> None:
        raise RuntimeError(
            f"GET https://ann:{CANARY}@api.example/?sig={CANARY} \x1b[2J\nAuthorization: Bearer {CANARY}"
        )

    monkeypatch.setattr("relay.cli.listing._print", fails)
    assert main(["upstreams"]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback (most recent call last):\n")
    assert "RuntimeError: GET https://***@api.example/?sig=*** \\x1b[2J\nAuthorization: Bearer ***\n" in shown


@pytest.mark.parametrize(
    ("patterns", "words"),
    [
        (["("], "[redact] patterns: number 1 is no regular expression ("),
        (["ok", "x*"], "[redact] patterns: number 2 matches an empty text, so it would mask everything"),
        (["x" * 1_001], "[redact] patterns must be a list of up to 100 regular expressions"),
        ("ok", "[redact] patterns must be a list of up to 100 regular expressions"),
    ],
)
def test_a_pattern_that_cannot_be_used_is_a_mistake_in_one_line(
    patterns: object, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "relay.toml").write_text(f"[redact]\npatterns = {json.dumps(patterns)}\n")
    monkeypatch.chdir(tmp_path)
    assert main(["serve", "--port", "0"]) == 2
    assert words in capsys.readouterr().err
