"""Imports point one way, and each third-party library has one home."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.plan import imports

ROOT = Path(__file__).parents[2]

MAY_IMPORT = {
    "relay": ("relay",),
    "relay.cli": ("relay", "sinks", "web"),
    "sinks": (
        "sinks",
        *(f"relay.{name}" for name in ("_exports", "clock", "errors", "events", "notices", "queue", "secret", "text")),
        "relay.testing",
        "relay.upstreams.http.addresses",
        "relay.wire",
    ),
    "web": ("web", "relay", "sinks"),
}
"""Which of our own rooms a room may import."""

MAY_NOT_IMPORT = {"relay": ("relay.cli",), "web": ("relay.cli",)}

HOMES = {
    "blinker": ("relay/bus/ordered_signal.py",),
    "structlog": ("sinks/structlog.py",),
    "aiohttp": (
        *("relay/upstreams/", "relay/testing/", "relay/cli/", "web/"),
        *("sinks/_guard.py", "sinks/_posting.py", "sinks/webhook.py"),
    ),
    "aiohttp.web": ("relay/testing/", "relay/cli/", "web/"),
    "click": ("relay/cli/",),
    "joserfc": ("web/access/jwt",),
    "jmespath": ("relay/upstreams/declared/",),
    "uvloop": ("relay/cli/loops.py",),
    "prometheus_client": ("web/",),
    "opentelemetry": ("sinks/otel.py", "sinks/_otel"),
    "sqlite3": ("relay/journal/",),
    "asyncpg": ("sinks/postgres.py",),
    "nats": ("sinks/nats.py",),
    "redis": ("relay/journal/", "sinks/redis.py"),
    "standardwebhooks": ("sinks/_signing.py",),
    "yarl": (
        *("relay/upstreams/http/downloads.py", "relay/upstreams/http/pooled_get.py"),
        *("sinks/_guard.py", "sinks/_posting.py"),
    ),
    "msgspec": ("relay/", "sinks/", "web/"),
    "pytest": ("relay/testing/pytest_plugin.py",),
}
"""Where a library may be imported; what is not named here is imported nowhere."""

SOURCES = sorted(path for room in ("relay", "sinks", "web") for path in (ROOT / room).rglob("*.py"))


def within(module: str, room: str) -> bool:
    return module == room or module.startswith(f"{room}.")


def room_of(path: Path) -> str:
    place = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return "relay.cli" if within(place, "relay.cli") or place == "relay.__main__" else place.split(".")[0]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_imports_only_the_rooms_it_may(path: Path) -> None:
    room = room_of(path)
    ours = {module for module in imports(path) if module.split(".")[0] in ("relay", "sinks", "web", "tests")}

    wrong = {
        module
        for module in ours
        if not any(within(module, allowed) for allowed in MAY_IMPORT[room])
        or any(within(module, forbidden) for forbidden in MAY_NOT_IMPORT.get(room, ()))
    }

    assert not wrong


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_library_is_imported_in_its_home_only(path: Path) -> None:
    place = str(path.relative_to(ROOT))
    foreign = {
        module
        for module in imports(path)
        if module.split(".")[0] not in {*sys.stdlib_module_names, "relay", "sinks", "web"} or within(module, "sqlite3")
    }

    homeless = {module for module in foreign if not any(within(module, library) for library in HOMES)}
    abroad = {
        module
        for module in foreign
        for library, homes in HOMES.items()
        if within(module, library) and not place.startswith(homes)
    }

    assert (homeless, abroad) == (set(), set())


def test_the_core_and_the_sinks_start_no_http_server_and_no_command_line() -> None:
    """What `import relay.events` and `import sinks.sse` bring along: a sink's author pays for nothing else."""
    program = "import sys, relay.events, sinks.sse; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()

    assert not {"aiohttp", "blinker", "structlog", "click", "rich", "web"} & set(loaded)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_fits_in_the_head(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400
