"""The real servers: started on loopback or on a socket in a folder of their own, killed, frozen and started again."""

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

__all__ = ["POSTGRES", "NatsServer", "PostgresServer", "RedisServer", "Server"]

NOBODY = 65534

POSTGRES = next(
    (path for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True) if (path / "postgres").exists()),
    Path(found).parent if (found := shutil.which("postgres")) else None,
)
"""The folder of PostgreSQL's programs, which Debian keeps off everybody's path; None where there is none."""


class Server:
    """A program that is started for tests, with its data in a folder that goes with it."""

    ready: bytes
    """What it prints once it accepts connections."""
    unprivileged = False

    def __init__(self) -> None:
        # A short path: that of a socket has 107 bytes at most.
        self.folder = Path(tempfile.mkdtemp(prefix="relay-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._frozen: list[int] = []
        if self.unprivileged and os.geteuid() == 0:
            os.chown(self.folder, NOBODY, NOBODY)
        self.prepare()

    def prepare(self) -> None:
        """Make what the program needs in its folder."""

    def command(self) -> list[str]:
        raise NotImplementedError

    def saw(self, line: bytes) -> None:
        """Look at a line that the program prints at its start."""

    async def dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        raise NotImplementedError

    def run(self, *command: str | Path) -> None:
        subprocess.run(command, check=True, capture_output=True, cwd=self.folder, **self._as_nobody())

    def start(self) -> None:
        """Start it, and return once it accepts connections."""
        # Spelled as a call of Any: a type checker cannot follow the keywords of two accounts.
        popen: Any = subprocess.Popen
        process: subprocess.Popen[bytes] = popen(
            self.command(),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            **self._as_nobody(),
        )
        self._process = process
        assert process.stdout is not None
        printed = []
        for line in process.stdout:
            printed.append(line)
            self.saw(line)
            if self.ready in line:
                break
        else:
            raise AssertionError(f"{self.command()[0]} did not start: {b''.join(printed).decode(errors='replace')}")
        threading.Thread(target=_drain, args=(process.stdout,), daemon=True).start()

    def kill(self) -> None:
        """End it at once, as a power cut would, and its children with it."""
        if (process := self._process) is None:
            return
        self._process = None
        pids = list(_family(process.pid))
        self.thaw()
        for pid in pids:
            _signal(pid, signal.SIGKILL)
        process.wait()

    def freeze(self) -> None:
        """Let it stand still, its children included: connections stay, and nothing is answered."""
        assert self._process is not None
        self._frozen = list(_family(self._process.pid))
        for pid in self._frozen:
            _signal(pid, signal.SIGSTOP)
        # The signal is sent when this returns, and not yet obeyed by every thread.
        while not all(map(_stands_still, self._frozen)):
            time.sleep(0.001)

    def thaw(self) -> None:
        for pid in self._frozen:
            _signal(pid, signal.SIGCONT)
        self._frozen = []

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _as_nobody(self) -> dict[str, Any]:
        if not (self.unprivileged and os.geteuid() == 0):
            return {}
        return {"user": NOBODY, "group": NOBODY, "extra_groups": []}


class RedisServer(Server):
    ready = b"eady to accept connections"

    @property
    def socket(self) -> Path:
        return self.folder / "redis"

    def command(self) -> list[str]:
        program = shutil.which("redis-server") or shutil.which("valkey-server") or "redis-server"
        return [
            *(program, "--port", "0", "--unixsocket", str(self.socket), "--dir", str(self.folder)),
            *("--save", "", "--appendonly", "yes", "--appendfsync", "no"),
        ]

    async def dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(self.socket)


class PostgresServer(Server):
    ready = b"ready to accept connections"
    unprivileged = True  # it refuses to run as root

    def prepare(self) -> None:
        assert POSTGRES is not None
        options = ("-U", "relay", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions")
        self.run(POSTGRES / "initdb", "-D", self.folder / "data", *options)

    def command(self) -> list[str]:
        assert POSTGRES is not None
        # Nothing survives these tests, so nothing need reach the disk.
        options = ("fsync=off", "listen_addresses=", "max_connections=20", "shared_buffers=8MB", "autovacuum=off")
        program = [str(POSTGRES / "postgres"), "-D", str(self.folder / "data"), "-k", str(self.folder)]
        return [*program, *(part for option in options for part in ("-c", option))]

    async def dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(self.folder / ".s.PGSQL.5432")


class NatsServer(Server):
    ready = b"Server is ready"
    port = 0

    def prepare(self) -> None:
        (self.folder / "nats.conf").write_text(
            f'listen: "127.0.0.1:-1"\njetstream {{ store_dir: "{self.folder}", max_mem: 64MB, max_file: 1GB }}\n'
        )

    def command(self) -> list[str]:
        return [shutil.which("nats-server", path=f"{os.environ['PATH']}:/usr/sbin") or "nats-server", "-c", "nats.conf"]

    def saw(self, line: bytes) -> None:
        if b"Listening for client connections" in line:
            self.port = int(line.rpartition(b":")[2])

    async def dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)


def _drain(output: IO[bytes]) -> None:
    with output:
        for _ in output:
            pass


def _family(pid: int) -> Iterator[int]:
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            yield from _family(int(child))


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _stands_still(pid: int) -> bool:
    """Whether each thread of *pid* is stopped, as the letter behind its name in brackets says; or there is none."""
    try:
        states = [path.read_text().rpartition(")")[2].split()[0] for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return all(state in "TZX" for state in states)
