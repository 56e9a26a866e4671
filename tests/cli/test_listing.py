"""What `relay` says about itself."""

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from relay.cli import main
from relay.upstreams.registry import UPSTREAM_KINDS
from relay.wire.record_json import record_schema
from sinks.kinds import SINK_KINDS

Capture = pytest.CaptureFixture[str]
COMMANDS = ["demo", "serve", "follow", "audit", "fake", "doctor", "sinks", "upstreams", "schema"]


def printed(capture: Capture, *arguments: str) -> str:
    assert main(arguments) == 0
    said = capture.readouterr()
    assert said.err == ""
    return said.out


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_lists_every_command(arguments: list[str], capsys: Capture) -> None:
    listed = [line.split()[0] for line in printed(capsys, *arguments).partition("Commands:\n")[2].splitlines()]
    assert [word for word in listed if word in COMMANDS] == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: Capture) -> None:
    assert printed(capsys, command, "--help").startswith(f"Usage: relay {command}")


def test_help_of_the_scripted_upstream_lists_the_scenarios(capsys: Capture) -> None:
    assert "in neither list for 4 s" in printed(capsys, "fake", "--help")


def test_help_loads_neither_server_nor_console() -> None:
    program = "import sys, relay.cli; relay.cli.main(['--help']); print(sorted(sys.modules))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = run.stdout.splitlines()[-1]
    assert "'click'" in loaded
    assert "'aiohttp'" not in loaded
    assert "'structlog'" not in loaded


def test_the_version_is_the_distributions(capsys: Capture) -> None:
    assert printed(capsys, "--version") == f"relay {version('progress-relay')}\n"


def test_every_kind_of_sink_is_listed_with_its_origin_its_keys_and_their_defaults(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = printed(capsys, "sinks")
    names = [line.split()[0] for line in text.partition("\n\nKeys of every sink: ")[0].splitlines() if line[0] != " "]
    assert names == [*SINK_KINDS, "package.module:Name"]
    assert "console  (in the box)\n    Prints each record" in text
    assert "Keys of every sink: name, types = []" in text

    listed = json.loads(printed(capsys, "sinks", "--format", "json"))
    assert [kind["kind"] for kind in listed["kinds"]] == [*SINK_KINDS]
    assert all(kind["problem"] is None and kind["keys"] for kind in listed["kinds"])
    keys = {key["name"]: key for kind in listed["kinds"] if kind["kind"] == "file" for key in kind["keys"]}
    assert keys["path"] == {"name": "path", "default": None, "required": True, "about": "the path of a file"}
    assert keys["rotate.bytes"]["default"] == "100000000"


def test_every_kind_of_upstream_is_listed_in_one_line(capsys: Capture) -> None:
    assert [line.split()[0] for line in printed(capsys, "upstreams").splitlines()] == [*UPSTREAM_KINDS]


@pytest.mark.parametrize("arguments", [["schema"], ["schema", "jsonschema"]])
def test_the_schema_is_that_of_a_record(arguments: list[str], capsys: Capture) -> None:
    assert json.loads(printed(capsys, *arguments)) == json.loads(json.dumps(record_schema()))
