"""A receiver of webhooks on loopback, and the verifiers that its owner may use, each from other hands."""

import asyncio
import base64
import socket
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from ssl import SSLContext
from typing import Any, Final

import standardwebhooks
import svix.webhooks
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.web import Application, AppRunner, Request, Response, StreamResponse, TCPSite
from msgspec import Struct, field

from relay.events import Event, Position, Record
from relay.secret import Secret
from relay.testing import ManualClock
from relay.wire.record_json import stamp
from sinks.webhook import WebhookSink

__all__ = [
    "KEY",
    "OLD_KEY",
    "Delivery",
    "Names",
    "Receiver",
    "a_key",
    "a_receiver",
    "a_record",
    "a_webhook",
    "ignore",
    "verify",
    "verify_signature",
]


def a_key(seed: int, length: int = 32) -> str:
    """A key with its prefix, as receivers hand it out."""
    return "whsec_" + base64.b64encode(bytes((seed + place) % 256 for place in range(length))).decode()


KEY: Final = a_key(1)
OLD_KEY: Final = a_key(2, 24)


class Delivery(Struct):
    """One request as it arrived."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    raw_headers: list[tuple[str, str]]


Answer = Response | StreamResponse | None
"""The answer; None for an answer that does not come before the receiver ends."""


class Receiver(Struct):
    """What arrived, and what is answered: the first of *answers*, then the next; 204 once there is no other."""

    url: str = ""
    answers: list[Any] = []
    deliveries: list[Delivery] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    ending: asyncio.Event = field(default_factory=asyncio.Event)

    async def until(self, id: str) -> None:
        """Return once a delivery with an id that begins like this has arrived."""
        while not any(delivery.headers["webhook-id"].startswith(id) for delivery in self.deliveries):
            self.arrived.clear()
            await self.arrived.wait()

    async def handle(self, request: Request) -> StreamResponse:
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        raw = [(name.lower().decode(), value.decode()) for name, value in request.raw_headers]
        self.deliveries.append(Delivery(request.method, request.path_qs, headers, body, raw))
        self.arrived.set()
        answer = self.answers.pop(0) if self.answers else Response(status=204)
        if answer is None:
            await self.ending.wait()
            return Response(status=200)
        if isinstance(answer, StreamResponse):
            return answer
        made: StreamResponse = await answer(request)
        return made


@asynccontextmanager
async def a_receiver(*answers: Any, tls: SSLContext | None = None) -> AsyncGenerator[Receiver]:
    """A receiver at work. An answer is a response, a coroutine function of the request, or None."""
    receiver = Receiver(answers=list(answers))
    app = Application()
    app.router.add_route("*", "/{path:.*}", receiver.handle)
    runner = AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.01)
    await runner.setup()
    await TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    receiver.url = f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}/hook"
    try:
        yield receiver
    finally:
        receiver.ending.set()
        await runner.cleanup()


def ignore(_: str) -> None:
    """A notice that the test is not about."""


def a_clock() -> ManualClock:
    """A clock that stands still now: the verifiers compare with the time of day."""
    return ManualClock(start=datetime.now(UTC))


def a_webhook(url: str | Secret, **options: Any) -> WebhookSink:
    """A sink for a receiver on loopback."""
    if options.get("template", "cloudevents") == "cloudevents":
        options.setdefault("secret", KEY)
    sink = WebhookSink(url, allow_private=True, **options)
    sink.bind(a_clock(), ignore, "hook")
    return sink


def a_record(event: Event, *, job: str = "job_1", seq: int = 1) -> Record:
    return stamp(job, seq, datetime(2026, 1, 1, 16, 0, 5, 123456, tzinfo=UTC), event, Position("e", seq))


class Names(AbstractResolver):
    """Leads every name to the first of *answers*, then to the next, and to the last for ever."""

    def __init__(self, *answers: tuple[str, ...]) -> None:
        self._answers = list(answers)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        addresses = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        pass


def verify(delivery: Delivery, *keys: str) -> None:
    """Every verifier accepts *delivery* with each of *keys*. Raises what they raise."""
    for key in keys:
        standardwebhooks.Webhook(key).verify(delivery.body, dict(delivery.headers))
        svix.webhooks.Webhook(key).verify(delivery.body, dict(delivery.headers))


def verify_signature(delivery: Delivery, key: str) -> None:
    """*delivery* has the signature of *key* for the time that it names, however far from now that is."""
    at = datetime.fromtimestamp(int(delivery.headers["webhook-timestamp"]), UTC)
    expected = standardwebhooks.Webhook(key).sign(delivery.headers["webhook-id"], at, delivery.body.decode())
    assert expected in delivery.headers["webhook-signature"].split(" ")
