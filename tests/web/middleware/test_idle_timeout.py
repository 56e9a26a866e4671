"""Idle connections are closed after time in which the relay was running: a stall closes none."""

import asyncio

from aiohttp.web import AppRunner, TCPSite

from relay import Relay
from relay.testing import ManualClock
from tests.web.raw import request
from web import create_app
from web.middleware.idle_timeout import REQUEST_WITHIN, reap_idle_connections


class Stalling(ManualClock):
    """A clock of which *ahead* seconds pass while nothing runs."""

    ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


async def test_a_request_that_was_sent_during_a_stall_is_answered() -> None:
    clock = Stalling()
    runner = AppRunner(create_app(Relay([], clock=ManualClock())), access_log=None)
    async with reap_idle_connections(runner, clock=clock):
        await runner.setup()
        await TCPSite(runner, "127.0.0.1", 0).start()
        reader, writer = await asyncio.open_connection(*runner.addresses[0][:2])
        writer.write(request("GET /healthz HTTP/1.1")[:-1])
        for _ in range(20):
            await asyncio.sleep(0)
        assert runner.server is not None
        assert runner.server.connections, "it was accepted"
        await clock.advance(REQUEST_WITHIN / 4)
        clock.ahead = 3_600.0
        await clock.advance(REQUEST_WITHIN / 4)
        writer.write(b"\n")

        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()
        await runner.cleanup()
