"""What a code block of the documentation must be: Python runs, output is what was printed, TOML is a configuration."""

import contextlib
import io
import json
import os
import sys
import tomllib
import traceback
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from sybil import Example
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.myst import CodeBlockParser

from relay.cli.options import load_settings as load
from tests.docs.terminal import Terminal, matches

__all__ = ["PARSERS", "close_workbench", "open_workbench"]

ENVIRON: Final = {
    **dict.fromkeys(
        (
            "FAL_KEY",
            "GEMINI_API_KEY",
            "KLING_ACCESS_KEY",
            "KLING_SECRET_KEY",
            "LUMAAI_API_KEY",
            "MINIMAX_API_KEY",
            "NEW_API_TOKEN",
            "OPENAI_API_KEY",
            "OTEL_TOKEN",
            "REPLICATE_API_TOKEN",
            "RUNWAYML_API_SECRET",
            "SORA_TOKEN",
            "STUDIO_TOKEN",
        ),
        "made-up-token",
    ),
    "BILLING_WEBHOOK_SECRET": "whsec_bWFkZSB1cCwgYW5kIGxvbmcgZW5vdWdoIGJ5IGZhcg==",
    "DATABASE_URL": "postgresql://relay:made-up-password@127.0.0.1/relay",
    "NATS_URL": "nats://made-up-token@127.0.0.1",
    "RELAY_PROXY_SECRET": "made-up-secret-of-the-proxy-0123456789",
    "RELAY_SIGNING_KEY": "made-up-key-that-signs-0123456789-012345",
    "ANN_KEY": "rlk_made-up-key-of-ann-0123456789-0123456",
    "BOB_KEY": "rlk_made-up-key-of-bob-0123456789-0123456",
    "OPERATOR_KEY": "rlk_made-up-key-of-the-operator-012345678",
    "REDIS_URL": "redis://127.0.0.1",
    "RCLONE_BASIC": "bWFkZTp1cA==",
    "REPLICATE_WEBHOOK_SECRET": "whsec_bWFkZSB1cA==",
    "RELAY_KEY": "rlk_made-up-key-of-an-application-0123456",
    "SLACK_WEBHOOK_URL": "https://hooks.slack.example/services/made/up",
    "WEBHOOK_SECRET": "made-up-secret-of-the-relay",
}
"""The variables that the documentation's examples read from the environment."""


class Workbench:
    """The folder in which one page's blocks are at work, and what the last of them has printed."""

    def __init__(self) -> None:
        self._temporary = TemporaryDirectory()
        self.folder = Path(self._temporary.name)
        self.terminal = Terminal(self.folder)
        self.printed = ""
        sys.path.insert(0, str(self.folder))
        os.environ.update(ENVIRON)

    def save(self, source: str) -> Path | None:
        """Add *source* to the file that a comment in its first line names, as in `# relay.toml`."""
        name = source.partition("\n")[0].removeprefix("# ").strip()
        if not source.startswith("# ") or " " in name or "." not in name:
            return None
        path = self.folder / name
        with path.open("a", encoding="utf-8") as file:
            file.write(self.terminal.rewritten(source))
        return path

    def close(self) -> None:
        self.terminal.close()
        sys.path.remove(str(self.folder))
        for name in ENVIRON:
            del os.environ[name]
        for name in [name for name, module in sys.modules.items() if _is_in(self.folder, module)]:
            del sys.modules[name]
        self._temporary.cleanup()


def open_workbench(namespace: dict[str, Any]) -> None:
    """Sybil's set-up of a page."""
    namespace["workbench"] = Workbench()


def close_workbench(namespace: dict[str, Any]) -> None:
    """Sybil's tear-down of a page."""
    namespace.pop("workbench").close()


def evaluate_python(example: Example) -> str | None:
    """Run the block, in the page's namespace and folder; what it prints is kept for the `output` block behind it."""
    workbench: Workbench = example.namespace["workbench"]
    workbench.save(example.parsed)
    screen = io.StringIO()
    try:
        with contextlib.chdir(workbench.folder), contextlib.redirect_stdout(screen):
            _run(example)
    except Exception as error:
        # Sybil cannot show an exception that has another one for its context.
        return "".join(traceback.format_exception(error))
    workbench.printed = screen.getvalue()
    return None


def evaluate_output(example: Example) -> str | None:
    """The block is what the Python block before it has printed."""
    printed: str = example.namespace["workbench"].printed
    return None if matches(example.parsed, printed) else f"printed was:\n{printed}"


def evaluate_toml(example: Example) -> None:
    """The block is a configuration, or a part of one; or one of the standard library's `logging`."""
    workbench: Workbench = example.namespace["workbench"]
    if example.parsed.startswith("# logging.toml"):
        tomllib.loads(example.parsed)
        return
    path = workbench.save(example.parsed)
    if path is None:
        path = workbench.folder / "part.toml"
        path.write_text(example.parsed, encoding="utf-8")
    load(path, os.environ)


def evaluate_json(example: Example) -> None:
    """The block is JSON."""
    json.loads(example.parsed)


def evaluate_console(example: Example) -> None:
    """Each `$ ` begins a command, which is run; the lines behind it are its output."""
    workbench: Workbench = example.namespace["workbench"]
    _, *runs = f"\n{example.parsed}".split("\n$ ")
    for run in runs:
        command, _, want = run.replace("\\\n", "").partition("\n")
        workbench.terminal.run(_without_make(command), want)


def _without_make(command: str) -> str:
    """`make demo` first sets up an environment, which the tests have already. Its port is said, so that it is free."""
    if not command.startswith("make demo"):
        return command
    arguments = command.removeprefix("make demo").strip()
    return "relay demo --port 8080 " + arguments.removeprefix('ARGS="').removesuffix('"')


def _is_in(folder: Path, module: object) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).is_relative_to(folder)


_run: Final = PythonEvaluator()

PARSERS: Final = tuple(
    CodeBlockParser(language, evaluator)
    for language, evaluator in {
        "python": evaluate_python,
        "output": evaluate_output,
        "toml": evaluate_toml,
        "json": evaluate_json,
        "console": evaluate_console,
    }.items()
)
