"""`relay serve --workers`: real processes at one address, over a real server of Redis."""

import json
import os
import shutil
import signal
from collections.abc import Generator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.cli.asking import answer, get, post
from tests.cli.running import Running, relay
from tests.cli.several import Cluster, Stream, address, kinds, polled_on, records, submitted
from tests.cli.test_starting_without_redis import LocalConnection, folder, status
from tests.journal.redis.servers import EngineServer, running_engine

__all__ = ["folder"]

pytestmark = [pytest.mark.server, pytest.mark.redis]

STREAMS = 8
"""So many that each of two processes has some of them, but once in a hundred runs; the tests hold then as well."""


@pytest.fixture(scope="module")
def server() -> Generator[EngineServer]:
    with running_engine("redis") as one:
        yield one


def processes(serve: Running) -> list[int]:
    """The workers of *serve*."""
    return [int(pid) for pid in Path(f"/proc/{serve.pid}/task/{serve.pid}/children").read_text().split()]


def test_workers_serve_one_address_and_one_that_is_killed_costs_no_record(tmp_path: Path, server: EngineServer) -> None:
    with ExitStack() as stack:
        cluster = Cluster(stack, tmp_path, server.url, "workers", lease="1s")
        serve = cluster.serve("relay", "--workers", "2")
        at = address(serve)
        job = submitted(at, "[never-finishes] a cat")
        streams = [Stream(f"{at}/v1/jobs/{job}/events?level=debug") for _ in range(STREAMS)]
        for stream in streams:
            polled_on(stream, 3)

        killed, other = processes(serve)
        os.kill(killed, signal.SIGKILL)
        serve.says(rf"worker \d \(process {killed}\) was ended by SIGKILL; another one starts in 0\.2 s$")
        serve.says(r"worker \d \(process \d+\) serves in its place$")
        assert len(processes(serve)) == 2
        assert other in processes(serve)
        polled_on(Stream(f"{at}/v1/jobs/{job}/events?level=debug"), 20)
        assert post(f"{at}/v1/jobs/{job}/cancel", {})["job"] == job
        story = records(get(f"{at}/v1/jobs/{job}/events?level=debug"))
        assert kinds(story)[-1] == "cancelled"
        for stream in streams:
            seen = records(stream.ends())
            assert seen == story[: len(seen)]

        serve.interrupt(signal.SIGTERM)
        assert serve.ends() == 0
        # Each record is one whole line, once, but for those that the killed one had not printed yet.
        printed = [json.loads(line) for line in serve.printed]
        numbers = [record["seq"] for record in printed if record["job"] == job]
        assert len(set(numbers)) == len(numbers)
        assert len(story) in numbers


def test_workers_share_a_unix_socket_which_goes_with_the_last_of_them(folder: Path, server: EngineServer) -> None:
    with relay("serve", "--workers", "2", folder=folder, REDIS_URL=server.url) as serve:
        serve.says(rf"serving on unix:{folder}/relay with 2 workers; Ctrl-C ends this")
        os.kill(processes(serve)[0], signal.SIGTERM)
        serve.says(r"worker \d \(process \d+\) has ended with status 0; another one starts in 0\.2 s$")
        assert status(folder, "/healthz") == 200
        serve.says("serves in its place")
        assert (folder / "relay").is_socket()
        serve.interrupt()
        assert serve.ends() == 0
    assert not (folder / "relay").exists()


ACCESS = """
[access]
signing_key = "env:SIGNS"
[[access.keys]]
name = "ann"
key = "env:ANN"
scopes = "jobs:read"
jobs = "own"
"""
KEYS = {"ANN": "rlk_key-of-ann-0123456789-0123456789", "SIGNS": "a-key-that-signs-0123456789-0123456789"}


def test_a_key_that_is_revoked_stays_revoked_when_a_worker_is_replaced(tmp_path: Path, server: EngineServer) -> None:
    config = f'[server]\nport = 0\n[journal]\nurl = "{server.url}"\n[cluster]\nname = "keys"\nlease = "1s"\n{ACCESS}'
    (tmp_path / "relay.toml").write_text(config)
    with relay("serve", "--workers", "2", folder=tmp_path, piped=False, **KEYS) as serve:
        at = address(serve)
        serve.says("key:ann has jobs:read for its own jobs")

        def answered() -> int:
            with answer("GET", f"{at}/v1/jobs", None, Authorization=f"Bearer {KEYS['ANN']}") as response:
                return response.status

        assert answered() == 200
        (tmp_path / "relay.toml").write_text(config.replace("env:ANN", "env:SIGNS"))
        for pid in processes(serve):
            os.kill(pid, signal.SIGKILL)
        for _ in range(2):
            serve.says("serves in its place")
        assert [answered() for _ in range(STREAMS)] == STREAMS * [401]
        serve.interrupt()
        assert serve.ends() == 0


def test_workers_share_the_sockets_of_systemd_which_stay_when_one_of_them_ends(
    folder: Path, server: EngineServer
) -> None:
    """The system keeps such a socket over a restart of the service, and so over that of a worker."""
    if shutil.which("systemd-socket-activate") is None:
        pytest.skip("no systemd-socket-activate is installed; on Debian: apt-get install systemd")
    under = ["systemd-socket-activate", f"--listen={folder}/relay", f"--setenv=REDIS_URL={server.url}"]
    arguments = ("serve", "--workers", "2", "--host", "systemd")
    with relay(*arguments, folder=folder, under=under) as serve:
        serve.says("Listening on")
        with closing(LocalConnection(folder / "relay")) as first:  # systemd starts the service for it
            first.request("GET", "/healthz")
            serve.says(rf"serving on unix:{folder}/relay with 2 workers; Ctrl-C ends this")
            assert first.getresponse().status == 200
        os.kill(processes(serve)[0], signal.SIGKILL)
        serve.says("serves in its place")
        assert status(folder, "/healthz") == 200
        serve.interrupt(signal.SIGTERM)
        assert serve.ends() == 0
