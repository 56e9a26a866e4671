"""The sockets that the relay listens on: addresses, a unix socket, and the sockets that systemd passes on."""

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Generator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from aiohttp import ClientSession, UnixConnector

from relay import Relay, UsageError
from relay.cli.listening import Listeners, listening, reserved
from relay.cli.serve import say_where
from relay.cli.serving import serving_on
from relay.config.settings import ServerSettings, TlsSettings
from relay.events import Done, Log
from relay.testing import ManualClock
from tests.cli.running import relay
from tests.relay.scripted import RUNNING, TwoStep, story
from web import create_app


@pytest.fixture
def folder() -> Generator[Path]:
    """A folder with a short name, as the path of a socket has at most 107 bytes."""
    with TemporaryDirectory(prefix="relay-") as name:
        yield Path(name)


def reached(listeners: Listeners, family: socket.AddressFamily, host: str) -> bool:
    """Whether a connection to that address arrives."""
    with socket.socket(family) as client:
        try:
            client.connect((host, listeners.sockets[0].getsockname()[1]))
        except OSError:
            return False
        listeners.sockets[0].accept()[0].close()
        return True


HAS_IPV6 = socket.has_dualstack_ipv6()


@pytest.mark.parametrize(
    ("host", "exposed", "families"),
    [
        ("127.0.0.1", False, [True, False]),
        ("localhost", False, [True, False]),
        ("0.0.0.0", True, [True, False]),
        pytest.param("::1", False, [False, True], marks=pytest.mark.skipif(not HAS_IPV6, reason="no IPv6")),
        pytest.param("::", True, [True, True], marks=pytest.mark.skipif(not HAS_IPV6, reason="no IPv6")),
    ],
)
def test_an_address_is_listened_on_in_the_families_that_it_stands_for(
    host: str, exposed: bool, families: list[bool]
) -> None:
    with listening(host, 0) as listeners:
        port = listeners.sockets[0].getsockname()[1]
        shown = {"localhost": "127.0.0.1", "::": "[::]", "::1": "[::1]"}.get(host, host)
        assert (listeners.address("https"), listeners.exposed) == (f"https://{shown}:{port}", exposed)
        found = [reached(listeners, socket.AF_INET, "127.0.0.1"), reached(listeners, socket.AF_INET6, "::1")]
    assert found == families


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-name.invalid", "a" * 64 + ".example", "127.0.0.1.5"])
def test_an_address_of_another_machine_cannot_be_listened_on(host: str) -> None:
    with pytest.raises(UsageError, match=f"^cannot listen on {host} port 0: "), listening(host, 0):
        pass


def test_a_port_in_use_is_named_with_the_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port} on 127.0.0.1 is in use"), listening("127.0.0.1", port):
            pass


def test_a_unix_socket_is_open_to_owner_and_group_whatever_the_umask_and_is_removed_at_the_end(folder: Path) -> None:
    path = folder / "relay.sock"
    for umask in (0o000, 0o022, 0o077):
        before = os.umask(umask)
        try:
            with listening(f"unix:{path}", 0) as listeners:
                found = path.stat().st_mode
                assert (stat.S_ISSOCK(found), stat.S_IMODE(found)) == (True, 0o660)
                assert (listeners.address("http"), listeners.exposed) == (f"unix:{path}", False)
                assert os.umask(umask) == umask
        finally:
            os.umask(before)
        assert not path.exists()


def test_a_socket_that_a_killed_relay_has_left_is_replaced(folder: Path) -> None:
    path = folder / "relay.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    assert path.exists()
    with listening(f"unix:{path}", 0), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


