"""`relay serve` at the limits of its process: no descriptor left, and hundreds of streams at its end."""

import os
import re
import resource
import signal
import socket
from collections.abc import Generator
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import BinaryIO, NamedTuple

import pytest

from tests.cli.asking import get
from tests.cli.running import Running, relay

PATIENCE = 60.0
"""A safety net: nothing here waits for time to pass."""


class Stream(NamedTuple):
    """A client that has asked for all events; what it is sent is read from *answer*."""

    connection: socket.socket
    answer: BinaryIO

    def beats(self) -> None:
        """Wait for the heartbeat that every stream begins with."""
        for line in self.answer:
            if line == b":\n":
                return
        raise AssertionError("it ended without a heartbeat")


@contextmanager
def streams(port: int, count: int) -> Generator[list[Stream]]:
    with ExitStack() as stack:
        opened = []
        for _ in range(count):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE))
            connection.sendall(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
            opened.append(Stream(connection, stack.enter_context(connection.makefile("rb"))))
        yield opened


def port_of(serve: Running) -> int:
    return int(serve.says(r"serving on http://127\.0\.0\.1:([0-9]+)/;")[1])


def ready(connection: HTTPConnection) -> tuple[int, str]:
    connection.request("GET", "/readyz")
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


@pytest.mark.skipif(
    not (hasattr(resource, "prlimit") and Path("/proc/self/fd").is_dir()),
    reason="only Linux lets a test lower the limits of a process that runs",
)
def test_without_a_free_descriptor_new_clients_wait_readyz_says_so_and_nothing_ends(tmp_path: Path) -> None:
    with relay("serve", "--port", "0", folder=tmp_path) as serve:
        port = port_of(serve)
        serve.says("no upstream is configured")
        with closing(HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as operator:
            assert ready(operator) == (200, "ready\n")
            used = len(os.listdir(f"/proc/{serve.pid}/fd"))
            _, most = resource.prlimit(serve.pid, resource.RLIMIT_NOFILE)
            resource.prlimit(serve.pid, resource.RLIMIT_NOFILE, (used + 5, most))

            with streams(port, 30) as clients:
                serve.says(r"no connection can be accepted: Too many open files; .*Raise the limit")
                for client in clients[:5]:
                    client.beats()
                status, said = ready(operator)
                assert (status, "no connection can be accepted: Too many open files" in said) == (503, True)
            assert get(f"http://127.0.0.1:{port}/readyz") == b"ready\n"
            assert ready(operator) == (200, "ready\n")
        serve.interrupt()
        assert serve.ends() == 0
    assert [line for line in serve.said if re.search("accept|Traceback|Error", line)] == serve.said[2:3]


def test_a_relay_that_is_told_to_end_says_so_on_each_of_500_streams(tmp_path: Path) -> None:
    with relay("serve", "--port", "0", folder=tmp_path) as serve, streams(port_of(serve), 500) as clients:
        for client in clients:
            client.beats()
        serve.interrupt(signal.SIGTERM)
        heard = [client.answer.read() for client in clients]
        assert serve.ends() == 0

    assert [re.findall(rb"^event: (\w+)$", said, re.MULTILINE) for said in heard] == [[b"bye"]] * 500
    assert all(re.search(rb"^retry: [0-9]+$", said, re.MULTILINE) for said in heard)
    assert all(said.endswith(b"0\r\n\r\n") for said in heard), "each stream ends in order, not by a cut"
