"""`relay serve` says who may do what, and takes over another [access] without a restart."""

import signal
from contextlib import AbstractContextManager, closing
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from aiohttp import ClientSession

from relay import Relay
from relay.cli.access_lines import KEYS_SHOWN, access_lines
from relay.cli.reloading import LOOK_EVERY, refreshing
from relay.config.access_settings import AccessSettings, JwtSettings, KeySettings, ProxySettings
from relay.secret import Secret, read_secret
from relay.testing import ManualClock
from tests.cli.asking import answer
from tests.cli.running import Running, relay
from tests.cli.test_signals import in_a_window
from tests.web.access.keys import ANN, BOB, OPERATOR, SIGNING_KEY, bearer
from tests.web.serving import serve_app
from web import GUARD, create_app


def served(folder: Path) -> AbstractContextManager[Running]:
    """`relay serve` in *folder*, with all secrets in its environment."""
    return relay("serve", folder=folder, ANN=ANN, BOB=BOB, ROOT=OPERATOR, SIGNING=SIGNING_KEY)


def key(name: str, scopes: str = "jobs:read", jobs: str = '"own"') -> str:
    return f'[[access.keys]]\nname = "{name}"\nkey = "env:{name.upper()}"\nscopes = "{scopes}"\njobs = {jobs}\n'


def configure(folder: Path, *keys: str, access: str = 'signing_key = "env:SIGNING"', rest: str = "") -> None:
    (folder / "relay.toml").write_text(f"[server]\nport = 0\n{rest}\n[access]\n{access}\n{''.join(keys)}")


def address_of(serve: Running) -> str:
    return serve.says(r"serving on (\S+)/;")[1]


def status_of(address: str, token: str) -> int:
    with answer("GET", f"{address}/v1/jobs", Authorization=f"Bearer {token}") as response:
        return response.status


def test_the_start_says_who_may_do_what_and_no_secret(tmp_path: Path) -> None:
    configure(tmp_path, key("ann", "jobs:read jobs:submit"), key("bob", jobs='["job_1"]'), key("root", "operate"))
    with served(tmp_path) as serve:
        serve.says("no upstream is configured")
        serve.interrupt(signal.SIGTERM)
        assert serve.ends() == 0
    assert serve.said[1:-1] == [
        "relay: key:ann has jobs:read jobs:submit for its own jobs",
        "relay: key:bob has jobs:read for job_1",
        "relay: key:root has operate for all jobs",
    ]


def test_a_configuration_without_access_says_nothing_about_it(tmp_path: Path) -> None:
    (tmp_path / "relay.toml").write_text("[server]\nport = 0\n")
    with relay("serve", folder=tmp_path) as serve:
        serve.says("no upstream is configured")
        serve.interrupt(signal.SIGHUP)  # which ends a relay without [access], as ever
        assert serve.ends() == 0
    assert len(serve.said) == 2


def test_the_lines_about_access_are_bounded_and_name_every_way_in() -> None:
    keys = tuple(KeySettings(name=f"k{n}", key=Secret("x" * 40), scopes="") for n in range(KEYS_SHOWN + 5))
    jwt = JwtSettings(issuer="https://id.example/" + "x" * 500, audience="relay", algorithms=("RS256",))
    proxy = ProxySettings(networks=("10.0.0.0/24", "10.0.1.0/24", "fd00::/64", "unix"), jobs=("job_1", "job_2"))
    lines = list(access_lines(AccessSettings(keys=keys, jwt=jwt, proxy=proxy)))
    assert lines[0] == "key:k0 has no scope"
    assert lines[KEYS_SHOWN] == "and 5 more [[access.keys]]; relay access check says what each of them may do"
    assert lines[-3].startswith("jwt:SUB has what its token of https://id.example/xxx")
    assert lines[-2] == (
        "proxy:USER, named in X-Forwarded-User by a proxy at 10.0.0.0/24, 10.0.1.0/24, fd00::/64 and 1 more, has"
        " jobs:read for 2 jobs"
    )
    assert lines[-1].startswith("there is no signing_key in [access], so sessions, tickets and watch links end with")
    assert len(lines) == KEYS_SHOWN + 4
    assert max(map(len, lines)) < 200


