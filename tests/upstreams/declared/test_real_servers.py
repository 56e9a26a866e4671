"""Declarations are proved on servers that nobody here wrote: aria2 and rclone, where they are installed."""

import asyncio
import base64
import re
import shutil
import socket
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from relay import Record, Relay
from relay.cli.build import build_upstream
from relay.clock import SystemClock
from relay.config import load
from relay.events import Done, Failed
from tests.upstreams.stub import Stub, reply

SERVERS = Path(__file__).parents[2] / "cases/servers"
BASIC = base64.b64encode(b"user:pass").decode()


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"needs {program}")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@asynccontextmanager
async def running(port: int, *command: str) -> AsyncGenerator[None]:
    """A server of its own, once it takes connections at *port*; ended by its own process and no other."""
    process = await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL)
    try:
        async with asyncio.timeout(60):
            while process.returncode is None:
                with suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                await asyncio.sleep(0.05)
        yield
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def told(case: str, port: int, input: dict[str, str], folder: Path, result: str | None = None) -> list[Record]:
    """The records of a job that is submitted to what the declaration *case* declares, up to its end.

    The path that stands there for a file, which such a server has not, is left out, and *result* put in its place.
    """
    text = (SERVERS / case).read_text()
    text = re.sub(r"(?m)^content = .*$", "" if result is None else f'result = "{result}"', text)
    text = re.sub(r'base_url = ".*"', f'base_url = "http://127.0.0.1:{port}"', text).replace(
        "interval = 1", "interval = 0.1"
    )
    path = folder / "relay.toml"
    path.write_text(text)
    (settings,) = load(path, {"RCLONE_BASIC": BASIC}).upstreams
    upstream = build_upstream(settings, SystemClock())
    records: list[Record] = []
    ended = asyncio.Event()

    def note(record: Record) -> None:
        records.append(record)
        if record.terminal:
            ended.set()

    async with asyncio.timeout(120), Relay([upstream], sinks=[note]) as relay:
        relay.submit(upstream.name, input)
        await ended.wait()
    return records


@needs("aria2c")
async def test_a_download_of_aria2_is_done_with_its_path_and_a_missing_file_has_failed(tmp_path: Path) -> None:
    port = free_port()
    aria2 = running(
        *(port, "aria2c", "--no-conf", "--enable-rpc", f"--rpc-listen-port={port}", "--rpc-secret=s3cretToken"),
        *(f"--dir={tmp_path}", "--max-tries=1"),
    )
    async with aria2, Stub(reply(b"x" * 100_000)) as files, Stub(reply("", "404 Not Found")) as missing:
        done = await told("aria2/working.toml", port, {"uri": f"{files.url}/a.bin"}, tmp_path, "result.files[0].path")
        failed = await told("aria2/working.toml", port, {"uri": f"{missing.url}/b.bin"}, tmp_path)
    assert done[-1].event == Done(result=f"{tmp_path}/a.bin")
    assert done[-1].event.text == f"done: {tmp_path}/a.bin"
    assert (tmp_path / "a.bin").read_bytes() == b"x" * 100_000
    assert isinstance(failed[-1].event, Failed)
    assert (failed[-1].event.kind, "not found" in failed[-1].event.message.lower()) == ("not-found", True)


@needs("rclone")
async def test_a_copy_of_rclone_is_done_without_a_file_and_one_of_nothing_has_failed(tmp_path: Path) -> None:
    port = free_port()
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    (source / "a.bin").write_bytes(b"x" * 100_000)
    rclone = running(
        *(port, "rclone", "rcd", f"--rc-addr=127.0.0.1:{port}", "--rc-user=user", "--rc-pass=pass"),
        *(f"--config={tmp_path}/none.conf", f"--cache-dir={tmp_path}/cache"),
    )
    async with rclone:
        done = await told("rclone/working.toml", port, {"src": str(source), "dst": str(target)}, tmp_path)
        failed = await told("rclone/working.toml", port, {"src": f"{tmp_path}/no", "dst": str(target)}, tmp_path)
    assert (done[-1].event, done[-1].event.text) == (Done(), "done")
    assert (target / "a.bin").read_bytes() == b"x" * 100_000
    assert isinstance(failed[-1].event, Failed)
    assert "directory not found" in failed[-1].event.message
