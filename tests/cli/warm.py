"""Starts commands of the relay in processes of their own, without importing everything anew for each of them.

One process imports the relay once and then waits. For each command it forks, and the child runs the command as the
script `relay` does: with arguments, folder, environment, outputs and an end of its own. A test of the start itself, as
of imports or of how Python is called, starts the script instead.
"""

import atexit
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, Final, Self

__all__ = ["Command", "start"]

SCRIPT: Final = Path(sys.executable).parent / "relay"

_IMPORTED: Final = (
    *(
        "relay.cli.access",
        "relay.cli.audit",
        "relay.cli.demo",
        "relay.cli.doctor",
        "relay.cli.fake",
        "relay.cli.follow",
    ),
    *("relay.cli.listing", "relay.cli.replay", "relay.cli.serve", "relay.cli.tail", "relay.cli.token"),
    *("relay.upstreams", "uvloop"),
)
_LONGEST: Final = 1 << 16
"""Bytes of a request. Linux hands a message of that size over in one piece."""


class Command:
    """A process that runs one command; leaving it waits for its end.

    *stdout* and *stderr* are the ends of pipes for those outputs that are to be read here.
    """

    def __init__(self, line: socket.socket, stdout: IO[str] | None, stderr: IO[str] | None) -> None:
        self.stdout = stdout
        self.stderr = stderr
        self._line = line
        self._status: int | None = None
        self.pid = int(line.recv(16))

    def wait(self, timeout: float) -> int:
        """Its exit status; that of a process which a signal has ended is the signal's number, negative."""
        if self._status is None:
            self._line.settimeout(timeout)
            self._status = int(self._line.recv(16))
        return self._status

    def send_signal(self, number: int) -> None:
        """Send it a signal. The process that has started it waits for it, so its id cannot be another's by now."""
        if self._status is None and not self._ended():
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _ended(self) -> bool:
        self._line.setblocking(False)
        try:
            return bool(self._line.recv(16, socket.MSG_PEEK))
        except BlockingIOError:
            return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.wait(60)
        self._line.close()
        for pipe in (self.stdout, self.stderr):
            if pipe is not None:
                pipe.close()


def start(arguments: Sequence[str], *, folder: Path, environ: Mapping[str, str], stdout: int, stderr: int) -> Command:
    """Run `relay` with *arguments* in *folder*; its outputs are descriptors, or subprocess.PIPE."""
    ours: list[IO[str] | None] = []
    theirs: list[int] = []
    for output in (stdout, stderr):
        if output == subprocess.PIPE:
            read, write = os.pipe()
            ours.append(os.fdopen(read))
            theirs.append(write)
        else:
            ours.append(None)
            theirs.append(os.dup(output))
    line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    line.connect(_Starter.shared().address)
    request = {"arguments": arguments, "folder": str(folder), "environ": dict(environ)}
    socket.send_fds(line, [json.dumps(request).encode()], theirs)
    for descriptor in theirs:
        os.close(descriptor)
    return Command(line, *ours)


class _Starter:
    """The process that has imported the relay. It ends with the process that uses it."""

    def __init__(self) -> None:
        self._folder = TemporaryDirectory(prefix="relay-warm-")
        self.address = str(Path(self._folder.name) / "line")
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(self.address)
            listener.listen()
            # Its standard input is a pipe that nobody writes into: it ends when this process does.
            self._process = subprocess.Popen(
                [sys.executable, "-m", __spec__.name, str(listener.fileno())],
                cwd=Path(__file__).parents[2],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                pass_fds=[listener.fileno()],
            )
        atexit.register(self._end)

    def _end(self) -> None:
        self._process.communicate()
        self._folder.cleanup()

    @staticmethod
    @cache
    def shared() -> "_Starter":
        return _Starter()


def _next_command() -> list[str]:
    """Wait for requests. This returns in a child alone, with the arguments of its command."""
    for module in _IMPORTED:
        import_module(module)
    running: dict[int, socket.socket] = {}
    news, end = socket.socketpair()
    end.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(end.fileno())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    listener = socket.socket(fileno=int(sys.argv[1]))
    with selectors.DefaultSelector() as selector:
        for source in (listener, news, sys.stdin):
            selector.register(source, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is sys.stdin:
                    os._exit(0)
                elif key.fileobj is news:
                    news.recv(4_096)
                    _report_ends(running)
                else:
                    line, _ = listener.accept()
                    content, outputs, _, _ = socket.recv_fds(line, _LONGEST, 2)
                    if not (pid := os.fork()):
                        break
                    for output in outputs:
                        os.close(output)
                    running[pid] = line
                    line.send(str(pid).encode())
            else:
                continue
            break
    for other in (listener, news, end, line, *running.values()):
        other.close()
    return _become(json.loads(content), outputs)


def _report_ends(running: dict[int, socket.socket]) -> None:
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        with running.pop(pid) as line:
            line.send(str(os.waitstatus_to_exitcode(status)).encode())


def _become(request: dict[str, Any], outputs: Sequence[int]) -> list[str]:
    """Make this process what a shell would have started."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    for number, output in enumerate(outputs, 1):
        os.dup2(output, number)
        os.close(output)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environ"])
    sys.argv = [str(SCRIPT), *request["arguments"]]
    sys.path[0] = str(SCRIPT.parent)
    return sys.argv[1:]


if __name__ == "__main__":
    from relay.cli import main

    sys.exit(main(_next_command()))
