"""Both event loops run the same commands."""

import asyncio
import sys
from pathlib import Path

import pytest

from relay.cli import main
from relay.cli.loops import LoopName, loop_factory
from relay.cli.running import run
from relay.errors import UsageError
from tests.cli.running import relay

CURIOUS = """
import asyncio
import sys


class Curious:
    async def __aenter__(self):
        print("runs on", type(asyncio.get_running_loop()).__module__.split(".")[0], file=sys.stderr, flush=True)

    async def __aexit__(self, *_):
        pass

    def __call__(self, record):
        pass
"""


@pytest.mark.parametrize("name", ["asyncio", "uvloop"])
def test_a_command_runs_on_the_loop_that_is_named(name: LoopName) -> None:
    seen: list[str] = []

    async def work(_stop: asyncio.Event) -> int:
        seen.append(type(asyncio.get_running_loop()).__module__.split(".")[0])
        return 3

    assert run(work, name) == 3
    assert seen == [name]


@pytest.mark.parametrize(
    ("arguments", "variable", "loop"),
    [([], "auto", "uvloop"), ([], "asyncio", "asyncio"), (["--loop", "uvloop"], "asyncio", "uvloop")],
    ids=["uvloop where it is installed", "what the environment says", "what the option says, before the environment"],
)
def test_serve_runs_on(tmp_path: Path, arguments: list[str], variable: str, loop: str) -> None:
    (tmp_path / "curious.py").write_text(CURIOUS)
    (tmp_path / "relay.toml").write_text('[journal]\nurl = "memory:"\n[[sinks]]\nkind = "curious:Curious"\n')
    with relay("serve", "--port", "0", *arguments, folder=tmp_path, RELAY_LOOP=variable) as serve:
        assert serve.says(r"runs on (\w+)")[1] == loop
        serve.says("serving on")
        serve.interrupt()
        assert serve.ends() == 0


def test_without_uvloop_asyncio_runs_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)

    assert loop_factory("auto") is None
    with pytest.raises(UsageError, match=r"install progress-relay\[speed\]"):
        loop_factory("uvloop")


def test_without_uvloop_asking_for_it_is_one_line_and_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)

    assert main(["demo", "--port", "0", "--loop", "uvloop"]) == 2
    assert capsys.readouterr().err == (
        "relay: uvloop is not installed; install progress-relay[speed], or choose another event loop with --loop\n"
    )
