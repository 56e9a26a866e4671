"""`relay token`: links for watching one job, and API keys."""

import json
import re
from pathlib import Path

import pytest

from relay.cli import main
from relay.cli.api_keys import has_typing_error, new_key
from tests.cli.asking import answer
from tests.cli.running import relay
from tests.web.access.keys import ANN, SIGNING_KEY
from web.access.signing import Signer

Capture = pytest.CaptureFixture[str]

ACCESS = '[access]\nsigning_key = "env:SIGNING"\n[[access.keys]]\nname = "ann"\nkey = "env:ANN"\n'


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SIGNING", SIGNING_KEY)
    monkeypatch.setenv("ANN", ANN)
    return tmp_path


def configure(server: str = "", access: str = ACCESS) -> None:
    Path("relay.toml").write_text(f"[server]\n{server}\n{access}")


@pytest.mark.parametrize(
    ("server", "begins"),
    [
        ("", "http://127.0.0.1:8080/#watch=rlc_"),
        ('public_url = "https://relay.example/jobs/"', "https://relay.example/jobs/#watch=rlc_"),
        ('host = "::1"\nport = 1', "http://[::1]:1/#watch=rlc_"),
        ('tls = {cert = "c.pem", key = "k.pem"}', "https://127.0.0.1:8080/#watch=rlc_"),
    ],
)
def test_a_link_begins_with_the_address_of_users_and_opens_its_job(server: str, begins: str, capsys: Capture) -> None:
    configure(server)
    assert main(["token", "--job", "job_1", "--ttl", "2h"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith(begins)
    _, _, capability = printed.out.strip().partition("#watch=")
    found = Signer(SIGNING_KEY.encode()).verify_watch(capability, 0.0)
    assert found is not None
    job, expires = found
    assert job == "job_1"
    assert Signer(SIGNING_KEY.encode()).verify_watch(capability, float(expires)) is None
    assert re.fullmatch(r"relay: a client that has this may read job_1 until [0-9-]+ [0-9:]+ UTC\n", printed.err)


def test_a_bare_capability_needs_no_address(capsys: Capture) -> None:
    configure('host = "unix:/run/relay.sock"')
    assert main(["token", "--job", "job_1", "--bare"]) == 0
    assert re.fullmatch(r"rlc_[0-9a-f]{8}\.[0-9a-f]+\.job_1\.[A-Za-z0-9_-]{43}\n", capsys.readouterr().out)


def test_the_relay_accepts_what_was_signed_beside_it(tmp_path: Path, capsys: Capture) -> None:
    configure("port = 0")
    with relay("serve", folder=tmp_path, SIGNING=SIGNING_KEY, ANN=ANN) as serve:
        address = serve.says(r"serving on (\S+)/;")[1]
        assert main(["token", "--job", "job_none", "--bare"]) == 0
        capability = capsys.readouterr().out.strip()
        for token, status in ((capability, 404), (capability[:-1], 401)):
            with answer("GET", f"{address}/v1/jobs/job_none", Authorization=f"Bearer {token}") as response:
                assert response.status == status, "it is valid, and there is no such job"
        serve.interrupt()
        assert serve.ends() == 0


@pytest.mark.parametrize(
    ("server", "access", "arguments", "said"),
    [
        ("", "", ["--job", "job_1"], "no signing_key is configured, so the relay would not accept a link from here"),
        ("", ACCESS.replace("signing_key", "#"), ["--job", "job_1"], "make one with relay token --new-key"),
        ('host = "0.0.0.0"', ACCESS, ["--job", "job_1"], "host '0.0.0.0' and port 8080 are no address for a link"),
        ("port = 0", ACCESS, ["--job", "job_1"], "write the address that users go to as public_url under [server]"),
        ("", ACCESS, [], "name the job with --job, or make an API key with --new-key; see relay token --help"),
        ("", ACCESS, ["--job", "job 1"], "'job 1' is no id of a job, such as job_b710914e0b177d99"),
        ("", ACCESS, ["--job", "job_1", "--ttl", "0s"], "'0s' is no time from 1 s to 366 days, such as '90s'"),
        ("", ACCESS, ["--job", "job_1", "--ttl", "400d"], "'400d' is no time from 1 s to 366 days"),
        ("", ACCESS, ["--job", "job_1", "--new-key"], "--new-key makes a key of its own; leave out --job and --bare"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_do(
    server: str, access: str, arguments: list[str], said: str, capsys: Capture
) -> None:
    configure(server, access)
    assert main(["token", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err
    assert printed.err.count("\n") == 1


def test_a_new_key_has_the_form_that_scanners_find_and_a_check_against_typing(capsys: Capture) -> None:
    assert main(["token", "--new-key"]) == 0
    key = capsys.readouterr().out.strip()
    assert re.fullmatch(r"rlk_[0-9A-Za-z]{36}", key)
    assert key != new_key()
    for place in range(4, len(key)):
        wrong = key[:place] + ("x" if key[place] != "x" else "y") + key[place + 1 :]
        assert has_typing_error(wrong), "one character is another one"
    assert [has_typing_error(one) for one in (key, key[:-1], key + "0", f"rlk_{'0' * 36}", "some-key-of-my-own")] == [
        False,
        True,
        True,
        True,
        False,
    ]


def test_a_checksum_is_the_crc32_of_the_random_part_in_base62() -> None:
    # [spec] 0xCBF43926 is the check value of CRC32: 3 45 35 27 22 14 in base 62.
    from relay.cli.api_keys import _checksum

    assert _checksum("123456789") == "3jZRME"


def test_no_variable_of_the_environment_is_a_setting_of_access(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file alone has the rights; a variable of such a name may hold a secret that `env:` refers to."""
    configure("", ACCESS.replace("env:SIGNING", "env:RELAY_ACCESS_KEYS"))
    monkeypatch.setenv("RELAY_ACCESS_KEYS", SIGNING_KEY)
    monkeypatch.setenv("RELAY_ACCESS_SIGNING_KEY", json.dumps("another-0123456789-0123456789-0123456789"))
    assert main(["token", "--job", "job_1", "--bare"]) == 0
    assert Signer(SIGNING_KEY.encode()).verify_watch(capsys.readouterr().out.strip(), 0.0) is not None