@pytest.mark.parametrize("backlog", [0, 128])
def test_a_socket_on_which_somebody_listens_is_left_alone(folder: Path, backlog: int) -> None:
    path = folder / "relay.sock"
    with socket.socket(socket.AF_UNIX) as other, socket.socket(socket.AF_UNIX) as waiting:
        other.bind(str(path))
        other.listen(backlog)
        waiting.setblocking(False)
        waiting.connect(str(path))
        with pytest.raises(UsageError, match="is in use by another process"), listening(f"unix:{path}", 0):
            pass
        assert path.exists()


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir, os.mkfifo], ids=["a file", "a folder", "a pipe"])
def test_anything_that_is_no_socket_is_left_as_it_is(folder: Path, make: object) -> None:
    path = folder / "relay.sock"
    make(path)  # type: ignore[operator]
    before = path.lstat()
    with pytest.raises(UsageError, match="is no socket, and is left as it is"), listening(f"unix:{path}", 0):
        pass
    assert path.lstat() == before


def test_a_folder_that_is_missing_is_named(folder: Path) -> None:
    with (
        pytest.raises(UsageError, match=r"No such file or directory; its folder must exist"),
        listening(f"unix:{folder}/none/relay.sock", 0),
    ):
        pass


def test_the_socket_of_a_relay_that_came_later_is_not_removed(folder: Path) -> None:
    path = folder / "relay.sock"
    with listening(f"unix:{path}", 0):
        path.unlink()
        with socket.socket(socket.AF_UNIX) as later:
            later.bind(str(path))
    assert path.exists()


PROGRAM = """
import json, os, socket, sys
from relay.cli.listening import listening

try:
    with listening("systemd", 0, access=sys.argv[1] == "access") as found:
        left = [name for name in os.environ if name.startswith("LISTEN_")]
        print(json.dumps([found.address("http"), len(found.sockets), found.exposed, left, os.get_inheritable(3)]))
except Exception as error:
    print(json.dumps(f"{type(error).__name__}: {error}"))
"""

BECOME = """
import os, socket, sys

descriptors = [int(fd) for fd in sys.argv[1].split(",") if fd]
high = [os.dup2(fd, 100 + place) for place, fd in enumerate(descriptors)]
for place, fd in enumerate(high, 3):
    os.dup2(fd, place)
    os.set_inheritable(place, True)
environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(high)), "LISTEN_FDNAMES": "a", "LISTEN_PIDFDID": "1"}
os.execve(sys.argv[2], sys.argv[2:], {**os.environ, **environ})
"""


def activated(sockets: Sequence[socket.socket], *command: str) -> list[str]:
    """*command* as systemd starts it with *sockets*: it has them from descriptor 3 on, and its own id in LISTEN_PID."""
    return [sys.executable, "-c", BECOME, ",".join(str(one.fileno()) for one in sockets), *command]


def adopt(*sockets: socket.socket, access: bool = False) -> object:
    """What a process that is started with *sockets* finds."""
    command = activated(sockets, sys.executable, "-c", PROGRAM, "access" if access else "none")
    done = subprocess.run(command, capture_output=True, check=True, pass_fds=[one.fileno() for one in sockets])
    found: object = json.loads(done.stdout)
    return found


def test_the_sockets_of_systemd_are_adopted_and_their_variables_removed(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(folder / "relay.sock"))
        unix.listen()
        port = tcp.getsockname()[1]
        assert adopt(tcp) == [f"http://127.0.0.1:{port}", 1, False, [], False]
        assert adopt(unix, tcp) == [f"unix:{folder}/relay.sock", 2, False, [], False]
    assert (folder / "relay.sock").exists()


def test_a_socket_that_other_machines_reach_needs_access() -> None:
    with socket.create_server(("0.0.0.0", 0)) as tcp, socket.create_server(("127.0.0.1", 0)) as local:
        assert str(adopt(local, tcp)).startswith("ConfigError: will not serve on '0.0.0.0' to other machines while")
        found = adopt(local, tcp, access=True)
        assert found == [f"http://127.0.0.1:{local.getsockname()[1]}", 2, True, [], False]


