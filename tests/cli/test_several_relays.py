"""Several `relay serve` over one real server of Redis: the same promises as one, whichever of them a client reaches."""

import json
import re
import signal
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path

import pytest

from relay.cli import main
from tests.cli.asking import answer, get, post
from tests.cli.several import Cluster, Stream, address, kinds, polled_on, records, submitted
from tests.journal.redis.servers import EngineServer, running_engine

pytestmark = [pytest.mark.server, pytest.mark.redis]


@pytest.fixture(scope="module")
def server() -> Generator[EngineServer]:
    with running_engine("redis") as one:
        yield one


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """The name of the cluster of one test, since all use one server."""
    return re.sub(r"[^a-z]+", "-", request.node.name)[-48:].strip("-")


@pytest.fixture
def cluster(tmp_path: Path, server: EngineServer, name: str) -> Generator[Cluster]:
    with ExitStack() as stack:
        yield Cluster(stack, tmp_path, server.url, name)


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


def ready(at: str) -> int:
    with answer("GET", f"{at}/readyz") as response:
        return response.status


def test_a_relay_whose_server_is_killed_is_not_ready_and_goes_on_once_that_is_back(tmp_path: Path) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(running_engine("redis", "--appendonly", "yes", "--appendfsync", "always"))
        serve = Cluster(stack, tmp_path, server.url, "dies", lease="1s").serve("a")
        at = address(serve)
        job = submitted(at, "[never-finishes] a cat")
        stream = Stream(f"{at}/v1/jobs/{job}/events?level=debug")
        polled_on(stream, 3)
        server.kill()
        while ready(at) == 200:
            pass
        server.start()
        while ready(at) == 503:
            pass
        polled_on(stream, 3)
        assert post(f"{at}/v1/jobs/{job}/cancel", {})["job"] == job
        story = records(stream.ends())
        assert [json.loads(data)["seq"] for _, data in story] == list(range(1, len(story) + 1))
        assert kinds(story)[-1] == "cancelled"


ACCESS = """
[access]
signing_key = "env:SIGNS"
[[access.keys]]
name = "ann"
key = "env:ANN"
scopes = "jobs:read jobs:submit"
jobs = "own"
[[access.keys]]
name = "bob"
key = "env:BOB"
scopes = "jobs:read"
jobs = "own"
"""
KEYS = {name: f"rlk_key-of-{name.lower()}-0123456789-0123456789" for name in ("ANN", "BOB", "SIGNS")}


def test_relay_access_check_reads_the_owner_of_a_job_from_the_server(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    serve = cluster.serve("a", more=ACCESS, **KEYS)
    body = json.dumps({"upstream": "sora", "input": {"prompt": "[happy] a cat"}}).encode()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEYS['ANN']}"}
    with answer("POST", f"{address(serve)}/v1/jobs", body, **headers) as response:
        job = json.load(response)["job"]

    monkeypatch.chdir(tmp_path / "a")
    for name, value in {**KEYS, "TOKEN": "any"}.items():
        monkeypatch.setenv(name, value)
    checks = [("ann", job), ("bob", job), ("ann", "job_none")]
    assert [main(["access", "check", "--as", name, "GET", f"/v1/jobs/{one}"]) for name, one in checks] == [0, 1, 1]
    assert capsys.readouterr().out.splitlines() == [
        f"200: key:ann has jobs:read, and owns {job}",
        f"404: {job} belongs to key:ann, and is answered to key:bob as an unknown job is",
        "404: job_none is not in the journal of the cluster",
    ]
