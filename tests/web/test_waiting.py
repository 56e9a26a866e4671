"""What clients see of a relay that waits for the server of its journal."""

import pytest
from aiohttp import ClientSession, ServerDisconnectedError
from aiohttp.test_utils import TestServer

from web.waiting import create_waiting_app


async def test_the_process_is_well_and_not_ready_and_a_stream_is_asked_for_again() -> None:
    async with TestServer(create_waiting_app()) as server, ClientSession() as client:

        async def status(method: str, path: str, **headers: str) -> int:
            async with client.request(method, server.make_url(path), headers=headers) as response:
                return response.status

        assert [await status("GET", path) for path in ("/healthz", "/readyz", "/", "/v1/jobs")] == [200, 503, 503, 503]
        async with client.post(server.make_url("/v1/jobs"), json={"upstream": "sora", "input": {}}) as response:
            assert (response.status, response.headers["Retry-After"]) == (503, "5")
            assert (await response.json())["detail"].startswith("the relay is starting")
        # An EventSource comes back after this, and not after a 503.
        with pytest.raises(ServerDisconnectedError):
            await status("GET", "/v1/events", Accept="text/event-stream")
