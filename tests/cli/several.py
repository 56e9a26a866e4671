"""Several `relay serve` that share a journal, the upstream that they poll, and streams of theirs, read as they come."""

import json
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

from tests.cli.asking import post
from tests.cli.running import PATIENCE, Running, relay

__all__ = ["Cluster", "Stream", "address", "kinds", "polled_on", "records", "submitted"]


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

    def serve(self, node: str, *options: str, more: str = "", **environ: str) -> Running:
        """Start a relay with *more* in its configuration, without waiting until it serves."""
        folder = self._folder / node
        folder.mkdir(exist_ok=True)
        (folder / "relay.toml").write_text(f'{self._cluster}node = "{node}"\n{self._upstream}{more}')
        arguments = ("serve", "--port", "0", "--log-format", "json", *options)
        return self._stack.enter_context(relay(*arguments, folder=folder, piped=False, TOKEN=self._token, **environ))


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


def polled_on(stream: Stream, count: int) -> None:
    """Wait until the stream has *count* records more than it has now."""
    wanted = len(records(stream.body)) + count
    stream.wait(lambda body: len(records(body)) >= wanted)
