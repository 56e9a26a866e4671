"""A client whose machine is gone does not even say goodbye: here it is on a network of its own, which goes quiet."""

import asyncio
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Generator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest
from aiohttp.web import AppRunner, TCPSite

from relay import Relay
from web import create_app
from web.streaming.keys import FAN_OUT, STREAMS

FREED_WITHIN = 30.0

CLIENT = """
import socket, sys
stream = socket.create_connection((sys.argv[1], int(sys.argv[2])))
stream.sendall(b"GET /v1/events HTTP/1.1\\r\\nHost: relay\\r\\nAccept: text/event-stream\\r\\n\\r\\n")
answer = stream.makefile("rb")
for line in answer:
    if line == b":\\n":
        break
print("hears", flush=True)
sys.stdin.read()
"""


class Network(NamedTuple):
    """Another machine's network: *space* is its name, *relay* the address that the relay has there."""

    space: str
    relay: str

    def command(self, *words: str) -> list[str]:
        return ["ip", "netns", "exec", self.space, *words]

    def goes_quiet(self) -> None:
        """Whatever is sent to the relay from there gets lost from now on, also that a packet has come."""
        ip("-n", self.space, "route", "add", "blackhole", f"{self.relay}/32")


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def network() -> Generator[Network]:
    if os.geteuid() or shutil.which("ip") is None:
        pytest.skip("only root can make a second network, with iproute2's `ip`")
    name = f"relay{secrets.token_hex(4)}"
    here, there = f"{name[5:]}a", f"{name[5:]}b"
    part = secrets.randbelow(64)
    # [spec] RFC 2544: 198.18.0.0/15 is for tests of networks, and routed nowhere.
    relay, peer = f"198.18.{part}.1", f"198.18.{part}.2"
    with ExitStack() as stack:
        try:
            ip("netns", "add", name)
            stack.callback(ip, "netns", "delete", name)
            ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", name)
            ip("address", "add", f"{relay}/30", "dev", here)
            ip("link", "set", here, "up")
            ip("-n", name, "address", "add", f"{peer}/30", "dev", there)
            ip("-n", name, "link", "set", there, "up")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"a second network cannot be made here: {error.stderr.decode().strip()}")
        yield Network(name, relay)


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="only Linux finds a dead peer that fast")
@pytest.mark.parametrize("take_over", [True, False])
async def test_a_client_whose_machine_is_gone_is_freed_though_nothing_happens(
    network: Network, take_over: bool
) -> None:
    app = create_app(Relay([]), heartbeat=1.0, take_over=take_over)
    runner = AppRunner(app, access_log=None)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(runner.cleanup)
        await runner.setup()
        await TCPSite(runner, network.relay, 0).start()
        port = str(runner.addresses[0][1])
        pipe = asyncio.subprocess.PIPE
        client = await asyncio.create_subprocess_exec(
            *network.command(sys.executable, "-c", CLIENT, network.relay, port), stdin=pipe, stdout=pipe
        )
        stack.push_async_callback(_end, client)
        assert client.stdout is not None
        assert await client.stdout.readline() == b"hears\n"
        (stream,) = app[STREAMS]

        network.goes_quiet()
        async with asyncio.timeout(FREED_WITHIN):
            await stream.done.wait()

        assert len(app[STREAMS]) == 0
        assert app[FAN_OUT]._groups == {}


async def _end(client: asyncio.subprocess.Process) -> None:
    client.kill()
    await client.wait()
