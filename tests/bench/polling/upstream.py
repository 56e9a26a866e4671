"""The upstream that is polled: as little of a server as its answers need, so that it is not what is measured.

`/v1/tasks/<n>` is one task of Runway's dialect, and `/nf/pending/v2` the list of Sora's. The rest is the bench's:

    /bench/list?jobs=<n>&turn=<t>   so many tasks are listed, all at t %, or all failed where that is over 99
    /bench/reset                    forget who has asked
    /bench/count                    how often it was asked since, as JSON
    /bench/report                   who has asked since, and when
"""

import argparse
import asyncio
import gc
import json
import os
import signal
import time
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Final
from urllib.parse import parse_qsl

from relay.testing.scripted.scenarios import Moment, Scenario
from relay.testing.scripted.sora_bodies import FakeTask, pending
from tests.bench.fanout.control import EXIT_AFTER

__all__ = ["TOKEN", "task_name"]

TOKEN: Final = "a-token-of-the-benchmark-0123456789abcdef"

BORN: Final = datetime(2026, 11, 23, 20, tzinfo=UTC)

EVERY: Final = 4
"""A task's figure moves with every fourth answer about it."""


def task_name(number: int) -> str:
    """The id of a task: as long as the real ones."""
    return f"task_01k6{number:022d}"


class State:
    """What there is to be asked, and when each was."""

    def __init__(self) -> None:
        self.asked: dict[bytes, list[float]] = {}
        self.listed: list[float] = []
        self.connections = 0
        self._list = _http(b"[]")

    def task(self, name: bytes) -> bytes:
        times = self.asked.get(name)
        if times is None:
            times = self.asked[name] = []
        times.append(time.monotonic())
        figure = min(99, len(times) // EVERY)
        return _http(
            b'{"id":"%b","createdAt":"2026-11-23T20:00:00.000Z","status":"RUNNING","progress":0.%02d}' % (name, figure)
        )

    def list(self) -> bytes:
        self.listed.append(time.monotonic())
        return self._list

    def bench(self, target: str) -> bytes:
        path, _, query = target.partition("?")
        options = {key: int(value) for key, value in parse_qsl(query)}
        match path:
            case "/bench/list":
                self._list = _http(_listing(options["jobs"], options["turn"]))
            case "/bench/reset":
                self.asked.clear()
                self.listed.clear()
            case "/bench/count":
                count = {"polls": sum(map(len, self.asked.values())), "lists": len(self.listed)}
                return _http(json.dumps(count).encode())
            case _:
                return _http(json.dumps(self._report()).encode())
        return _http(b"{}")

    def _report(self) -> dict[str, Any]:
        gaps = sorted(b - a for times in self.asked.values() for a, b in pairwise(times))
        return {
            "polls": sum(map(len, self.asked.values())),
            "tasks": len(self.asked),
            "gaps": gaps,
            "lists": len(self.listed),
            "listed": self.listed,
            "connections": self.connections,
        }


class Connection(asyncio.Protocol):
    def __init__(self, state: State) -> None:
        self._state = state
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._state.connections += 1

    def data_received(self, data: bytes) -> None:
        data = self._head + data
        while (end := data.find(b"\r\n\r\n")) >= 0:
            self._transport.write(self._answer(data[:end]))
            data = data[end + 4 :]
        self._head = data

    def _answer(self, head: bytes) -> bytes:
        target = head.split(b" ", 2)[1]
        if target.startswith(b"/v1/tasks/"):
            return self._state.task(target[10:])
        if target == b"/nf/pending/v2":
            return self._state.list()
        return self._state.bench(target.decode())


def _listing(jobs: int, turn: int) -> bytes:
    status = "running" if turn < 100 else "failed"
    moment = Moment(status=status, progress=0.01 * min(99, turn))
    scenario = Scenario(name="list", description="", phases=((0.0, moment),))
    items: list[dict[str, Any]] = []
    for number in range(jobs):
        task = FakeTask(
            id=task_name(number),
            generation=f"gen_01k6{number:022d}",
            scenario=scenario,
            born=0.0,
            created_at=BORN,
            input={"prompt": f"a lighthouse in a storm, number {number}, seen from the sea"},
        )
        items.append(pending(task, moment))
    return json.dumps(items).encode()


def _http(body: bytes) -> bytes:
    return (
        b"HTTP/1.1 200 OK\r\nDate: Mon, 23 Nov 2026 20:00:00 GMT\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\nServer: bench\r\nX-Request-Id: 0123456789abcdef\r\n\r\n%b" % (len(body), body)
    )


async def main(cpu: int | None) -> None:
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})
    signal.alarm(EXIT_AFTER)
    state = State()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(state), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--cpu", type=int)
    gc.freeze()
    asyncio.run(main(parser.parse_args().cpu))
