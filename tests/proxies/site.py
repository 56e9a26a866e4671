"""The relay behind a proxy: its server can go and come back on the same port, as in a deploy."""

from base64 import b64encode
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from socket import AF_INET, AddressFamily
from ssl import SSLContext
from typing import Any

from aiohttp import ClientSession, ClientTimeout, TCPConnector
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.web import AppRunner, TCPSite, UnixSite
from msgspec import Struct

from relay import Relay
from relay.cli.names import own_names, own_origins
from relay.events import Log
from relay.jobs import Job
from relay.testing import ManualClock
from tests.proxies.proxies import NAME, PASSWORD, USER, Change, Proxy, free_port
from tests.relay.scripted import RUNNING, OneStep, story
from web import create_app

__all__ = ["LOGIN", "Behind", "Site", "behind", "client_of", "job_of"]


class Site:
    """The relay's application on a port of loopback, as `relay serve` runs it for *public_url*."""

    def __init__(self, relay: Relay, public_url: str, **options: Any) -> None:
        self.relay = relay
        self.url = public_url
        self._options = options
        self.port = 0
        self._runner: AppRunner | None = None

    async def start(self) -> None:
        app = create_app(
            self.relay,
            # What goes through the proxy in a test is what the test makes happen, pushed on by nothing.
            heartbeat=3_600,
            hosts=own_names("127.0.0.1", self.url),
            origins=own_origins(self.url),
            public_url=self.url,
            **self._options,
        )
        self._runner = AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
        await self._runner.setup()
        await TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()
        self.port = self._runner.addresses[0][1]

    async def listen_at(self, path: Path) -> None:
        """Listen on a unix socket as well."""
        assert self._runner is not None
        await UnixSite(self._runner, path).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None


class Loopback(AbstractResolver):
    """Any name is here: not every machine knows by itself that names below `localhost` are."""

    async def resolve(self, host: str, port: int = 0, family: AddressFamily = AF_INET) -> list[ResolveResult]:
        return [ResolveResult(hostname=host, host="127.0.0.1", port=port, family=AF_INET, proto=0, flags=0)]

    async def close(self) -> None:
        pass


class Behind(Struct):
    """A relay behind a proxy, and two clients that know only the proxy: one that logs in, and one that does not.

    *tls* trusts the proxy's certificate.
    """

    site: Site
    tls: SSLContext
    client: ClientSession
    stranger: ClientSession

    @property
    def relay(self) -> Relay:
        return self.site.relay


@asynccontextmanager
async def behind(
    proxy: Proxy, folder: Path, change: Change = lambda block: block, **options: Any
) -> AsyncGenerator[Behind]:
    """A relay in which nothing happens but what a test makes happen, behind *proxy* with *change* made to its block.

    *options* are those of `create_app`.
    """
    port = free_port()
    async with Relay([OneStep(story({"t": RUNNING, "u": RUNNING}))], clock=ManualClock()) as relay:
        site = Site(relay, f"https://{NAME}:{port}", **options)
        await site.start()
        try:
            async with (
                proxy.running(folder, port, site.port, change) as tls,
                client_of(site.url, tls, LOGIN) as client,
                client_of(site.url, tls) as stranger,
            ):
                yield Behind(site, tls, client, stranger)
        finally:
            await site.stop()


LOGIN = {"Authorization": f"Basic {b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}"}


def client_of(url: str, tls: SSLContext, headers: Mapping[str, str] | None = None) -> ClientSession:
    """A client of a proxy at *url*, whatever its name resolves to here."""
    connector = TCPConnector(resolver=Loopback(), ssl=tls)
    return ClientSession(url, connector=connector, timeout=ClientTimeout(total=60), headers=headers)


def job_of(relay: Relay, records: int = 1) -> Job:
    """A job with that many records, and no poller at work on it."""
    job = relay.registry.admit()
    for number in range(records):
        relay.bus.publish(job, Log(line=f"line {number + 1}"))
    return job
