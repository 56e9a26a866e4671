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


on_linux = pytest.mark.skipif(
    not (hasattr(resource, "prlimit") and Path("/proc/self/fd").is_dir()),
    reason="only Linux lets a test look at the limits of another process, and change them",
)


@on_linux
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


def limited(soft: int, hard: int) -> list[str]:
    """What runs a command that may have *soft* files open, and as many as *hard* if it says so itself."""
    return ["sh", "-c", f'ulimit -Sn {soft} && ulimit -Hn {hard} && exec "$@"', "sh"]


@on_linux
@pytest.mark.parametrize(
    ("soft", "hard", "raised"),
    [(64, 2_000, 1_128), (64, 1_128, 1_128), (1_500, 2_000, 1_500)],
    ids=["to what streams need", "to the hard limit where that is enough", "and never lowered"],
)
def test_the_soft_limit_of_descriptors_is_raised(soft: int, hard: int, raised: int, tmp_path: Path) -> None:
    under = limited(soft, hard)
    with relay("serve", "--port", "0", folder=tmp_path, under=under, RELAY_SERVER_MAX_STREAMS="1000") as serve:
        port = port_of(serve)
        assert resource.prlimit(serve.pid, resource.RLIMIT_NOFILE) == (raised, hard)
        with streams(port, 200) as clients:
            for client in clients:
                client.beats()
        serve.interrupt()
        assert serve.ends() == 0
    assert [re.sub("[0-9]{4,5}/", "PORT/", line) for line in serve.said] == [
        "relay: serving on http://127.0.0.1:PORT/; Ctrl-C ends this",
        "relay: no upstream is configured, so there is nothing to follow; add [[upstreams]] to relay.toml",
    ]


@on_linux
@pytest.mark.parametrize(
    ("hard", "advice"),
    [(500, ", or lower [server] max_streams to 272"), (200, "")],
    ids=["some fit", "none fit"],
)
def test_too_low_a_hard_limit_is_said_once_with_what_to_do(hard: int, advice: str, tmp_path: Path) -> None:
    (tmp_path / "relay.toml").write_text(
        '[server]\nmax_streams = 1000\n[[upstreams]]\nkind = "comfyui"\nbase_url = "http://127.0.0.1:1"'
    )
    with relay("serve", "--port", "0", folder=tmp_path, under=limited(64, hard)) as serve:
        port_of(serve)
        assert resource.prlimit(serve.pid, resource.RLIMIT_NOFILE) == (hard, hard)
        serve.interrupt()
        assert serve.ends() == 0
    assert serve.said[0] == (
        "relay: 1,000 streams (max_streams) and what else is open need 1,228 descriptors, and this process may have"
        f" {hard}; raise its hard limit (ulimit -Hn, LimitNOFILE= of systemd){advice}"
    )
    assert "serving on" in serve.said[1]
