"""A real proxy in front of the relay's unix socket, configured as the documentation says."""

import re
import shutil
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from aiohttp import ClientSession
from msgspec import Struct

from relay import Relay
from relay.cli.listening import listening
from relay.cli.names import own_names, own_origins
from relay.cli.serving import serving_on
from relay.events import Done, Log
from relay.testing import ManualClock
from tests.cli.running import PATIENCE
from tests.faults.disk import may_mount
from tests.proxies.proxies import NAME, PROXIES, free_port, open_to_operators
from tests.proxies.site import LOGIN, client_of, job_of
from tests.relay.scripted import RUNNING, OneStep, story
from tests.web.streaming.client import read_blocks
from web import create_app

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "serve-others.md"


@pytest.fixture
def socket_path() -> Generator[Path]:
    """A path that is short enough for a socket, in a folder that everybody may enter."""
    with TemporaryDirectory(prefix="relay-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder) / "relay.sock"


def over(path: Path, block: str) -> str:
    """*block* of nginx with the line of the documentation in the place of the port."""
    found = re.search(r"^proxy_pass (http://unix:/run/relay/relay\.sock:);$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert found is not None
    changed = block.replace("http://127.0.0.1:8080", found[1].replace("/run/relay/relay.sock", str(path)))
    assert changed != block
    return changed


class Behind(Struct):
    """A relay behind nginx, without a port, and a client that knows nginx alone."""

    relay: Relay
    client: ClientSession
    url: str


@asynccontextmanager
async def behind_nginx(path: Path, folder: Path) -> AsyncGenerator[Behind]:
    port = free_port()
    url = f"https://{NAME}:{port}"
    async with Relay([OneStep(story({"t": RUNNING}))], clock=ManualClock()) as relay:
        host = f"unix:{path}"
        app = create_app(relay, heartbeat=3_600, hosts=own_names(host, url), origins=own_origins(url))
        with listening(host, 0) as listeners:
            async with (
                serving_on(app, listeners),
                PROXIES["nginx"].running(folder, port, 0, lambda block: over(path, open_to_operators(block))) as tls,
                client_of(url, tls, LOGIN) as client,
            ):
                yield Behind(relay, client, url)


@pytest.mark.nginx
async def test_records_arrive_one_by_one_over_a_unix_socket(socket_path: Path, tmp_path: Path) -> None:
    async with behind_nginx(socket_path, tmp_path) as house:
        job = job_of(house.relay)
        seen = list[dict[str, str]]()
        async with house.client.get(f"/v1/jobs/{job.id}/events") as response:
            async for block in read_blocks(response):
                seen.append(block)
                if len(seen) < 5:
                    house.relay.bus.publish(job, Log(line=f"line {len(seen) + 1}"))
                elif len(seen) == 5:
                    house.relay.bus.publish(job, Done(urls=("https://a/b",)))
        assert [block["data"].encode() for block in seen] == [record.json for record in house.relay.journal.read(0)]


@pytest.mark.nginx
async def test_names_and_origins_are_judged_as_on_a_port(socket_path: Path, tmp_path: Path) -> None:
    async with behind_nginx(socket_path, tmp_path) as house:
        found = dict[str, int]()
        for origin in (house.url, "https://evil.example", house.url.replace("https", "http")):
            path, body = "/v1/jobs", {"upstream": "scripted", "task": "t"}
            async with house.client.post(path, json=body, headers={"Origin": origin}) as response:
                found[origin] = response.status
        assert list(found.values()) == [201, 403, 403]
        async with house.client.get("/v1/jobs", headers={"Host": "evil.example"}) as response:
            assert response.status == 421


CONNECT = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"


@pytest.mark.skipif(not may_mount(), reason="only root may become another user")
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is not installed")
def test_the_group_of_a_unix_socket_may_connect_and_others_may_not(socket_path: Path) -> None:
    python = shutil.which("python3", path="/usr/bin") or sys.executable

    def connects(*identity: str) -> bool:
        command = ["setpriv", "--reuid=65534", "--regid=65534", *identity, python, "-c", CONNECT, str(socket_path)]
        done = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False)
        assert done.returncode == 0 or b"PermissionError" in done.stderr, done.stderr
        return done.returncode == 0

    with listening(f"unix:{socket_path}", 0):
        group = socket_path.stat().st_gid
        assert (connects(f"--groups={group}"), connects("--clear-groups")) == (True, False)