def test_a_hangup_takes_over_the_keys_of_the_file_and_ends_the_streams_of_former_ones(tmp_path: Path) -> None:
    configure(tmp_path, key("ann"), key("bob"))
    with served(tmp_path) as serve:
        address = address_of(serve)
        serve.says("no upstream is configured")
        with closing(HTTPConnection(urlsplit(address).netloc)) as connection:
            connection.request("GET", "/v1/events", headers={"Accept": "text/event-stream", **bearer(ANN)})
            with connection.getresponse() as stream:
                assert stream.readline() == b":\n"
                configure(tmp_path, key("bob", "jobs:read jobs:submit"), key("root", "operate"))
                serve.interrupt(signal.SIGHUP)
                serve.says(r"\[access\] of relay.toml is read again")
                serve.says("key:bob has jobs:read jobs:submit for its own jobs")
                serve.says("key:root has operate for all jobs")
                assert b"event: denied" in stream.read()
        assert [status_of(address, token) for token in (ANN, BOB, OPERATOR)] == [401, 200, 200]
        serve.interrupt(signal.SIGTERM)
        assert serve.ends() == 0


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[access", r"\[access\] stays as it was: relay.toml is not TOML"),
        ("[server]\nport = 0\n", r"stays as it was: relay.toml has no \[access\] any more; restart the relay to serve"),
        (f"[access]\n{key('none')}", r"stays as it was: .+the environment variable NONE, which is not set"),
        (None, r"stays as it was: cannot read relay.toml: No such file or directory"),
    ],
)
def test_a_file_that_cannot_be_read_changes_nothing(content: str | None, said: str, tmp_path: Path) -> None:
    configure(tmp_path, key("ann"))
    with served(tmp_path) as serve:
        address = address_of(serve)
        serve.says("no upstream is configured")
        if content is None:
            (tmp_path / "relay.toml").unlink()
        else:
            (tmp_path / "relay.toml").write_text(content)
        serve.interrupt(signal.SIGHUP)
        serve.says(said)
        assert [status_of(address, token) for token in (ANN, BOB)] == [200, 401]
        serve.interrupt(signal.SIGTERM)
        assert serve.ends() == 0


def test_no_other_table_is_read_again_and_another_signing_key_waits_for_a_restart(tmp_path: Path) -> None:
    configure(tmp_path, key("ann"))
    with served(tmp_path) as serve:
        serve.says("no upstream is configured")
        configure(tmp_path, key("ann"), access='signing_key = "env:BOB"', rest="unknown = 1")
        serve.interrupt(signal.SIGHUP)
        serve.says("signing_key is another one now, which counts from the next start of the relay")
        serve.interrupt(signal.SIGTERM)
        assert serve.ends() == 0
    assert not any("unknown" in line for line in serve.said)


async def test_a_key_whose_file_has_changed_is_another_one_within_two_seconds(tmp_path: Path) -> None:
    file = tmp_path / "ann.key"
    file.write_text(ANN)
    settings = AccessSettings(keys=(KeySettings(name="ann", key=read_secret(f"file:{file}", {}, tmp_path)),))
    clock = ManualClock()
    app = create_app(Relay([], clock=clock), access=settings)

    async def statuses(client: ClientSession) -> list[int]:
        return [(await client.get("/v1/jobs", headers=bearer(token))).status for token in (ANN, BOB)]

    async with serve_app(app) as client, refreshing(app[GUARD], clock):
        stream = await client.get("/v1/events", headers={"Accept": "text/event-stream", **bearer(ANN)})
        assert await statuses(client) == [200, 401]
        file.unlink()
        await clock.advance(LOOK_EVERY)
        assert await statuses(client) == [200, 401], "while there is no file, the key is as it was"
        file.write_text(BOB)
        await clock.advance(LOOK_EVERY)
        assert await statuses(client) == [401, 200]
        assert b"event: denied" in await stream.content.read()


OWN = """
class Fails:
    def __call__(self, record): ...

    def reopen(self):
        raise OSError(open("plain").read())
"""


def test_a_key_that_came_with_a_hangup_is_masked_as_those_of_the_start(tmp_path: Path) -> None:
    plain = "of-another-form-qwertzuiopasdfghjklyxc"
    sink = '[[sinks]]\nkind = "own:Fails"\n'
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "plain").write_text(plain)
    configure(tmp_path, key("ann"), sink)
    with served(tmp_path) as serve:
        serve.says("no upstream is configured")
        configure(tmp_path, '[[access.keys]]\nname = "plain"\nkey = "file:plain"\n', sink)
        serve.interrupt(signal.SIGHUP)
        serve.says(f"opening the file of a sink again failed: OSError: {plain}")
        serve.says("read again")
        serve.interrupt(signal.SIGHUP)
        serve.says(r"opening the file of a sink again failed: OSError: \*\*\*")
        serve.interrupt(signal.SIGTERM)
        assert serve.ends() == 0


def test_an_address_of_other_machines_needs_access_also_on_the_command_line(tmp_path: Path) -> None:
    with relay("serve", "--host", "0.0.0.0", "--port", "0", folder=tmp_path) as serve:
        assert serve.ends() == 2
    assert "will not serve on '0.0.0.0' to other machines while [access] is not configured" in serve.said[0]


def test_serve_with_access_ends_in_order_when_its_terminal_is_closed(tmp_path: Path) -> None:
    configure(tmp_path, key("ann"))
    with in_a_window("serve", folder=tmp_path, ANN=ANN, SIGNING=SIGNING_KEY) as window:
        window.shows(b"no upstream is configured")
        assert window.close() == 0
