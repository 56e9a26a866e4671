"""The servers that are measured: the relay and its peers, each a process of its own that is started afresh."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

from tests.bench.fanout.accounting import tree
from tests.bench.fanout.control import EXIT_AFTER, Order
from tests.bench.fanout.events import frame_size
from tests.bench.fanout.nginx import NCHAN_MODULE, nginx, nginx_configuration, post_all
from tests.bench.fanout.tools import ROOT, compiled, compiler

__all__ = ["OTHER_PYTHON", "SERVERS", "RelayServer", "Server", "missing", "start"]

START_WITHIN: Final = 30.0
OTHER_PYTHON: Final = os.environ.get("BENCH_PYTHON", "")
_SILENT: Final = subprocess.DEVNULL


class Server(ABC):
    """One server under test. Entering it starts it on *cpu*, leaving it ends every process of it."""

    framing = len("data: \n\n")
    """Bytes of a frame besides its JSON; the JSON is made longer by what others need more."""

    place = ROOT
    """The directory in which it is started."""

    def __init__(self, name: str, work: Path, cpu: int | None, topics: int) -> None:
        self.name, self.work, self.cpu, self.topics = name, work, cpu, topics
        self.port = _free_port()

    @property
    @abstractmethod
    def argv(self) -> Sequence[str]: ...

    @abstractmethod
    def publish(self, topic: str, topics: int, events: int, rate: float, pad: int, mode: str) -> None:
        """Let the server emit; return when it has taken everything."""

    def paths(self, topic: str, topics: int) -> list[str]:
        return [f"/events/{topic}{number}" for number in range(topics)] if topics else [f"/events/{topic}"]

    @property
    def pids(self) -> list[int]:
        return tree(self._process.pid)

    def __enter__(self) -> Self:
        with open(self.work / "log", "wb") as log:
            self._process = subprocess.Popen(
                self.argv, stdin=_SILENT, stdout=_SILENT, stderr=log, cwd=self.place, start_new_session=True
            )
        try:
            self._wait()
            self._pin()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def ready(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def _wait(self) -> None:
        end = time.monotonic() + START_WITHIN
        while not self.ready():
            if self._process.poll() is not None or time.monotonic() > end:
                said = (self.work / "log").read_text(errors="replace").strip().splitlines()
                raise RuntimeError(f"{self.name} does not start: {said[-1] if said else 'it says nothing'}")
            time.sleep(0.02)

    def _pin(self) -> None:
        if self.cpu is not None:
            for pid in self.pids:
                for task in os.listdir(f"/proc/{pid}/task"):
                    os.sched_setaffinity(int(task), {self.cpu})

    def _end(self) -> None:
        mine = self.pids
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        for pid in mine:
            # Its session is ours alone, so nobody else's process is hit that was given an old id.
            with suppress(ProcessLookupError):
                if os.getsid(pid) == self._process.pid:
                    os.kill(pid, signal.SIGKILL)
        self._process.wait()


class Controlled(Server):
    """A server with the publisher inside; see `control`."""

    def __init__(
        self, name: str, work: Path, cpu: int | None, topics: int, *, program: Sequence[str], framing: int
    ) -> None:
        super().__init__(name, work, cpu, topics)
        self.framing = framing
        self._program = program
        self._control = str(work / "control")

    @property
    def argv(self) -> Sequence[str]:
        return [*self._program, "--port", str(self.port), "--control", self._control]

    def size(self, pad: int) -> int:
        return frame_size(pad) - self.framing

    def ready(self) -> bool:
        if not super().ready():
            return False
        try:
            with socket.socket(socket.AF_UNIX) as control:
                control.connect(self._control)
        except OSError:
            return False
        return True

    def publish(self, topic: str, topics: int, events: int, rate: float, pad: int, mode: str) -> None:
        self.ask(str(Order(topic, topics, events, rate, self.size(pad), mode)))

    def ask(self, line: str) -> bytes:
        """What the server answers to one line of text, once it has done what that says."""
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(EXIT_AFTER)
            control.connect(self._control)
            control.sendall(line.encode())
            answer = control.makefile("rb").readline()
        if not answer:
            raise RuntimeError(f"{self.name} went away while it was asked to {line.split()[0]}")
        return answer


class RelayServer(Controlled):
    """The relay. Its publisher only pads the events; the rest of a frame is as the relay makes it."""

    @property
    def argv(self) -> Sequence[str]:
        where = ["--paths", str(self.work / "paths"), "--file", str(self.work / "relay.db")]
        return [*super().argv, "--topics", str(self.topics), *where]

    def size(self, pad: int) -> int:
        return pad

    def census(self) -> dict[str, Any]:
        """What is alive in the process: `tasks`, `streams`, and `objects` by class. The collector has run before."""
        found: dict[str, Any] = json.loads(self.ask("census\n"))
        return found

    def complaints(self) -> list[str]:
        """What the process has written to standard error."""
        return (self.work / "log").read_text(errors="replace").splitlines()

    @property
    def field(self) -> str:
        """The header field that readers send; empty if they need none."""
        return (self.work / "paths.field").read_text()

    def paths(self, topic: str, topics: int) -> list[str]:
        known = dict(line.split() for line in (self.work / "paths").read_text().splitlines())
        names = [f"{topic}{number}" for number in range(topics)] if topics else [topic]
        return [known[name] for name in names]


class Nchan(Server):
    """nginx with nchan, in C. Events are POSTed on one kept connection; that publisher's own CPU is not counted."""

    framing = len("id: 1234567890:0\ndata: \n\n")

    @property
    def argv(self) -> Sequence[str]:
        configuration = self.work / "nginx.conf"
        configuration.write_text(nginx_configuration(self.work, self.port))
        return [nginx() or "nginx", "-c", str(configuration), "-e", str(self.work / "error.log")]

    def publish(self, topic: str, topics: int, events: int, rate: float, pad: int, mode: str) -> None:
        post_all(self.port, Order(topic, topics, events, rate, frame_size(pad) - self.framing, mode))


