"""A durable webhook whose receiver is away while the relay is killed again and again."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from aiohttp import web

from relay.journal.sqlite import stored_records
from tests.durable.far_end import follows
from tests.faults.lives import LIFE, TASKS
from tests.faults.process import ROOT, free_port
from tests.sinks.webhook.receiver import KEY, Delivery, verify_signature

KILLS_IN_OUTAGE: Final = 20
KILLS_AT_WORK: Final = 4
OUTAGE: Final = 120.0


class Receiver:
    """At one port, and not always there."""

    def __init__(self) -> None:
        self.port = free_port()
        self.deliveries: list[Delivery] = []
        self._arrived = asyncio.Event()
        self._runner: web.AppRunner | None = None

    async def come(self) -> None:
        app = web.Application()
        app.router.add_post("/hook", self._take)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def go(self) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def has(self, number: int) -> None:
        while len(self.deliveries) < number:
            self._arrived.clear()
            await self._arrived.wait()

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.deliveries.append(Delivery(request.method, request.path_qs, headers, body, []))
        self._arrived.set()
        return web.Response(status=204)


class Lives:
    """The relay, one life after the other."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def begin(self, kind: str = "live") -> None:
        """Begin a life, and return when it has lasted for LIFE seconds of its own."""
        self._command(kind)
        assert await self.line() == "lives"

    async def kill(self) -> None:
        self._command("kill")
        assert await self.line() == "killed"

    async def line(self) -> str:
        assert self._process.stdout is not None
        return (await self._process.stdout.readline()).decode().strip()

    def _command(self, command: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n".encode())


@asynccontextmanager
async def lives(folder: Path, port: int) -> AsyncGenerator[Lives]:
    url = f"http://127.0.0.1:{port}/hook"
    # Of a session of its own, so that a life does not survive the process that it is a fork of.
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.faults.lives", str(folder), url),
        cwd=ROOT,
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
        start_new_session=True,
    )
    try:
        yield Lives(process)
        assert process.stdin is not None
        process.stdin.close()
        assert await process.wait() == 0
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def test_every_record_arrives_signed_and_in_order_though_the_receiver_is_away_and_the_relay_is_killed(
    tmp_path: Path,
) -> None:
    receiver = Receiver()
    await receiver.come()
    async with lives(tmp_path, receiver.port) as relay:
        for _ in range(KILLS_AT_WORK):
            await relay.begin()
            await receiver.has(len(receiver.deliveries) + 1)
            await relay.kill()

        await receiver.go()
        before = len(receiver.deliveries)
        for _ in range(KILLS_IN_OUTAGE):
            await relay.begin()
            await relay.kill()
        assert KILLS_IN_OUTAGE * LIFE >= OUTAGE
        assert len(receiver.deliveries) == before

        await receiver.come()
        for number in range(1, KILLS_AT_WORK + 1):
            await relay.begin()
            await receiver.has(before + 20 * number)
            await relay.kill()
        await relay.begin("last")
        assert await relay.line() == "ended with status 0"
    await receiver.go()

    records = list(stored_records(tmp_path / "relay.db"))
    seqs: dict[str, list[int]] = defaultdict(list)
    ids: dict[tuple[str, int], set[str]] = defaultdict(set)
    for delivery in receiver.deliveries:
        verify_signature(delivery, KEY)  # each life has a clock that is quicker than that of a verifier
        data = json.loads(delivery.body)["data"]
        seqs[data["job"]].append(data["seq"])
        ids[data["job"], data["seq"]].add(delivery.headers["webhook-id"])

    assert len(records) > 10 * KILLS_IN_OUTAGE
    assert set(ids) == {(record.job, record.seq) for record in records}
    assert {job for job, of_job in seqs.items() if not follows(of_job)} == set()
    assert {len(found) for found in ids.values()} == {1}, "a record that comes again comes with its id"
    assert len(seqs) == len(TASKS)
    assert len(receiver.deliveries) >= len(records)
