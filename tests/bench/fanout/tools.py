"""The load client and the C limit, compiled when they are first needed."""

import hashlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

__all__ = ["ROOT", "Load", "compiled", "compiler"]

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[2]


def compiler() -> str | None:
    """The C compiler, if there is one."""
    return shutil.which("cc")


@cache
def compiled(name: str) -> Path:
    """The program made from `name.c`, in a directory of temporary files; made anew when its source has changed."""
    source = HERE / f"{name}.c"
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
    program = _build_directory() / f"{name}-{digest}"
    subprocess.run([compiler() or "cc", "-O2", "-o", str(program), str(source)], check=True)
    return program


@cache
def _build_directory() -> Path:
    directory = tempfile.TemporaryDirectory(prefix="relay-bench-")
    _KEPT.append(directory)
    return Path(directory.name)


_KEPT: Final[list[tempfile.TemporaryDirectory[str]]] = []


class Load:
    """One process of the load client: *clients* streams of *paths*, on *cpu*. Each step is a line of JSON."""

    def __init__(
        self, port: int, paths: Sequence[str], clients: int, cpu: int | None, work: Path, *more: str | int | float
    ) -> None:
        listed = work / "load-paths"
        listed.write_text("".join(f"{path}\n" for path in paths))
        pinned = [] if cpu is None else ["--cpu", cpu]
        argv = ["--port", port, "--paths", listed, "-n", clients, "--only", '"type":"progress"', *pinned, *more]
        self._process = subprocess.Popen(
            [str(compiled("loadclient")), *map(str, argv)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def line(self) -> dict[str, Any]:
        """The next thing it has to say. It ends by its own timeout."""
        assert self._process.stdout is not None
        text = self._process.stdout.readline()
        if not text:
            raise RuntimeError("the load client ended without a word")
        said: dict[str, Any] = json.loads(text)
        return said

    def drain(self) -> None:
        """Let the slow clients read."""
        assert self._process.stdin is not None
        self._process.stdin.write("drain\n")
        self._process.stdin.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(0 if error is not None else 10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