def test_what_is_no_listening_socket_is_refused(folder: Path) -> None:
    with socket.socket() as silent, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(("127.0.0.1", 0))
        said = "UsageError: descriptor 3 of systemd is no socket that accepts connections; use ListenStream="
        assert adopt(silent) == said
        assert str(adopt(datagrams)).startswith("UsageError: descriptor 3 of systemd is no socket")
    assert str(adopt()).startswith('UsageError: host = "systemd" needs a socket of systemd, and none has been')


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"LISTEN_PID": "1", "LISTEN_FDS": "1"},
        {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "0"},
        {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "-1"},
        {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "9999"},
        {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "²"},
        {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": ""},
    ],
)
def test_variables_that_are_not_for_this_process_are_no_sockets(environ: dict[str, str]) -> None:
    with (
        pytest.raises(UsageError, match="needs a socket of systemd, and none has been passed on to this process"),
        listening("systemd", 0, environ=environ),
    ):
        pass
    assert environ == {}


async def test_a_stream_is_served_over_a_unix_socket(folder: Path) -> None:
    """There is no address of the client, and nothing depends on one."""
    served = Relay([TwoStep(story({"t": RUNNING}))], clock=ManualClock())
    app = create_app(served, heartbeat=3_600, hosts={"<local>"})
    path = folder / "relay.sock"
    with listening(f"unix:{path}", 0) as listeners:
        async with serving_on(app, listeners), ClientSession(connector=UnixConnector(str(path))) as client:
            body = {"upstream": "scripted", "task": "t"}
            async with client.post("http://relay/v1/jobs", json=body) as response:
                assert response.status == 201
            job = served.registry.admit()
            served.bus.publish(job, Log(line="line"))
            async with client.get(f"http://relay/v1/jobs/{job.id}/events") as response:
                served.bus.publish(job, Done(urls=("https://a/b",)))
                assert (await response.text()).count("\nevent: ") == 2
            async with client.get("http://evil.example/v1/jobs") as response:
                assert response.status == 421


KEY = '[[access.keys]]\nname = "ann"\nkey = "env:ANN"\nscopes = "operate"\n'


def ask(path: Path, target: str = "/healthz", *fields: str) -> bytes:
    """The first line of the answer of a relay behind the unix socket at *path*."""
    head = "\r\n".join([f"GET {target} HTTP/1.1", "Host: localhost", "Connection: close", *fields, "", ""])
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(head.encode())
        return client.makefile("rb").readline()


def test_relay_serve_replaces_the_socket_of_one_that_was_killed_and_removes_its_own(folder: Path) -> None:
    path = folder / "relay.sock"
    (folder / "relay.toml").write_text(f'[server]\nhost = "unix:{path}"\n')
    with relay("serve", folder=folder) as killed:
        killed.says(f"serving on unix:{path}; Ctrl-C")
        assert ask(path) == b"HTTP/1.1 200 OK\r\n"
        killed.interrupt(signal.SIGKILL)
        killed.ends()
    assert path.exists()
    with relay("serve", folder=folder) as serve:
        serve.says(f"serving on unix:{path}; Ctrl-C")
        assert ask(path) == b"HTTP/1.1 200 OK\r\n"
        serve.interrupt()
        assert serve.ends() == 0
    assert not path.exists()


def test_relay_serve_is_started_by_a_socket_of_systemd(folder: Path) -> None:
    """The connection waits in the socket while the relay starts."""
    if shutil.which("systemd-socket-activate") is None:
        pytest.skip("no systemd-socket-activate is installed; on Debian: apt-get install systemd")
    path = folder / "relay.sock"
    under = ["systemd-socket-activate", f"--listen={path}"]
    with relay("serve", "--host", "systemd", folder=folder, under=under) as serve:
        serve.says("Listening on")
        assert ask(path) == b"HTTP/1.1 200 OK\r\n"
        serve.says(f"serving on unix:{path}; Ctrl-C")
        serve.interrupt()
        assert serve.ends() == 0
    assert path.exists()


