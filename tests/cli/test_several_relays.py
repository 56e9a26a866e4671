"""Several `relay serve` over one real server of Redis: the same promises as one, whichever of them a client reaches."""

import json
import re
import signal
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.cli.asking import answer, get, post
from tests.cli.running import PATIENCE, Running, relay
from tests.journal.redis.servers import EngineServer, running_engine

pytestmark = [pytest.mark.server, pytest.mark.redis]

PASSWORD = "canary-9f31"


@pytest.fixture(scope="module")
def server() -> Generator[EngineServer]:
    with running_engine("redis") as one:
        yield one


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """The name of the cluster of one test, since all use one server."""
    return re.sub(r"[^a-z]+", "-", request.node.name)[-48:].strip("-")


class Cluster:
    """Relays that share a journal, each in a folder of its own, and the upstream that they poll."""

    def __init__(self, stack: ExitStack, folder: Path, url: str, name: str, lease: str = "30s") -> None:
        self._stack = stack
        self._folder = folder
        self._cluster = f'[journal]\nurl = "{url}"\n[cluster]\nname = "{name}"\nlease = "{lease}"\n'
        fake = stack.enter_context(relay("fake", "--port", "0", "--speed", "50", folder=folder))
        base_url, self._token = fake.says(r"base_url (\S+)")[1], fake.says(r"token (\S+)")[1]
        self._upstream = (
            f'[[upstreams]]\nkind = "sora"\nbase_url = "{base_url}"\ntoken = "env:TOKEN"\ninterval = "100ms"\n'
        )

    def serve(self, node: str, *options: str) -> Running:
        """Start a relay, without waiting until it serves."""
        folder = self._folder / node
        folder.mkdir(exist_ok=True)
        (folder / "relay.toml").write_text(f'{self._cluster}node = "{node}"\n{self._upstream}')
        arguments = ("serve", "--port", "0", "--log-format", "json", *options)
        return self._stack.enter_context(relay(*arguments, folder=folder, TOKEN=self._token))


@pytest.fixture
def cluster(tmp_path: Path, server: EngineServer, name: str) -> Generator[Cluster]:
    with ExitStack() as stack:
        yield Cluster(stack, tmp_path, server.url, name)


def address(serve: Running) -> str:
    return serve.says(r"serving on (\S+)/(?: with \d+ workers)?;")[1]


