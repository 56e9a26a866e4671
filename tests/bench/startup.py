"""The part `startup`: what it takes until a command has something to say, in CPU time of its whole process.

The bytecode of all modules is there, as it is in an installation, whatever the environment says of writing it.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from tempfile import TemporaryDirectory
from typing import Final

from tests.bench.fanout.accounting import cpu_seconds
from tests.bench.part import Findings, Plan, least, most, ratio

__all__ = ["measure"]

NOT_FOR_HELP: Final = ("aiohttp", "structlog", "sqlite3", "blinker", "jmespath")

SAY: Final = "; print(1, flush=True); input()"
"""A program that has said its first line waits, so that its time can be read."""

SCRIPTS: Final[Mapping[str, str]] = {
    "Python alone": "pass",
    "`relay --help`": "from relay.cli import main; main(['--help'])",
    "importing aiohttp": "import aiohttp.web",
}


def measure(plan: Plan) -> Findings:
    """Each in turn, as often as there are rounds, after one in which they are compiled."""
    with TemporaryDirectory(prefix="relay-bench-") as bytecode:
        return _measure(plan, bytecode)


def _measure(plan: Plan, bytecode: str) -> Findings:
    commands: dict[str, Callable[[], float]] = {
        name: lambda script=script: _first_line([sys.executable, "-c", script + SAY], bytecode)  # type: ignore[misc]
        for name, script in SCRIPTS.items()
    }
    demo = [sys.executable, "-m", "relay", "demo", "--port", "0", "--log-format", "json"]
    commands["`relay demo`, to its first line"] = lambda: _first_line(demo, bytecode)
    for run in commands.values():
        run()
    found: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(plan.rounds):
        for name, run in commands.items():
            found[name].append(run())
        plan.say(f"startup {number + 1}: " + ", ".join(f"{name} {times[-1]:.0f} ms" for name, times in found.items()))
    loaded = _loaded_for_help()
    return Findings(
        figures=[
            *(least(name, "ms", times) for name, times in found.items()),
            ratio("`relay --help` / Python alone", found["`relay --help`"], found["Python alone"]),
            ratio(
                "`relay demo`, to its first line / importing aiohttp",
                found["`relay demo`, to its first line"],
                found["importing aiohttp"],
                note="its upstream, journal and page serve by then",
            ),
            most("libraries loaded for `relay --help` in vain", "", [len(loaded)], goal=0, note=", ".join(loaded)),
        ],
        rows=[found],
    )


def _first_line(command: Sequence[str], bytecode: str) -> float:
    """Milliseconds of CPU until *command*, whose bytecode is in that directory, has printed a line."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with subprocess.Popen(
        command,
        env={**environment, "PYTHONPYCACHEPREFIX": bytecode},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        try:
            if not process.stdout.readline():
                raise RuntimeError(f"{command[1:4]} ended without a line")
            return cpu_seconds([process.pid]) * 1000
        finally:
            process.terminate()


def _loaded_for_help() -> list[str]:
    script = f"import sys; {SCRIPTS['`relay --help`']}; print(*sys.modules, file=sys.stderr)"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return sorted({module.split(".")[0] for module in ran.stderr.split()} & set(NOT_FOR_HELP))
