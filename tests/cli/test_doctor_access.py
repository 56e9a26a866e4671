"""`relay doctor` finds what lets in more than is meant, before the relay starts."""

import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from relay.cli import main
from relay.cli.access_checks import weakness_of
from relay.cli.api_keys import new_key
from tests.cli.running import relay
from tests.web.access.issuer import jwk, jwks
from tests.web.access.key_server import serve_keys

Capture = pytest.CaptureFixture[str]

OTHER = "rlk_0A1b2C3d4E5f6G7h8I9j0K1l2M3n4O0Ok4LV"
SERVER = '[journal]\nurl = "memory:"\n[server]\nport = 0\n'


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OTHER", OTHER)
    return tmp_path


def key(name: str, reference: str = "env:OTHER", rights: str = "") -> str:
    return f'[[access.keys]]\nname = "{name}"\nkey = "{reference}"\n{rights}\n'


def examined(capsys: Capture, access: str, server: str = SERVER) -> tuple[int, list[str]]:
    """The status of `relay doctor`, and its rows about access."""
    Path("relay.toml").write_text(f"{server}\n[access]\n{access}")
    status = main(["doctor"])
    return status, rows_of(capsys.readouterr().out.splitlines())


def examined_beside(folder: Path, access: str) -> tuple[int, list[str]]:
    """The same in a process of its own, while this one serves keys."""
    (folder / "relay.toml").write_text(f"{SERVER}\n[access]\n{access}")
    with relay("doctor", folder=folder, OTHER=OTHER) as doctor:
        status = doctor.ends()
    return status, rows_of(doctor.printed)


def rows_of(lines: Sequence[str]) -> list[str]:
    return [
        " ".join(line.split()) for line in lines if line.startswith(("access ", "notice ", "all jobs ", "key set "))
    ]


SIGNED = 'signing_key = "env:OTHER"\n'


def test_each_way_in_is_a_row_and_the_keys_that_see_all_jobs_are_named(capsys: Capture) -> None:
    ways = key("ann", rights='scopes = "jobs:read jobs:submit"') + key("root", "file:root.key", 'scopes = "operate"')
    ways += key("board", "file:board.key", 'jobs = "*"')
    for file in ("root.key", "board.key"):
        Path(file).write_text(new_key())
        Path(file).chmod(0o600)
    assert examined(capsys, SIGNED + ways) == (
        0,
        [
            "access key:ann has jobs:read jobs:submit for its own jobs",
            "access key:root has operate for all jobs",
            "access key:board has jobs:read for all jobs",
            "all jobs are seen with 2 keys: root, board",
        ],
    )


