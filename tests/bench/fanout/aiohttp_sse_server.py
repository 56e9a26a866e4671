"""aiohttp-sse as its documentation shows it: an EventSourceResponse and an asyncio.Queue for each client."""

import asyncio
from collections import defaultdict
from importlib import import_module
from typing import Any

from aiohttp import web

from tests.bench.fanout.control import arguments, payload, serve_control

sse_response: Any = import_module("aiohttp_sse").sse_response
topics: dict[str, set[asyncio.Queue[str]]] = defaultdict(set)


def publish(topic: str, seq: int, size: int) -> None:
    data = payload(seq, size)
    for queue in topics[topic]:
        queue.put_nowait(data)


async def events(request: web.Request) -> web.StreamResponse:
    queue: asyncio.Queue[str] = asyncio.Queue()
    listeners = topics[request.match_info["topic"]]
    async with sse_response(request) as response:
        listeners.add(queue)
        try:
            while response.is_connected():
                await response.send(await queue.get())
        finally:
            listeners.discard(queue)
    stream: web.StreamResponse = response
    return stream


async def main() -> None:
    options = arguments()
    app = web.Application()
    app.router.add_get("/events/{topic}", events)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", options.port, backlog=4096).start()
    control = await serve_control(options.control, publish)
    await control.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
