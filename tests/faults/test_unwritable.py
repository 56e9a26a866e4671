"""A journal that cannot be written, under a real relay: nothing is paid for twice, and what goes on goes on."""

import os
import resource
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, ClientTimeout

from relay.journal.sqlite import stored_records
from tests.faults.killing import Upstream
from tests.faults.process import KilledRelay

CONFIG = """
[[upstreams]]
name = "sora"
kind = "sora"
base_url = "{url}"
token = "env:TOKEN"
interval = 0.2
"""

PATIENCE = ClientTimeout(total=60)
"""A safety net: nothing here waits for time to pass."""


class Place:
    """The folder of a relay, and its process once it runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.relay: KilledRelay | None = None

    @property
    def journal(self) -> Path:
        return self.folder / "relay.db"

    @property
    def pid(self) -> int:
        assert self.relay is not None
        assert self.relay._process is not None
        return self.relay._process.pid


@contextmanager
def locked(place: Place) -> Generator[None]:
    with closing(sqlite3.connect(place.journal, isolation_level=None, timeout=30)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield


@contextmanager
def limited(place: Place) -> Generator[None]:
    """No file of the relay may grow."""
    if not hasattr(resource, "prlimit"):
        pytest.skip("only Linux lets a test limit another process")
    before = resource.prlimit(place.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(place.pid, resource.RLIMIT_FSIZE, (1, before[1]))
    yield
    if place.relay is not None and place.relay._process is not None:
        resource.prlimit(place.pid, resource.RLIMIT_FSIZE, before)


@contextmanager
def full(place: Place) -> Generator[None]:
    """No room is left on the journal's file system. SQLite writes over what is in its log: that is moved away first."""
    filler = place.folder / "filler"
    with closing(sqlite3.connect(place.journal, isolation_level=None, timeout=30)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    try:
        with filler.open("wb", buffering=0) as file:
            while file.write(bytes(4_096)):
                pass
    except OSError:
        pass
    yield
    filler.unlink()


@pytest.fixture
def small_disk(tmp_path: Path) -> Generator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("a small file system takes root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    if request.node.callspec.params["spoil"] is full:
        small: Path = request.getfixturevalue("small_disk")
        return small
    return tmp_path


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream(scenario="gap") as upstream:
        yield upstream


@pytest.fixture
async def client() -> AsyncIterator[ClientSession]:
    async with ClientSession(timeout=PATIENCE) as client:
        yield client


async def submit(client: ClientSession, relay: KilledRelay, key: str) -> tuple[int, str | None, str]:
    body = {"upstream": "sora", "input": {"prompt": "a cat"}}
    async with client.post(f"{relay.address}/v1/jobs", json=body, headers={"Idempotency-Key": key}) as response:
        answer: dict[str, Any] = await response.json()
        return response.status, response.headers.get("Retry-After"), answer.get("job", "")


async def ready(client: ClientSession, relay: KilledRelay) -> tuple[int, str]:
    async with client.get(f"{relay.address}/readyz") as response:
        return response.status, await response.text()


async def polled(client: ClientSession, relay: KilledRelay, upstream: Upstream) -> None:
    """Return when the upstream has been asked twice more; meanwhile, the relay answers."""
    before = upstream.requests["nf/pending/v2"]
    while upstream.requests["nf/pending/v2"] < before + 2:
        async with client.get(f"{relay.address}/healthz") as response:
            assert response.status == 200


@pytest.mark.parametrize("spoil", [locked, limited, full], ids=["locked", "limited", "full"])
async def test_while_the_journal_cannot_be_written_nothing_is_submitted_and_after_a_kill_nothing_twice(
    folder: Path,
    upstream: Upstream,
    client: ClientSession,
    spoil: Callable[[Place], AbstractContextManager[None]],
) -> None:
    (folder / "relay.toml").write_text(CONFIG.format(url=upstream.url))
    place = Place(folder)
    place.relay = relay = KilledRelay(folder, {"TOKEN": upstream.token})
    try:
        await relay.start()
        assert (await submit(client, relay, "first"))[0] == 201
        await polled(client, relay, upstream)
        with spoil(place):
            refused = [await submit(client, relay, "second") for _ in range(3)]
            assert refused == [(503, "5", "")] * 3
            async with client.post(f"{relay.address}/v1/jobs", json={"upstream": "sora", "task": "t"}) as response:
                assert (response.status, response.headers["Retry-After"]) == (503, "5")
            status, detail = await ready(client, relay)
            assert (status, "the journal relay.db" in detail) == (503, True)
            assert (await submit(client, relay, "first"))[:2] == (200, None)
            await polled(client, relay, upstream)
            assert upstream.requests["nf/create"] == 1
            await relay.kill()
        await relay.start()
        answers = [await submit(client, relay, key) for key in ("second", "second", "first")]
        assert [status for status, *_ in answers] == [201, 200, 200]
        assert answers[0][2] == answers[1][2] != answers[2][2]
        await polled(client, relay, upstream)
        assert upstream.requests["nf/create"] == 2
        assert await relay.stop() == 0
    finally:
        await relay.close()

    seqs: dict[str, list[int]] = {}
    for record in stored_records(place.journal):
        seqs.setdefault(record.job, []).append(record.seq)
    assert {job: list(range(1, len(told) + 1)) for job, told in seqs.items()} == seqs
    assert len(seqs) == 2


@pytest.mark.parametrize("spoil", [locked, limited, full], ids=["locked", "limited", "full"])
async def test_once_the_journal_can_be_written_again_the_story_is_whole_and_work_is_taken(
    folder: Path,
    upstream: Upstream,
    client: ClientSession,
    spoil: Callable[[Place], AbstractContextManager[None]],
) -> None:
    (folder / "relay.toml").write_text(CONFIG.format(url=upstream.url))
    place = Place(folder)
    place.relay = relay = KilledRelay(folder, {"TOKEN": upstream.token})
    try:
        await relay.start()
        job = (await submit(client, relay, "first"))[2]
        await polled(client, relay, upstream)
        with spoil(place):
            while (await ready(client, relay))[0] == 200:
                pass
            await polled(client, relay, upstream)
        while (await ready(client, relay))[0] == 503:
            pass
        assert (await submit(client, relay, "second"))[0] == 201
        assert await relay.stop() == 0
    finally:
        await relay.close()

    assert [line for line in relay.said if "Traceback" in line] == []
    told = [record.seq for record in stored_records(place.journal, [job])]
    assert told == list(range(1, len(told) + 1))


@pytest.mark.parametrize("spoil", [locked, full], ids=["locked", "full"])
async def test_a_relay_without_any_job_says_by_itself_that_its_journal_cannot_be_written(
    folder: Path, client: ClientSession, spoil: Callable[[Place], AbstractContextManager[None]]
) -> None:
    place = Place(folder)
    place.relay = relay = KilledRelay(folder, {})
    try:
        await relay.start()
        with spoil(place):
            while (await ready(client, relay))[0] == 200:
                pass
        while (await ready(client, relay))[0] == 503:
            pass
        assert await relay.stop() == 0
    finally:
        await relay.close()
