"""The sink keeps the laws of a sink, and its messages are as a syslog server reads them."""

import socket
from collections.abc import Iterator

import pytest
from relay_sink_syslog import LONGEST, SyslogSink, encode

from relay.testing import sample_records


class Server:
    """A syslog server on loopback, which keeps what it receives."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self.port: int = self._socket.getsockname()[1]
        self._lines = bytearray()

    def received(self) -> bytes:
        """All messages so far, a line each."""
        while True:
            try:
                self._lines += self._socket.recv(65_536) + b"\n"
            except BlockingIOError:
                return bytes(self._lines)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def test_the_sink_keeps_the_laws(check_sink, server: Server) -> None:
    # UDP drops a burst that nobody reads, and nobody learns of it: the sink cannot drain, and says so in its docstring.
    report = check_sink(
        lambda: SyslogSink("127.0.0.1", server.port),
        output=server.received,
        target=f"'127.0.0.1', {server.port}",
        waive=["drains"],
    )
    assert {"once", "ordered", "terminal", "one_each", "control_bytes", "leftovers", "named"} <= set(report.kept)


def test_a_message_has_a_priority_a_time_and_the_text_of_the_record() -> None:
    record = sample_records()[0]
    assert encode(record) == (
        b"<14>1 2026-01-01T16:00:07.623456Z - relay job_sample_1 accepted - accepted for sora, task task_1"
    )


def test_no_message_is_longer_than_receivers_accept() -> None:
    assert all(len(encode(record)) <= LONGEST for record in sample_records())
