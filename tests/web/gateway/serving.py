"""A relay with the scripted upstream behind its gateway, and what a chat client reads of it."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aiohttp import ClientSession
from aiohttp.web import Application

from relay import Journal, Relay
from relay.testing import ManualClock, ScriptedUpstream
from relay.upstreams import Sora
from tests.web.serving import serve_app
from web import create_app

__all__ = ["House", "chat", "documents", "gateway", "submissions", "texts"]


class House(NamedTuple):
    """The client's session, and everything behind it."""

    client: ClientSession
    relay: Relay
    upstream: ScriptedUpstream
    clock: ManualClock
    app: Application


@asynccontextmanager
async def gateway(*, auto: bool = True, journal: Journal | None = None, **options: Any) -> AsyncGenerator[House]:
    """With *auto*, stories run by themselves as fast as their requests do."""
    clock = ManualClock(auto=auto)
    async with ScriptedUpstream(clock=clock) as upstream:
        relay = Relay([Sora(upstream.url, upstream.token, clock=clock)], clock=clock, journal=journal)
        app = create_app(relay, **{"send_timeout": 3_600, "slow_after": 3_600, **options})
        async with serve_app(app) as client:
            yield House(client, relay, upstream, clock, app)


def chat(prompt: Any = "[happy] a cat", **more: Any) -> dict[str, Any]:
    """The body of a chat request."""
    return {"model": "sora", "messages": [{"role": "user", "content": prompt}], **more}


def documents(body: bytes) -> list[Any]:
    """The data of each block; the end is itself."""
    lines = [line.removeprefix("data: ") for line in body.decode("ascii").split("\n") if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def texts(body: bytes) -> list[str]:
    """The steps that a chat client shows."""
    deltas = [document["choices"][0]["delta"] for document in documents(body) if "choices" in document]
    return [delta["reasoning_content"].removesuffix("\n") for delta in deltas if "reasoning_content" in delta]


def submissions(house: House) -> int:
    """How many requests to create a task the upstream has received."""
    return house.upstream.requests["nf/create"]
