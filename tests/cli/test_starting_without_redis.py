"""`relay serve` whose journal is on a server: it waits for one that is not there, and refuses what no waiting mends."""

import signal
import socket
from collections.abc import Generator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.cli.running import PATIENCE, relay
from tests.journal.redis.servers import EngineServer, running_engine
from tests.journal.redis.test_client import encrypted

pytestmark = [pytest.mark.server, pytest.mark.redis]

PASSWORD = "canary-9f31"


class LocalConnection(HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(str(self._path))


@pytest.fixture
def folder() -> Generator[Path]:
    """A folder with a short name, as the path of a socket has at most 107 bytes."""
    with TemporaryDirectory(prefix="relay-") as name:
        (Path(name) / "relay.toml").write_text(
            f'[server]\nhost = "unix:{name}/relay"\n[journal]\nurl = "env:REDIS_URL"\n[cluster]\nlease = "1s"\n'
        )
        yield Path(name)


@pytest.fixture
def away() -> Generator[EngineServer]:
    """A server that has not been started."""
    server = EngineServer("redis")
    with closing(server):
        yield server


def status(folder: Path, path: str) -> int:
    with closing(LocalConnection(folder / "relay")) as connection:
        connection.request("GET", path)
        return connection.getresponse().status


def test_a_relay_waits_for_a_server_that_is_not_there_and_is_healthy_and_not_ready(
    folder: Path, away: EngineServer
) -> None:
    with relay("serve", folder=folder, REDIS_URL=away.url) as serve:
        serve.says(f"the relay waits to start: {away.socket} cannot be reached: ")
        assert [status(folder, path) for path in ("/healthz", "/readyz", "/v1/jobs")] == [200, 503, 503]
        away.start()
        serve.says("serving on unix:")
        assert [status(folder, path) for path in ("/healthz", "/v1/jobs")] == [200, 200]
        serve.interrupt(signal.SIGTERM)
        assert serve.ends() == 0


def test_a_relay_that_waits_ends_with_the_first_signal(folder: Path, away: EngineServer) -> None:
    with relay("serve", folder=folder, REDIS_URL=away.url) as serve:
        serve.says("the relay waits to start: ")
        serve.interrupt(signal.SIGTERM)
        assert serve.ends() == 0
    assert len(serve.said) == 1


def test_workers_wait_together_and_say_so_once(folder: Path, away: EngineServer) -> None:
    with relay("serve", "--workers", "2", folder=folder, REDIS_URL=away.url) as serve:
        serve.says("the relay waits to start: ")
        assert [status(folder, path) for path in ("/healthz", "/readyz")] == [200, 503]
        serve.interrupt(signal.SIGTERM)
        assert serve.ends() == 0
    assert len(serve.said) == 1


@pytest.mark.parametrize("options", [[], ["--workers", "2"]], ids=["one", "workers"])
def test_a_wrong_password_is_one_line_and_status_2(folder: Path, options: list[str]) -> None:
    with running_engine("redis", "--requirepass", "another") as server:
        url = f"unix://:{PASSWORD}@{server.socket}"
        with relay("serve", *options, folder=folder, REDIS_URL=url) as serve:
            assert serve.ends() == 2
    assert serve.said == [f"relay: {server.socket} does not accept the user or the password of the URL; correct them"]


def test_a_relay_reaches_its_server_over_tls_and_believes_no_other(folder: Path) -> None:
    with encrypted(folder, "127.0.0.1") as port:
        url = f"rediss://127.0.0.1:{port}"
        with relay("serve", folder=folder, REDIS_URL=f"{url}?ssl_ca_certs={folder / 'ca.pem'}") as serve:
            serve.says("serving on unix:")
            serve.interrupt(signal.SIGTERM)
            assert serve.ends() == 0
        with relay("serve", folder=folder, REDIS_URL=url) as serve:
            assert serve.ends() == 2
    [line] = serve.said
    assert line.startswith(f"relay: the certificate of 127.0.0.1:{port} is not accepted: ")
