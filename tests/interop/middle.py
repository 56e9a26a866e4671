"""A server in the middle: it accepts connections on loopback, each in a task of its own, and leaves none behind."""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

__all__ = ["in_the_middle"]


@asynccontextmanager
async def in_the_middle(
    serve: Callable[[StreamReader, StreamWriter], Coroutine[Any, Any, None]],
) -> AsyncGenerator[str]:
    """Await *serve* for each connection; yield the address."""
    connections: dict[asyncio.Task[None], StreamWriter] = {}

    def accept(reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.create_task(serve(reader, writer))
        connections[task] = writer
        task.add_done_callback(connections.pop)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        while left := dict(connections):
            for task, writer in left.items():
                task.cancel()
                # A task that is cancelled before its first step closes nothing.
                writer.close()
                writer.transport.abort()
            await asyncio.gather(*left, return_exceptions=True)
            await asyncio.sleep(0)
