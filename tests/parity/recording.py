"""Every byte that a relay sends for one scripted story: streams, states, notices and errors, with their headers.

`python -m tests.parity.recording > tests/parity/recording.sse` records it anew, which is right only where the wire is
meant to change.
"""

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from aiohttp import ClientResponse, ClientSession

from relay import Relay
from relay.journal import MemoryJournal, Retention
from relay.testing import ManualClock, ScriptedUpstream
from relay.upstreams import Sora
from tests.web.serving import serve

__all__ = ["record"]

STORIES = ("happy", "rate-limited", "violation")
EPOCH = "00c0ffee"
ACCEPTS = ("text/event-stream", "application/x-ndjson")

_VARYING = re.compile(rb"^(Date|Server): [^\r]*\r\n", re.MULTILINE)
_RANDOM = re.compile(rb"(?<=127\.0\.0\.1:)\d+|(?<=task_)\w{26}|(?<=gen_)\w{26}|(?<=sig=)[\w-]+")
_WAIT = re.compile(rb"^retry: \d+\n(?=event: (busy|bye)\n)", re.MULTILINE)


async def record() -> bytes:
    """The recording: one part for each request, without what differs from run to run (ids of jobs, ports, dates)."""
    parts = [part async for part in _live()]
    async for part in _forgotten():
        parts.append(part)
    return b"\n\n".join(parts) + b"\n"


async def _live() -> AsyncIterator[bytes]:
    """Three jobs, read while they run, and afterwards in every way that a stream can be asked for."""
    async with _running(Retention()) as (relay, client, ids):
        paths = [f"/v1/events?{_named(ids)}", *(f"/v1/jobs/{id}/events" for id in ids)]
        streams = [client.get(path, headers={"Accept": accept}) for path in paths for accept in ACCEPTS]
        bodies = await asyncio.gather(*map(_body, streams))
        for number, body in enumerate(bodies):
            yield _clean(b"LIVE %d\n" % number + body, ids)
        middle, end = f"{EPOCH}-9", f"{EPOCH}-{relay.journal.head}"
        of_job, of_all = paths[1], "/v1/events?follow=false"
        for accept in ACCEPTS:
            wants = f"Accept: {accept}"
            for version in ("1.1", "1.0"):
                yield await _ask(client, f"GET {of_job} HTTP/{version}", wants, ids=ids)
            for seen in (middle, end, "other-7", "nonsense", f"{EPOCH}-99999"):
                yield await _ask(client, f"GET {of_job} HTTP/1.1", wants, f"Last-Event-ID: {seen}", ids=ids)
                yield await _ask(client, f"GET {of_all} HTTP/1.1", wants, f"Last-Event-ID: {seen}", ids=ids)
            yield await _ask(client, f"GET {of_job}?level=warning HTTP/1.1", wants, ids=ids)
            yield await _ask(client, f"GET {of_all}&level=info HTTP/1.1", wants, ids=ids)
        for path in ("/v1/jobs", f"/v1/jobs/{ids[0]}", "/healthz", "/readyz", of_job):
            yield await _ask(client, f"GET {path} HTTP/1.1", "Accept: application/json", ids=ids)
        for seen in ("", "gone-0"):
            named = f"Last-Event-ID: {seen}"
            yield await _ask(client, "GET /v1/jobs/none/events HTTP/1.1", f"Accept: {ACCEPTS[0]}", named, ids=ids)
        yield await _ask(client, f"HEAD {of_job} HTTP/1.1", ids=ids)
        yield await _ask(client, f"POST /v1/jobs/{ids[0]}/cancel HTTP/1.1", "Content-Length: 0", ids=ids)


async def _forgotten() -> AsyncIterator[bytes]:
    """The same jobs with a journal that has forgotten most of them, and a relay that has no stream to give."""
    async with _running(Retention(records=10)) as (_, client, ids):
        await _body(client.get(f"/v1/events?{_named(ids)}"))
        for accept in ACCEPTS:
            wants = f"Accept: {accept}"
            for seen in ("", f"{EPOCH}-3"):
                for path in (f"/v1/jobs/{ids[0]}/events", f"/v1/events?{_named(ids)}", "/v1/events?follow=false"):
                    yield await _ask(client, f"GET {path} HTTP/1.1", wants, f"Last-Event-ID: {seen}", ids=ids)
    async with _running(Retention(), max_streams=0) as (_, client, ids):
        for accept in ACCEPTS:
            yield await _ask(client, "GET /v1/events HTTP/1.1", f"Accept: {accept}", ids=ids)


@asynccontextmanager
async def _running(keep: Retention, **options: int) -> AsyncIterator[tuple[Relay, ClientSession, list[str]]]:
    clock = ManualClock(auto=True)
    async with ScriptedUpstream(clock=clock) as upstream:
        sora = Sora(upstream.url, upstream.token, interval=12.0, clock=clock)
        relay = Relay([sora], journal=MemoryJournal(keep, epoch=EPOCH), clock=clock)
        async with relay, serve(relay, **options) as client:
            tasks = [upstream.add_task(scenario=story) for story in STORIES]
            yield relay, client, [relay.follow("sora", task).id for task in tasks]


def _named(ids: Iterable[str]) -> str:
    return "&".join(f"job={id}" for id in ids)


async def _body(request: AbstractAsyncContextManager[ClientResponse]) -> bytes:
    async with request as response:
        return await response.read()


async def _ask(client: ClientSession, line: str, *fields: str, ids: list[str]) -> bytes:
    """The whole response to a request, byte by byte."""
    base = client._base_url
    assert base is not None
    reader, writer = await asyncio.open_connection(base.host, base.port)
    head = "\r\n".join([line, "Host: localhost", "Connection: close", *fields])
    writer.write(head.encode() + b"\r\n\r\n")
    try:
        async with asyncio.timeout(30):
            answer = await reader.read(-1)
    finally:
        writer.close()
    return _clean(f"{line} {' '.join(fields)}\n".encode() + answer, ids)


def _clean(part: bytes, ids: list[str]) -> bytes:
    for number, id in enumerate(ids, 1):
        part = part.replace(id.encode(), b"job_%016d" % number)
    return _WAIT.sub(b"retry: varies\n", _RANDOM.sub(b"x", _VARYING.sub(b"", part)))


if __name__ == "__main__":
    sys.stdout.buffer.write(asyncio.run(record()))
