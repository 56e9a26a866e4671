"""Bytes wait at a closed gate of the proxy and go on behind it, and a link can be cut."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.faults.cluster.proxy import Proxy

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Far:
    """A server that answers each line in capitals, and notes what came."""

    def __init__(self) -> None:
        self.lines: asyncio.Queue[bytes] = asyncio.Queue()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            self.lines.put_nowait(line)
            writer.write(line.upper())
        writer.close()


@asynccontextmanager
async def proxied() -> AsyncIterator[tuple[Far, Proxy]]:
    far = Far()
    server = await asyncio.start_server(far.serve, "127.0.0.1", 0)
    async with server, Proxy("127.0.0.1", server.sockets[0].getsockname()[1]) as proxy:
        yield far, proxy


async def dial(proxy: Proxy) -> Streams:
    return await asyncio.open_connection("127.0.0.1", proxy.port)


async def test_bytes_pass_in_both_directions() -> None:
    async with proxied() as (far, proxy):
        reader, writer = await dial(proxy)
        writer.write(b"one\n")

        assert await reader.readline() == b"ONE\n"
        assert far.lines.get_nowait() == b"one\n"
        writer.close()


async def test_a_request_that_was_held_arrives_although_its_client_has_gone() -> None:
    async with proxied() as (far, proxy):
        reader, writer = await dial(proxy)
        writer.write(b"one\n")
        await reader.readline()
        proxy.requests.clear()
        writer.write(b"two\n")
        writer.close()
        await writer.wait_closed()

        assert far.lines.get_nowait() == b"one\n"
        assert far.lines.empty()
        proxy.release()
        assert await far.lines.get() == b"two\n"


async def test_a_request_that_was_held_arrives_although_its_client_was_cut_off_and_has_connected_again() -> None:
    async with proxied() as (far, proxy):
        reader, writer = await dial(proxy)
        writer.write(b"one\n")
        await reader.readline()
        proxy.requests.clear()
        writer.write(b"two\n")
        await proxy.waits()
        proxy.give_up()
        with pytest.raises(ConnectionResetError):
            await reader.readline()
        again, other = await dial(proxy)
        other.write(b"three\n")
        proxy.release()

        assert await again.readline() == b"THREE\n"
        assert {await far.lines.get() for _ in range(3)} == {b"one\n", b"two\n", b"three\n"}
        writer.close()
        other.close()


async def test_a_request_is_executed_while_its_reply_is_held() -> None:
    async with proxied() as (far, proxy):
        reader, writer = await dial(proxy)
        proxy.replies.clear()
        writer.write(b"one\n")

        assert await far.lines.get() == b"one\n"
        reply = asyncio.create_task(reader.readline())
        await asyncio.sleep(0)
        assert not reply.done()
        proxy.release()
        assert await reply == b"ONE\n"
        writer.close()


async def test_a_link_that_is_cut_is_reset_for_its_client_and_a_new_one_works() -> None:
    async with proxied() as (_, proxy):
        reader, writer = await dial(proxy)
        writer.write(b"one\n")
        await reader.readline()
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            await reader.readline()
        writer.close()

        reader, writer = await dial(proxy)
        writer.write(b"two\n")
        assert await reader.readline() == b"TWO\n"
        writer.close()


async def test_connections_are_refused_until_they_are_accepted_again_at_the_same_port() -> None:
    async with proxied() as (_, proxy):
        await proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            await dial(proxy)
        await proxy.accept()
        reader, writer = await dial(proxy)
        writer.write(b"one\n")

        assert await reader.readline() == b"ONE\n"
        writer.close()