Make: TypeAlias = Callable[[str, Path, int | None, int], Server]


def _python(
    module: str,
    *more: str,
    framing: int = 8,
    kind: type[Controlled] = Controlled,
    interpreter: str = sys.executable,
) -> Make:
    program = [interpreter, "-m", f"tests.bench.fanout.{module}", *more]
    return lambda name, work, cpu, topics: kind(name, work, cpu, topics, program=program, framing=framing)


def _c(*more: str) -> Make:
    return lambda name, work, cpu, topics: Controlled(
        name, work, cpu, topics, program=[str(compiled("c_limit")), *more], framing=8
    )


def _relay(*more: str, interpreter: str = sys.executable) -> Make:
    return _python("relay_server", *more, kind=RelayServer, interpreter=interpreter)


SERVERS: Final[dict[str, Make]] = {
    "relay": _relay(),
    "relay-uvloop": _relay("--loop", "uvloop"),
    "relay-other": _relay(interpreter=OTHER_PYTHON or "python3"),
    "relay-answers": _relay("--together", "1000"),
    "relay-quiet": _relay("--console", "none"),
    "relay-memory": _relay("--console", "none", "--journal", "memory"),
    "relay-key": _relay("--console", "none", "--journal", "memory", "--access", "key"),
    "relay-jwt": _relay("--console", "none", "--journal", "memory", "--access", "jwt"),
    "relay-session": _relay("--console", "none", "--journal", "memory", "--access", "session"),
    "nchan": Nchan,
    "c-limit": _c(),
    "c-limit-joined": _c("--batch", "1000"),
    "aiohttp-sse": _python("aiohttp_sse_server", framing=10),
    "sse-starlette": _python("sse_starlette_server", framing=10),
}
"""`relay` is as shipped, and each event is published for itself. `-answers` publishes 1000 at once, as a poller does
with an answer about 1000 jobs; `-quiet` has no console, `-memory` neither console nor file, `-uvloop` another loop.
`-other` runs on another Python, which the environment variable BENCH_PYTHON names: one in which the relay is installed.
`-key`, `-jwt` and `-session` are as `-memory`, and their readers prove their access so."""

_MODULES: Final = {
    "aiohttp-sse": ["aiohttp_sse"],
    "sse-starlette": ["sse_starlette", "starlette", "uvicorn", "httptools", "uvloop"],
    "relay-uvloop": ["uvloop"],
}


def missing(name: str) -> str | None:
    """What is not installed that the server of this name needs, in words."""
    if compiler() is None:
        return "a C compiler (cc), for the load client"
    if name == "relay-other" and not OTHER_PYTHON:
        return "BENCH_PYTHON in the environment, the path of another Python"
    if name == "nchan":
        if nginx() is None:
            return "nginx (on Debian: nginx-light)"
        if not NCHAN_MODULE.exists():
            return "nchan (on Debian: libnginx-mod-nchan)"
    lacking = [module for module in _MODULES.get(name, ()) if find_spec(module) is None]
    return f"the Python package {lacking[0].replace('_', '-')}" if lacking else None


def start(name: str, work: Path, cpu: int | None, topics: int) -> Server:
    """The server of this name, to be entered; it leaves its files in *work*."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    return SERVERS[name](name, work, cpu, topics)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port
