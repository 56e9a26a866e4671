"""`relay serve` as in a container: all addresses, TLS, no rights, and only the folder of its state to write to."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import trustme
from msgspec import Struct

from tests.cli import container
from tests.cli.container import UID
from tests.cli.running import PATIENCE, Running, relay
from tests.faults.disk import may_mount


def may_contain() -> bool:
    """Whether this process may make a network and a file system of its own here."""
    if not all(map(shutil.which, ("unshare", "nsenter", "setpriv", "ip"))) or not may_mount():
        return False
    pair = ("ip", "link", "add", "one", "type", "veth", "peer", "name", "two")
    return subprocess.run(["unshare", "--net", *pair], check=False, capture_output=True).returncode == 0


pytestmark = pytest.mark.skipif(not may_contain(), reason="needs root on Linux, util-linux and iproute2")

PROBE = """
import json, os, sys
from pathlib import Path

PLACES = ("/", "/tmp", "/var/tmp", "/dev/shm", "/etc", sys.prefix, "{open}")


def written(folder):
    try:
        with open(os.path.join(folder, "probe"), "x"):
            return "written"
    except OSError as error:
        return error.strerror


class Probe:
    def __init__(self):
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
        found = {{
            "prefixes": [sys.prefix, sys.base_prefix, os.__file__],
            "ids": [os.getuid(), os.getgid(), os.getgroups()],
            "capabilities": [int(status[name], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb")],
            "no_new_privileges": status["NoNewPrivs"].strip(),
            "written": {{place: written(place) for place in PLACES if os.path.isdir(place)}},
        }}
        Path("probe.json").write_text(json.dumps(found))

    def __call__(self, record): ...
"""

CONFIGURATION = """
[server]
host = "{host}"
port = 8443
tls = {{ cert = "relay.pem", key = "relay.key" }}
[journal]
url = "sqlite:relay.db"
[[access.keys]]
name = "ann"
key = "file:ann.key"
scopes = "jobs:read"
jobs = "*"
[[sinks]]
kind = "probe:Probe"
"""

CLIENT = """
import http.client, json, socket, ssl, sys

context, key = ssl.create_default_context(cafile=sys.argv[1]), {"Authorization": "Bearer " + sys.argv[2]}


def status(path, **headers):
    connection = http.client.HTTPSConnection(sys.argv[3], 8443, context=context, timeout=60)
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    return [response.status, response.getheader("Content-Type", "").partition(";")[0]]


with socket.create_connection((sys.argv[3], 8443)) as plain:
    plain.sendall(b"GET / HTTP/1.1\\r\\nHost: relay\\r\\n\\r\\n")
    in_clear = b"HTTP" in plain.recv(100)
print(json.dumps({
    "without a key": status("/v1/jobs"),
    "with a key": status("/v1/jobs", **key),
    "a stream": status("/v1/events", **key),
    "another name": status("/v1/jobs", Host="evil.example", **key),
    "alive": status("/healthz"),
    "in clear": in_clear,
}))
"""

EXPECTED = {
    "without a key": [401, "application/problem+json"],
    "with a key": [200, "application/json"],
    "a stream": [200, "text/event-stream"],
    "another name": [421, "application/problem+json"],
    "alive": [200, "text/plain"],
    "in clear": False,
}


class Box(Struct):
    """The folder of a container: its configuration, its state, and a folder that any user could write to."""

    folder: Path
    key: str

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def ask(self, serve: Running, address: str) -> object:
        """What a client in the network of the container is answered."""
        authority = str(self.folder / "etc" / "authority.pem")
        done = subprocess.run(
            [
                "nsenter",
                "--target",
                str(serve.pid),
                "--net",
                sys.executable,
                "-c",
                CLIENT,
                authority,
                self.key,
                address,
            ],
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        found: object = json.loads(done.stdout)
        return found


@pytest.fixture
def box() -> Generator[Box]:
    with TemporaryDirectory(prefix="relay-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        made = Box(folder, "k" * 40)
        for place in ("etc", "state", "open"):
            (folder / place).mkdir()
        (folder / "open").chmod(0o777)
        (folder / "state" / "probe.py").write_text(PROBE.format(open=folder / "open"))
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(folder / "etc" / "authority.pem"))
        issued = authority.issue_cert("192.0.2.10", "2001:db8::10")
        issued.cert_chain_pems[0].write_to_path(str(folder / "etc" / "relay.pem"))
        secrets = {"relay.key": issued.private_key_pem.bytes(), "ann.key": made.key.encode()}
        for secret, content in secrets.items():
            (folder / "etc" / secret).write_bytes(content)
            (folder / "etc" / secret).chmod(0o400)
            os.chown(folder / "etc" / secret, UID, UID)
        os.chown(folder / "state", UID, UID)
        yield made


@pytest.mark.parametrize(
    ("host", "addresses"),
    [
        ("0.0.0.0", ["192.0.2.10"]),
        pytest.param(
            "::",
            ["192.0.2.10", "2001:db8::10"],
            marks=pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6"),
        ),
    ],
)
def test_it_serves_other_machines_with_no_rights_and_writes_its_state_alone(
    box: Box, host: str, addresses: list[str]
) -> None:
    (box.folder / "etc" / "relay.toml").write_text(CONFIGURATION.format(host=host))
    under = ["unshare", "--net", "--mount", sys.executable, str(container.__file__), str(box.state)]
    with relay("serve", "--config", str(box.folder / "etc" / "relay.toml"), folder=box.state, under=under) as serve:
        serve.says(r"serving on https://(0\.0\.0\.0|\[::\]):8443/; Ctrl-C")
        found = [box.ask(serve, address) for address in addresses]
        serve.interrupt()
        assert serve.ends() == 0

    assert found == [EXPECTED] * len(addresses)
    probe = json.loads((box.state / "probe.json").read_text())
    assert probe["prefixes"] == [sys.prefix, sys.base_prefix, os.__file__]
    assert probe["ids"] == [UID, UID, []]
    assert probe["capabilities"] == [0] * 5
    assert probe["no_new_privileges"] == "1"
    assert probe["written"].pop("/etc") in ("Permission denied", "Read-only file system")
    assert set(probe["written"].values()) == {"Read-only file system"}, probe["written"]
    assert (box.state / "relay.db").stat().st_uid == UID
    assert list((box.folder / "open").iterdir()) == []
    assert [line for line in serve.said if "without TLS" in line or "can be read by every user" in line] == []
