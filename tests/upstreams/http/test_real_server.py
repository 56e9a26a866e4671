"""Polls of a real HTTP server, plain and under TLS: however its answers come, they are read as they were sent."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import trustme
from aiohttp import web

from relay.errors import UpstreamError
from relay.upstreams.http.client import HttpClient

BODY = '{"status": "RUNNING", "progress": 0.25}'
SEEN = {"status": "RUNNING", "progress": 0.25}


class Upstream:
    """Answers in the way that the path names; counts connections."""

    def __init__(self) -> None:
        self.connections: set[object] = set()
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.connections.add(request.transport)
        match request.match_info["way"]:
            case "plain":
                return web.Response(text=BODY, content_type="application/json")
            case "gzip":
                response = web.Response(text=BODY)
                response.enable_compression(web.ContentCoding.gzip)
                return response
            case "closing":
                response = web.Response(text=BODY)
                response.force_close()
                return response
            case "redirect":
                return web.Response(status=302, headers={"Location": "/plain"})
            case "late":
                return web.Response(text=BODY, headers={"Retry-After": "7"})
            case _:
                return await self._in_pieces(request)

    async def _in_pieces(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        if request.match_info["way"] == "chunked":
            response.enable_chunked_encoding()
        else:
            response.content_length = len(BODY)
        await response.prepare(request)
        for piece in (BODY[:7], BODY[7:]):
            await response.write(piece.encode())
            # Long enough for the client to read the piece by itself, and no promise that it does.
            for _ in range(20):
                await asyncio.sleep(0)
        return response


@pytest.fixture(params=["plain", "tls"])
async def upstream(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Upstream]:
    serving: ssl.SSLContext | None = None
    if request.param == "tls":
        authority = trustme.CA()
        trusting, serving = ssl.create_default_context(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.configure_trust(trusting)
        authority.issue_cert("127.0.0.1").configure_cert(serving)
        monkeypatch.setattr("aiohttp.connector._SSL_CONTEXT_VERIFIED", trusting)
    server = Upstream()
    app = web.Application()
    app.router.add_get("/{way}", server.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=serving).start()
    server.url = f"http{'s' if serving else ''}://127.0.0.1:{runner.addresses[0][1]}"
    yield server
    await runner.cleanup()


Poll = Callable[[str], Awaitable[object]]


@pytest.fixture
async def poll(upstream: Upstream) -> AsyncIterator[Poll]:
    async with HttpClient(upstream.url, "token", upstream="test") as http:

        async def ask(way: str) -> object:
            return (await http.request("GET", way)).json()

        yield ask


@pytest.mark.parametrize("way", ["plain", "gzip", "chunked", "pieces", "late"])
async def test_answers_of_any_form_share_a_connection(upstream: Upstream, poll: Poll, way: str) -> None:
    assert [await poll(each) for each in (way, "plain", way, "plain")] == [SEEN] * 4
    assert len(upstream.connections) == 1


async def test_a_connection_that_the_server_closes_is_replaced(upstream: Upstream, poll: Poll) -> None:
    assert [await poll(way) for way in ("plain", "closing", "plain", "closing", "plain")] == [SEEN] * 5
    assert len(upstream.connections) == 3


async def test_a_redirect_is_refused_and_the_connection_goes_on(upstream: Upstream, poll: Poll) -> None:
    with pytest.raises(UpstreamError, match="a redirect"):
        await poll("redirect")
    assert await poll("plain") == SEEN
    assert len(upstream.connections) == 1


async def test_a_poll_that_is_cancelled_costs_its_connection_and_no_more(upstream: Upstream, poll: Poll) -> None:
    await poll("plain")
    polling = asyncio.ensure_future(poll("plain"))
    await asyncio.sleep(0)
    polling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await polling

    assert await poll("plain") == SEEN
    assert len(upstream.connections) >= 2
