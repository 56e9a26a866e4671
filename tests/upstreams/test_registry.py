"""A dialect is one file, entered in one table."""

import subprocess
import sys
from pathlib import Path

import pytest

from relay.cli.build import build_upstream
from relay.cli.options import load_settings
from relay.testing import ManualClock
from relay.upstreams import registry

ECHO = '''
"""The dialect of an upstream that this test makes up."""

from typing import ClassVar

from relay.jobs.observations import Observation
from relay.upstreams.per_task import PerTaskUpstream, segment
from relay.upstreams.settings import Name, PerTaskSettings, Seconds


class EchoSettings(PerTaskSettings, frozen=True, kw_only=True):
    """One account of Echo."""

    kind: ClassVar[str] = "echo"

    name: Name = kind
    interval: Seconds = 7.5
    loud: bool = False


class Echo(PerTaskUpstream):
    """The tasks of one account of Echo."""

    settings = EchoSettings
    auth_header = "X-Echo"
    auth_scheme = ""

    def __init__(self, base_url, token, *, loud=False, **options):
        super().__init__(base_url, token, **options)
        self.loud = loud

    def _path(self, task):
        return f"echoes/{segment(task)}"

    def _read(self, task, body, reply):
        return Observation(status="running", raw_status="running")
'''

LISTED = """
import importlib, sys
sys.path.insert(0, sys.argv[1])
from relay.upstreams import registry
registry.DIALECTS["echo"] = "echo_dialect:Echo"
import relay.upstreams
importlib.reload(relay.upstreams)
assert "Echo" in relay.upstreams.__all__ and "Echo" in dir(relay.upstreams) and relay.upstreams.Echo.__name__ == "Echo"
from relay.cli import main
sys.exit(main(["upstreams"]))
"""


@pytest.fixture
def echo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The dialect of Echo: one file, and one entry of the table."""
    (tmp_path / "echo_dialect.py").write_text(ECHO)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "echo_dialect", raising=False)
    monkeypatch.setitem(registry.DIALECTS, "echo", "echo_dialect:Echo")


@pytest.mark.usefixtures("echo")
def test_a_new_dialect_is_configured_and_built_by_one_file_and_one_entry(tmp_path: Path) -> None:
    (tmp_path / "relay.toml").write_text(
        '[[upstreams]]\nkind = "echo"\nbase_url = "http://g:1"\ntoken = "env:T"\nloud = true\n'
    )
    (settings,) = load_settings(tmp_path / "relay.toml", {"T": "token"}).upstreams
    built = build_upstream(settings, ManualClock())

    made = (type(built).__name__, built.name, built.interval, built.deadline, vars(built)["loud"])
    assert made == ("Echo", "echo", 7.5, 1500.0, True)
    assert list(registry.UPSTREAM_KINDS)[-1] == "echo"


@pytest.mark.usefixtures("echo")
def test_a_new_dialect_is_listed_and_exported_by_one_file_and_one_entry(tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, "-c", LISTED, str(tmp_path)], capture_output=True, text=True, check=False)

    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.splitlines()[-1].split(maxsplit=1) == ["echo", "The tasks of one account of Echo."]


def test_the_configuration_is_read_without_the_clients_of_dialects_that_it_does_not_name() -> None:
    program = "import sys; from relay.config import load; load(None, {}); print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()

    assert not {"aiohttp", "jmespath", "relay.upstreams.http.client", "relay.upstreams.per_task"} & set(loaded)
