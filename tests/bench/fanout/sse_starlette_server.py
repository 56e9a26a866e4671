"""sse-starlette on uvicorn, uvloop and httptools: an EventSourceResponse and an asyncio.Queue for each client."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from importlib import import_module
from typing import Any

from tests.bench.fanout.control import arguments, payload, serve_control

starlette: Any = import_module("starlette.applications")
routing: Any = import_module("starlette.routing")
sse: Any = import_module("sse_starlette.sse")
uvicorn: Any = import_module("uvicorn")
uvloop: Any = import_module("uvloop")
topics: dict[str, set[asyncio.Queue[str]]] = defaultdict(set)


def publish(topic: str, seq: int, size: int) -> None:
    data = payload(seq, size)
    for queue in topics[topic]:
        queue.put_nowait(data)


async def events(request: Any) -> Any:
    queue: asyncio.Queue[str] = asyncio.Queue()
    listeners = topics[request.path_params["topic"]]
    listeners.add(queue)

    async def source() -> AsyncIterator[dict[str, str]]:
        try:
            while True:
                yield {"data": await queue.get()}
        finally:
            listeners.discard(queue)

    return sse.EventSourceResponse(source())


async def main() -> None:
    options = arguments()
    app = starlette.Starlette(routes=[routing.Route("/events/{topic}", events)])
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=options.port,
        http="httptools",
        access_log=False,
        log_level="warning",
        backlog=4096,
        lifespan="off",
    )
    control = await serve_control(options.control, publish)
    await uvicorn.Server(config).serve()
    control.close()


if __name__ == "__main__":
    uvloop.run(main())