def test_a_configuration_without_access_has_no_row_about_it(capsys: Capture) -> None:
    Path("relay.toml").write_text(SERVER)
    assert main(["doctor"]) == 0
    assert "access" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("secret", "why"),
    [
        ("a" * 40, "has 1 different character, so it can be guessed"),
        ("12341234567" * 4, "has 7 different characters, so it can be guessed"),
        ("change-me-please-" * 3, "repeats a shorter text, so it can be guessed"),
        (("correct-horse-battery-" * 3)[:-3], "repeats a shorter text, so it can be guessed"),
        (f"{OTHER[:-1]}{'x' if OTHER[-1] != 'x' else 'y'}", "begins as a key of relay token does, and its checksum"),
        (OTHER[:-1], "its checksum does not hold: a character is wrong or missing"),
    ],
)
def test_a_secret_that_can_be_guessed_or_was_mistyped_is_a_problem(
    secret: str, why: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEAK", secret)
    proxy = '[access.proxy]\nfrom = ["10.0.0.1"]\nsecret = "env:WEAK"\n'
    for access, of in (
        (SIGNED + key("ann", "env:WEAK"), "key:ann"),
        ('signing_key = "env:WEAK"\n' + key("ann"), "signing_key"),
        (SIGNED + proxy, "the secret of the proxy"),
    ):
        status, rows = examined(capsys, access)
        assert status == 1
        (row,) = [row for row in rows if "problem" in row]
        assert row.startswith(f"access problem: {of}, from the environment variable WEAK, ")
        assert why in row
        assert secret not in row


def test_no_secret_at_random_counts_as_weak() -> None:
    hexadecimal = [os.urandom(16).hex() for _ in range(500)]
    assert [secret for secret in [*hexadecimal, *(new_key() for _ in range(500))] if weakness_of(secret)] == []


def test_one_key_under_two_names_is_a_problem(capsys: Capture) -> None:
    status, rows = examined(capsys, SIGNED + key("ann") + key("bob") + key("ann"))
    assert (status, rows[-2:]) == (
        1,
        [
            "access problem: key:bob is the same key as key:ann, whose access it has; give each a key of its own",
            "access problem: key:ann is the same key as key:ann, whose access it has; give each a key of its own",
        ],
    )


@pytest.mark.parametrize(
    ("network", "problem"),
    [
        ("0.0.0.0/0", "believes every address; name those of the proxy"),
        ("::/0", "believes every address; name those of the proxy"),
        ("8.0.0.0/8", "believes 16,777,216 addresses; name the proxy's own"),
        ("0.0.0.0/1", "believes 2,147,483,648 addresses; name the proxy's own"),
        ("2001:4860::/32", "addresses; name the proxy's own"),
        ("10.0.0.0/8", None),
        ("172.16.0.0/12", None),
        ("fd00::/8", None),
        ("8.8.8.8", None),
    ],
)
def test_a_proxy_that_may_be_anywhere_is_a_problem(network: str, problem: str | None, capsys: Capture) -> None:
    status, rows = examined(capsys, f'{SIGNED}[access.proxy]\nfrom = ["{network}"]\nsecret = "env:OTHER"\n')
    assert status == (0 if problem is None else 1)
    found = [row for row in rows if "problem" in row]
    if problem is None:
        assert found == []
    else:
        (row,) = found
        assert row.startswith(f"access problem: [access.proxy] from {network} ")
        assert problem in row


def test_a_proxy_on_a_unix_socket_without_secret_is_a_notice(capsys: Capture) -> None:
    status, rows = examined(capsys, f'{SIGNED}[access.proxy]\nfrom = ["unix"]\n')
    assert status == 0
    assert rows[-1].startswith("notice [access.proxy] has no secret, so every process that may connect to the unix")


@pytest.mark.parametrize(
    ("server", "status"),
    [("", 1), ('public_url = "http://relay.example"', 1), ('public_url = "https://relay.example"', 0)],
)
def test_an_address_of_other_machines_without_tls_is_a_problem(server: str, status: int, capsys: Capture) -> None:
    found, rows = examined(capsys, SIGNED + key("ann"), f'{SERVER}host = "0.0.0.0"\n{server}\n')
    assert found == status
    assert ["access problem: other machines reach 0.0.0.0 without TLS" in row for row in rows].count(True) == status


def test_without_a_signing_key_a_row_says_what_ends_with_the_process(capsys: Capture) -> None:
    status, rows = examined(capsys, key("ann"))
    assert status == 0
    assert rows[-1].startswith("access there is no signing_key in [access], so sessions, tickets and watch links end")


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        (0o600, None),
        (0o640, "is open to its group; chmod go-rwx"),
        (0o644, "can be read by every user of this machine"),
    ],
)
def test_a_file_of_a_key_that_others_can_read_is_a_notice(mode: int, said: str | None, capsys: Capture) -> None:
    Path("ann.key").write_text(new_key())
    Path("ann.key").chmod(mode)
    status, rows = examined(capsys, SIGNED + key("ann", "file:ann.key"))
    notices = [row for row in rows if row.startswith("notice")]
    assert status == 0
    assert (notices == []) if said is None else (len(notices) == 1 and f"notice ann.key {said}" in notices[0])


JWT = '[access.jwt]\nissuer = "https://login.example"\naudience = "relay"\nalgorithms = ["RS256"]\njwks = "{}"\n'


async def test_a_key_set_that_can_be_fetched_and_used_is_a_row(tmp_path: Path) -> None:
    async with serve_keys(jwks(jwk("RS256"))) as server:
        status, rows = await asyncio.to_thread(examined_beside, tmp_path, SIGNED + JWT.format(server.url))
        assert len(server.requests) == 1
    at = server.url.partition("?")[0]
    assert (status, rows[-1]) == (0, f"key set {at} can be fetched, and its keys can be used")


@pytest.mark.parametrize(
    ("body", "answer", "problem"),
    [
        (b"", 503, " answered 503; no token is valid until it can"),
        (b"", 302, " answered 302, a redirect, which is not followed; no token"),
        (b"<html>", 200, "is no JSON: it should be an object, as in RFC 7517; no token is valid until it is one"),
        (b'{"keys": []}', 200, ": no key can verify RS256, so every token is refused"),
        (jwks({**jwk("RS256"), "exp": 1_000_000_000}), 200, ": key 1 has expired"),
        (json.dumps({"keys": [7, jwk("RS256")]}).encode(), 200, ": key 1 is no JSON object"),
    ],
)
async def test_a_key_set_that_verifies_nothing_is_a_problem(
    body: bytes, answer: int, problem: str, tmp_path: Path
) -> None:
    async with serve_keys(body) as server:
        server.status = answer
        status, rows = await asyncio.to_thread(examined_beside, tmp_path, SIGNED + JWT.format(server.url))
    at = server.url.partition("?")[0]
    assert status == 1
    assert rows[-1].startswith(f"key set problem: {at}")
    assert problem in rows[-1]


def test_a_key_set_that_nobody_serves_is_a_problem(capsys: Capture) -> None:
    status, rows = examined(capsys, SIGNED + JWT.format("http://127.0.0.1:1/keys"))
    assert (status, rows[-1].startswith("key set problem: http://127.0.0.1:1/keys cannot be fetched: ")) == (1, True)
