"""Whatever clients do to their connections: each receives the records of its job, whole and in order.

Real connections with small buffers are read slowly, reset, half-closed and closed, while others are opened that get
their descriptors. The journal is the model. MODEL_EXAMPLES=2000 in the environment looks further.
"""

import asyncio
import os
import socket
import struct
from contextlib import suppress
from typing import ClassVar

import pytest
from aiohttp.web import AppRunner
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from relay import Job, Relay
from relay.cli.loops import LoopName
from relay.events import Done, Log
from relay.testing import ManualClock
from sinks import frame
from tests.loops import factory_of
from web import create_app
from web.access.access import ANYBODY
from web.streaming.connections import IGNORED_BYTES
from web.streaming.keys import REACTOR, STREAMS
from web.streaming.resume import start_stream
from web.streaming.selection import Selection
from web.streaming.session import StreamSession
from web.streaming.sockets import tune_socket
from web.streaming.wire import SSE

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "40"))
PATIENCE = 60.0
"""Seconds: a safety net only."""

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
SMALL, ROOM = 4_096, 65_536
RESET = struct.pack("ii", 1, 0)

picks = st.integers(0, 1_000)
kinds = st.sampled_from(["tcp", "tcp", "unix"])


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Both ends of a connection over loopback, of which the kernel soon accepts no more for a client that reads slowly.

    The client's buffer is not the smallest: the kernel waits for 0.2 s now and then where it has room for two packets.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
        far = socket.socket()
        far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ROOM)
        far.connect(server.getsockname())
        near, _ = server.accept()
    tune_socket(near)
    return near, far


class Client:
    """A client of the stream of one job, and everything that it has received."""

    def __init__(self, kind: str, job: Job) -> None:
        near, self.far = tcp_pair() if kind == "tcp" else socket.socketpair()
        near.setblocking(False)
        self.far.setblocking(False)
        self.fd = near.detach()
        self.job = job
        self.received, self.sent = b"", 0
        self.ended = self.left = False

    def read(self, size: int) -> None:
        """Read at most *size* bytes of what is there."""
        try:
            data = self.far.recv(size)
        except BlockingIOError:
            return
        except OSError:
            self.ended = True
            return
        self.received += data
        self.ended = not data

    def send(self, size: int) -> None:
        """Send as much as the kernel accepts; behind too much of it the client is cut off."""
        with suppress(OSError):
            self.sent += self.far.send(b"x" * size)
        self.left = self.left or self.sent > IGNORED_BYTES

    def leave(self, how: str) -> None:
        match how:
            case "resets":
                with suppress(OSError):
                    self.far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                self.far.close()
            case "closes":
                self.far.close()
            case _:
                with suppress(OSError):
                    self.far.shutdown(socket.SHUT_WR)
        self.left = True

    @property
    def reads(self) -> bool:
        return self.far.fileno() >= 0

    def body(self) -> tuple[bytes, bool]:
        """The bytes that were received, without the framing; and whether that is complete."""
        head, data, body = self.received[: len(HEAD)], self.received[len(HEAD) :], b""
        assert HEAD.startswith(head)
        while data:
            size, found, rest = data.partition(b"\r\n")
            if not found:
                break
            length = int(size, 16)
            if not length:
                assert rest in (b"", b"\r", b"\r\n"), "nothing follows the last chunk"
                return body, rest == b"\r\n"
            body += rest[:length]
            assert b"\r\n".startswith(rest[length : length + 2])
            data = rest[length + 2 :]
        return body, False