@pytest.mark.parametrize(
    ("settings", "exposed", "warned"),
    [
        (ServerSettings(), True, True),
        (ServerSettings(public_url="http://relay.example"), True, True),
        (ServerSettings(public_url="https://relay.example"), True, False),
        (ServerSettings(tls=TlsSettings(cert="c", key="k")), True, False),
        (ServerSettings(), False, False),
    ],
)
def test_relay_serve_warns_if_nothing_protects_what_other_machines_send(
    settings: ServerSettings, exposed: bool, warned: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    say_where("http://192.0.2.1:8080", settings, exposed=exposed)
    said = capsys.readouterr().err
    assert ("other machines reach this relay without TLS, so keys and records can be read on the way" in said) is warned


def test_relay_serve_refuses_other_machines_without_access(folder: Path) -> None:
    with relay("serve", "--host", "0.0.0.0", folder=folder) as serve:
        assert serve.ends() == 2
    (line,) = serve.said
    assert line.startswith("relay: will not serve on '0.0.0.0' to other machines while [access] is not configured")


def test_relay_serve_lets_nobody_in_who_proves_nothing(folder: Path) -> None:
    path = folder / "relay.sock"
    (folder / "relay.toml").write_text(f'[server]\nhost = "unix:{path}"\n{KEY}')
    with relay("serve", folder=folder, ANN="a" * 40) as serve:
        serve.says("serving on")
        assert ask(path, "/v1/jobs") == b"HTTP/1.1 401 Unauthorized\r\n"
        assert ask(path, "/v1/jobs", f"Authorization: Bearer {'a' * 40}") == b"HTTP/1.1 200 OK\r\n"
        assert ask(path, "/healthz") == b"HTTP/1.1 200 OK\r\n"


def test_relay_doctor_examines_socket_and_certificate(folder: Path) -> None:
    path = folder / "relay.sock"
    (folder / "relay.toml").write_text(
        f'[server]\nhost = "unix:{path}"\ntls = {{ cert = "none.pem", key = "none.key" }}\n[journal]\nurl = "memory:"\n'
    )
    with relay("doctor", folder=folder) as doctor:
        assert doctor.ends() == 1
    found = doctor.printed
    assert [line.split()[0] for line in found if "cannot read none.pem: No such file" in line] == ["tls"]
    assert not path.exists()
    (folder / "relay.toml").write_text('[server]\nhost = "systemd"\n[journal]\nurl = "memory:"\n')
    with relay("doctor", folder=folder) as doctor:
        assert doctor.ends() == 0
    assert "port a socket of systemd, which is there once systemd starts the relay" in [
        " ".join(line.split()) for line in doctor.printed
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere processes share one listener")
@pytest.mark.parametrize(
    "host", ["127.0.0.1", pytest.param("::1", marks=pytest.mark.skipif(not HAS_IPV6, reason="no IPv6"))]
)
def test_an_address_that_is_kept_is_for_processes_that_listen_there_and_accepts_nothing_itself(host: str) -> None:
    with reserved(host, 0) as kept:
        port = kept.sockets[0].getsockname()[1]
        assert kept.reserves
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, port), 5)
        with listening(host, port, among_others=True), listening(host, port, among_others=True):
            socket.create_connection((host, port), 5).close()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere processes share one listener")
def test_an_address_of_another_program_is_not_kept_even_if_that_one_would_share_it() -> None:
    with listening("127.0.0.1", 0, among_others=True) as other:
        port = other.sockets[0].getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port} on 127.0.0.1 is in use"), reserved("127.0.0.1", port):
            pass


def test_a_unix_socket_is_one_listener_for_all_processes(folder: Path) -> None:
    path = folder / "relay.sock"
    with reserved(f"unix:{path}", 0) as listeners:
        assert (listeners.reserves, path.is_socket()) == (False, True)
    assert not path.exists()
