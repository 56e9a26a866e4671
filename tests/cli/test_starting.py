"""A command loads what it needs, and nothing else."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec

import pytest

HEAVY = {"aiohttp", "aiohttp.web", "asyncio", "blinker", "jmespath", "sqlite3", "structlog", "uvloop", "web", "sinks"}

PROBE = """
import json, sys
from relay.cli import main
status = main(sys.argv[1:])
print(json.dumps({"status": status, "loaded": sorted(sys.modules)}), file=sys.stderr)
"""


def loaded(code: str, *arguments: str) -> set[str]:
    """The modules that a fresh Python has loaded after *code*, which says so on standard error."""
    # `make cover` measures children too, and loads a database for it.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found = json.loads(done.stderr)
    assert found["status"] == 0
    return set(found["loaded"])


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["schema"]], ids=" ".join)
def test_what_only_prints_loads_no_server_no_client_no_database_and_no_event_loop(arguments: list[str]) -> None:
    assert loaded(PROBE, *arguments) & HEAVY == set()


SERVER = {"aiohttp.web", "relay.polling.poller", "structlog", "web.app", "zipfile"}

NOT_FOR: Mapping[str, set[str]] = {
    "audit": {*SERVER, "aiohttp", "relay.bus.bus", "sqlite3", "relay.config", "web"},
    "replay": {*SERVER, "aiohttp", "relay.bus.bus", "tomllib", "web"},
    "token": {*SERVER, "aiohttp", "relay.bus.bus", "sqlite3"},
    "tail": {*SERVER, "relay.bus.bus", "sqlite3", "tomllib", "web"},
    "follow": {"aiohttp.web", "structlog", "web", "relay.cluster.node", "relay.durable.reader"},
    "fake": {"relay.bus.bus", "relay.polling.poller", "sqlite3", "tomllib", "web"},
    "demo": {"relay.cluster.node", "relay.durable.reader", "sqlite3", "statistics", "structlog", "tomllib", "zipfile"},
    "serve": {"relay.cluster.node", "relay.durable.reader", "sqlite3", "statistics", "structlog", "uvloop", "zipfile"},
}
"""Modules that a command begins without."""


@pytest.mark.parametrize("command", NOT_FOR)
def test_a_command_loads_what_it_needs_and_nothing_else(command: str) -> None:
    found = loaded(PROBE, command, "--help")

    assert f"relay.cli.{command}" in found
    assert found & NOT_FOR[command] == set()


BUILD = """
import json, sys
from relay.cli import serve
from relay.cli.build import build_upstream
from relay.clock import SystemClock
from relay.secret import Secret
from relay.upstreams.registry import UPSTREAM_KINDS
from sinks import ConsoleSink
ConsoleSink(format="pretty"), ConsoleSink(format="json")
build_upstream(UPSTREAM_KINDS["runway"](base_url="http://127.0.0.1:9", token=Secret("t")), SystemClock())
print(json.dumps({"status": 0, "loaded": sorted(sys.modules)}), file=sys.stderr)
"""


def test_serve_loads_the_dialects_that_are_configured_and_a_database_only_for_a_journal_in_one() -> None:
    others = {f"relay.upstreams.dialects.{name}" for name in ("sora", "fal", "kling", "luma", "replicate", "veo")}
    assert all(map(find_spec, others))
    found = loaded(BUILD)

    assert "relay.upstreams.dialects.runway" in found
    assert found & {*others, "relay.upstreams.declared.api", "jmespath", "sqlite3", "structlog", "uvloop"} == set()