class Reactors(RuleBasedStateMachine):
    """An application with a reactor, and its clients."""

    loop_name: ClassVar[LoopName] = "asyncio"

    @initialize()
    def start(self) -> None:
        self.descriptors = len(os.listdir("/proc/self/fd"))
        self.runner = asyncio.Runner(loop_factory=factory_of(self.loop_name))
        self.runner.run(self._start())
        self.clients: list[Client] = []

    async def _start(self) -> None:
        self.relay = await Relay([], clock=ManualClock()).__aenter__()
        self.app = create_app(self.relay, heartbeat=3_600, send_timeout=3_600, slow_after=3_600)
        self.server = AppRunner(self.app)
        await self.server.setup()
        self.jobs = [self.relay.registry.admit() for _ in range(2)]

    @rule(kind=kinds, pick=picks)
    def open(self, kind: str, pick: int) -> None:
        self.runner.run(self._open(Client(kind, self.jobs[pick % len(self.jobs)])))

    async def _open(self, client: Client) -> None:
        start = start_stream(self.relay.bus, Selection([client.job]), None)
        session = StreamSession(self.app, "somebody", ANYBODY, SSE, start, "debug")
        assert session.serve_on(client.fd, HEAD, chunked=True)
        self.clients.append(client)

    @rule(pick=picks, size=st.sampled_from([1, 100, 3_000, 20_000]), times=st.integers(1, 20))
    def publish(self, pick: int, size: int, times: int) -> None:
        async def publish() -> None:
            job = self.jobs[pick % len(self.jobs)]
            for number in range(times):
                self.relay.bus.publish(job, Log(line=f"{number} {job.id} ".ljust(size, "x")))

        self.runner.run(publish())

    @rule(pick=picks)
    def end_job(self, pick: int) -> None:
        async def end() -> None:
            job = self.jobs[pick % len(self.jobs)]
            self.relay.bus.publish(job, Done(urls=("https://a/b",)))
            self.jobs[self.jobs.index(job)] = self.relay.registry.admit()

        self.runner.run(end())

    @precondition(lambda self: self.clients)
    @rule(pick=picks, size=st.sampled_from([1, 1_000, 65_536]))
    def read(self, pick: int, size: int) -> None:
        client = self.clients[pick % len(self.clients)]
        if client.reads:
            client.read(size)

    @precondition(lambda self: self.clients)
    @rule(pick=picks, how=st.sampled_from(["resets", "closes", "half-closes"]), replaced=st.booleans(), kind=kinds)
    def leave(self, pick: int, how: str, replaced: bool, kind: str) -> None:
        """Also while a new client comes in the same turn of the loop, or the next."""
        self.clients[pick % len(self.clients)].leave(how)
        if replaced:
            self.open(kind, pick)

    @precondition(lambda self: self.clients)
    @rule(pick=picks, size=st.sampled_from([1, 1_000, IGNORED_BYTES + 1]))
    def send(self, pick: int, size: int) -> None:
        """Bytes that a client sends behind its request are not answered; too much of it, and it is cut off."""
        client = self.clients[pick % len(self.clients)]
        if client.reads and not client.left:
            client.send(size)

    @precondition(lambda self: self.clients)
    @rule(pick=picks)
    def cut(self, pick: int) -> None:
        async def cut() -> None:
            streams = [stream for stream in self.app[STREAMS] if isinstance(stream, StreamSession)]
            if streams:
                stream = streams[pick % len(streams)]
                client = next(one for one in self.clients if one.fd == stream.fd and self._is_served(one))
                stream.cut()
                client.left = True

        self.runner.run(cut())

    def _is_served(self, client: Client) -> bool:
        """The newest client with a descriptor is the one that has it now."""
        return [one for one in self.clients if one.fd == client.fd][-1] is client

    @rule(rounds=st.integers(1, 5))
    def turn(self, rounds: int) -> None:
        async def turn() -> None:
            for _ in range(rounds):
                await asyncio.sleep(0)

        self.runner.run(turn())

    def teardown(self) -> None:
        if not hasattr(self, "runner"):
            return
        try:
            self.runner.run(self._read_all())
            self.runner.run(self._stop())
        finally:
            self.runner.close()
            for client in self.clients:
                client.far.close()
        assert len(os.listdir("/proc/self/fd")) == self.descriptors, "no descriptor is left"

    async def _read_all(self) -> None:
        """Every client that stayed receives all there is, and of the others nothing is left."""
        async with asyncio.timeout(PATIENCE):
            while not all(self._is_done(client) for client in self.clients):
                await asyncio.sleep(0)
                for client in self.clients:
                    if client.reads and not client.ended:
                        client.read(65_536)
            staying = [client for client in self.clients if not client.left and not client.job.ended]
            while (len(self.app[STREAMS]), len(self.app[REACTOR])) != (len(staying),) * 2:  # noqa: ASYNC110
                await asyncio.sleep(0)

    def _is_done(self, client: Client) -> bool:
        records = self.relay.journal.read(0, [client.job.id], limit=10_000)
        expected = b":\n" + b"".join(frame(record) for record in records)
        body, complete = client.body()
        assert expected.startswith(body), "no hole, no repetition, and nothing of another stream"
        if client.left:
            return client.ended or not client.reads
        if client.job.ended:
            return client.ended and complete and body == expected
        assert not client.ended
        return body == expected

    async def _stop(self) -> None:
        await self.server.cleanup()
        await self.relay.__aexit__(None, None, None)


class UvloopReactors(Reactors):
    loop_name = "uvloop"


@pytest.mark.parametrize("machine", [Reactors, UvloopReactors])
def test_each_client_receives_its_own_records_whole_and_in_order(machine: type[Reactors]) -> None:
    with asyncio.Runner(loop_factory=factory_of(machine.loop_name)) as runner:
        runner.run(asyncio.sleep(0))  # the first loop of a process opens two descriptors for good, where it is uvloop
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