class Stream:
    """A stream that is read on a thread, every byte of it."""

    def __init__(self, url: str) -> None:
        place = urlsplit(url)
        self._connection = HTTPConnection(place.netloc, timeout=PATIENCE)
        self._connection.request("GET", f"{place.path}?{place.query}")
        self._response: HTTPResponse = self._connection.getresponse()
        assert self._response.status == 200
        self.body = b""
        self._changed = threading.Condition()
        self._over = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with closing(self._connection):
            try:
                while part := self._response.read1(65_536):
                    with self._changed:
                        self.body += part
                        self._changed.notify_all()
            except (OSError, HTTPException):
                pass  # the relay was killed
            finally:
                with self._changed:
                    self._over = True
                    self._changed.notify_all()

    def wait(self, holds: Callable[[bytes], bool]) -> None:
        """Wait until *holds* is true of what it has so far."""
        with self._changed:
            self._changed.wait_for(lambda: self._over or holds(self.body), PATIENCE)
            assert holds(self.body)

    def ends(self) -> bytes:
        """Wait for its end; all of it."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        return self.body


def records(body: bytes) -> list[tuple[str, bytes]]:
    """The id and the bytes of each record of a stream."""
    found: list[tuple[str, bytes]] = []
    for block in body.split(b"\n\n"):
        fields = dict(line.split(b": ", 1) for line in block.split(b"\n") if b": " in line)
        if b"id" in fields and b'"seq"' in fields.get(b"data", b""):
            found.append((fields[b"id"].decode(), fields[b"data"]))
    return found


def kinds(found: Sequence[tuple[str, bytes]]) -> list[str]:
    return [json.loads(data)["type"] for _, data in found]


def submitted(at: str, prompt: str = "[gap] a cat") -> str:
    job: str = post(f"{at}/v1/jobs", {"upstream": "sora", "input": {"prompt": prompt}})["job"]
    return job


def test_a_job_is_the_same_story_on_all_relays_byte_for_byte(cluster: Cluster) -> None:
    serves = [cluster.serve("a"), cluster.serve("b")]
    addresses = [address(serve) for serve in serves]
    jobs = [submitted(at) for at in addresses]
    stories: dict[str, bytes] = {}
    for job in jobs:
        bodies = [stream.ends() for stream in [Stream(f"{at}/v1/jobs/{job}/events") for at in addresses]]
        replayed = get(f"{addresses[0]}/v1/jobs/{job}/events")
        assert records(bodies[0]) == records(bodies[1]) == records(replayed)
        assert kinds(records(replayed))[-1] == "done"
        stories[job] = b"".join(data + b"\n" for _, data in records(replayed))
    for at in addresses:
        assert {job["job"] for job in json.loads(get(f"{at}/v1/jobs"))["jobs"]} == set(jobs)

    for serve in serves:
        serve.interrupt(signal.SIGTERM)
        assert serve.ends() == 0
    # The console of each has the records of the jobs that it polled: together they have each record once.
    console = [line for serve in serves for line in serve.printed]
    for job, story in stories.items():
        assert [line for line in console if json.loads(line)["job"] == job] == story.decode().splitlines()


def polled_on(stream: Stream, count: int) -> None:
    """Wait until the stream has *count* records more than it has now."""
    wanted = len(records(stream.body)) + count
    stream.wait(lambda body: len(records(body)) >= wanted)


class Followed:
    """A job that never ends by itself, on two relays, and a stream of it at each of them."""

    def __init__(self, cluster: Cluster) -> None:
        self.serves = {node: cluster.serve(node) for node in ("a", "b")}
        self.addresses = {node: address(serve) for node, serve in self.serves.items()}
        self.job = submitted(self.addresses["b"], "[never-finishes] a cat")
        self.streams = {
            node: Stream(f"{at}/v1/jobs/{self.job}/events?level=debug") for node, at in self.addresses.items()
        }
        for stream in self.streams.values():
            polled_on(stream, 5)
        # The console of the relay that polls it has it, and no other.
        [self.owner] = [node for node, serve in self.serves.items() if any(self.job in line for line in serve.printed)]
        [self.other] = {"a", "b"} - {self.owner}

    def goes_on(self) -> tuple[list[tuple[str, bytes]], list[tuple[str, bytes]]]:
        """Once its owner has gone: let the other relay poll it for a while, and cancel it. Both streams, whole."""
        polled_on(self.streams[self.other], 5)
        assert post(f"{self.addresses[self.other]}/v1/jobs/{self.job}/cancel", {})["job"] == self.job
        broken, whole = records(self.streams[self.owner].ends()), records(self.streams[self.other].ends())
        assert kinds(whole)[-1] == "cancelled"
        assert [json.loads(data)["seq"] for _, data in whole] == list(range(1, len(whole) + 1))
        assert broken == whole[: len(broken)]
        return broken, whole


def test_a_relay_that_is_killed_is_replaced_and_its_readers_resume_on_the_other(
    tmp_path: Path, server: EngineServer, name: str
) -> None:
    with ExitStack() as stack:
        followed = Followed(Cluster(stack, tmp_path, server.url, name, lease="1s"))
        followed.serves[followed.owner].interrupt(signal.SIGKILL)
        assert followed.serves[followed.owner].ends() == -signal.SIGKILL
        broken, whole = followed.goes_on()
        assert len(broken) < len(whole)
        url = f"{followed.addresses[followed.other]}/v1/jobs/{followed.job}/events?level=debug"
        with answer("GET", url, None, **{"Last-Event-ID": broken[-1][0]}) as resumed:
            assert records(resumed.read()) == whole[len(broken) :]


def test_a_relay_that_ends_in_order_hands_its_jobs_over_at_once(cluster: Cluster) -> None:
    followed = Followed(cluster)
    followed.serves[followed.owner].interrupt(signal.SIGTERM)
    assert followed.serves[followed.owner].ends() == 0
    # Its lease would last for 30 s, in which nobody polls.
    followed.goes_on()
