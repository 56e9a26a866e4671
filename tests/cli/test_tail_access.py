"""`relay tail` of a relay with access: a watch link's capability shows one job, and what is refused is one line."""

import json
from collections.abc import Generator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from relay.cli import main
from tests.cli.running import relay
from tests.web.access.keys import ANN, BOB, SIGNING_KEY

Capture = pytest.CaptureFixture[str]

ACCESS = """
[server]
port = 0
[access]
signing_key = "env:SIGNING"
[[access.keys]]
name = "ann"
key = "env:ANN"
scopes = "jobs:read jobs:submit"
[[access.keys]]
name = "bob"
key = "env:BOB"
scopes = "jobs:submit"
"""


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[str]:
    """A relay with two keys and an upstream, in the current directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RELAY_LOG_LEVEL", "debug")
    for name, secret in {"SIGNING": SIGNING_KEY, "ANN": ANN, "BOB": BOB}.items():
        monkeypatch.setenv(name, secret)
    with relay("fake", "--port", "0", "--speed", "20", folder=tmp_path) as fake:
        base_url, token = fake.says(r"base_url (\S+)")[1], fake.says(r"token (\S+)")[1]
        monkeypatch.setenv("TOKEN", token)
        upstream = f'[[upstreams]]\nkind = "sora"\nbase_url = "{base_url}"\ntoken = "env:TOKEN"\ninterval = "100ms"\n'
        (tmp_path / "relay.toml").write_text(ACCESS + upstream)
        with relay("serve", folder=tmp_path, SIGNING=SIGNING_KEY, ANN=ANN, BOB=BOB, TOKEN=token) as serve:
            yield serve.says(r"serving on (\S+)/;")[1]


def submitted(address: str) -> str:
    body = json.dumps({"upstream": "sora", "input": {"prompt": "a cat"}})
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {ANN}"}
    with closing(HTTPConnection(urlsplit(address).netloc)) as connection:
        connection.request("POST", "/v1/jobs", body, headers)
        with connection.getresponse() as response:
            job: str = json.load(response)["job"]
    return job


def test_a_capability_shows_its_job_to_the_end_and_no_other(address: str, capfd: Capture) -> None:
    job, other = submitted(address), submitted(address)
    assert main(["token", "--job", job, "--bare"]) == 0
    Path("capability").write_text(capfd.readouterr().out)

    assert main(["tail", address, "--job", job, "--token", "file:capability"]) == 0
    with_capability = capfd.readouterr()
    assert main(["tail", address, "--job", job, "--token", "env:ANN"]) == 0
    assert with_capability == capfd.readouterr()
    assert json.loads(with_capability.out.splitlines()[-1])["type"] == "done"

    assert main(["tail", address, "--job", other, "--token", "file:capability"]) == 2
    assert capfd.readouterr().err == f"relay: no job '{other}' is known at {address}; GET {address}/v1/jobs lists all\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "answers 401: this needs an access: send `Authorization: Bearer` with a token, or sign in; present what"),
        (["--token", "env:SIGNING"], "answers 401: this token is not valid here, or has expired; present what"),
        (["--token", "env:BOB"], "answers 403: this access does not have the scope jobs:read; present what"),
    ],
)
def test_a_refusal_is_one_line_and_status_2(arguments: list[str], said: str, address: str, capfd: Capture) -> None:
    assert main(["tail", address, *arguments]) == 2
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"relay: {address} {said}")
    assert printed.err.count("\n") == 1


def test_an_address_that_presents_wrong_tokens_is_asked_to_wait(address: str, capfd: Capture) -> None:
    for _ in range(10):
        assert main(["tail", address, "--token", "env:SIGNING"]) == 2
    capfd.readouterr()
    assert main(["tail", address, "--token", "env:SIGNING"]) == 2
    said = capfd.readouterr().err
    assert f"relay: {address} answers 429: too many tokens of this address were not valid; wait before the next" in said
    assert said.rstrip().endswith(" s")
    assert "try again in " in said
