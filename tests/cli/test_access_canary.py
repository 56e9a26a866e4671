"""No token and no secret of [access] leaves a relay, whichever way in is used, and however it is used wrongly."""

import json
import re
import signal
import socket
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPMessage
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

import jwt
import pytest

from relay.cli.api_keys import new_key
from relay.clock import SystemClock
from tests.cli.running import Running, relay

SIGNING: Final = "signing-canary-Kq7Zx1Vb93LmTr5Yw8Nd"
PROXY: Final = "proxy-canary-Hs4Pc6Ju2Fg0Ra8Ei1Ot"
HMAC: Final = "hmac-canary-Bd5Wn7Xe3Cv9Mz1Lk2Qs4Tp"

CONFIG: Final = """
[server]
port = 0
debug = true
heartbeat = "1s"
[journal]
url = "sqlite:relay.db"
[[sinks]]
kind = "console"
level = "debug"
format = "json"
[[sinks]]
kind = "file"
path = "jobs.jsonl"
[[upstreams]]
kind = "sora"
base_url = "{base_url}"
token = "env:TOKEN"
interval = "100ms"
[access]
signing_key = "env:SIGNING"
[[access.keys]]
name = "ann"
key = "env:ANN"
scopes = "jobs:read jobs:submit jobs:cancel operate"
[access.jwt]
issuer = "https://login.example"
audience = "relay"
algorithms = ["HS256"]
key = "env:HMAC"
[access.proxy]
from = ["127.0.0.1/32"]
secret = "env:PROXY"
"""


class Client:
    """Sends requests to one relay, and keeps all that it answers."""

    def __init__(self, address: str) -> None:
        self.place = urlsplit(address).netloc
        self.answers: list[str] = []

    def ask(self, method: str, path: str, body: object = None, /, **headers: str) -> tuple[int, str, HTTPMessage]:
        """The status, the text and the head of an answer."""
        answer = self.ask_for_token(method, path, body, **headers)
        self.answers += [answer[1], str(answer[2])]
        return answer

    def ask_for_token(
        self, method: str, path: str, body: object = None, /, **headers: str
    ) -> tuple[int, str, HTTPMessage]:
        """The same for an answer that is to hold a token."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = None if body is None else json.dumps(body)
        with closing(HTTPConnection(self.place)) as connection:
            connection.request(method, path, sent, {"Content-Type": "application/json", **fields})
            with connection.getresponse() as response:
                text = response.read().decode("utf-8", "replace")
        return response.status, text, response.headers

    def send(self, request: bytes) -> None:
        """Send bytes that are no request."""
        with socket.create_connection((self.place.partition(":")[0], int(self.place.partition(":")[2]))) as raw:
            raw.sendall(request)
            self.answers.append(raw.makefile("rb").read().decode("utf-8", "replace"))


@contextmanager
def running(folder: Path, key: str) -> Iterator[tuple[Running, Client]]:
    with relay("fake", "--port", "0", "--speed", "50", folder=folder) as fake:
        base_url, token = fake.says(r"base_url (\S+)")[1], fake.says(r"token (\S+)")[1]
        (folder / "relay.toml").write_text(CONFIG.format(base_url=base_url))
        secrets = {"ANN": key, "SIGNING": SIGNING, "PROXY": PROXY, "HMAC": HMAC, "TOKEN": token}
        with relay("serve", folder=folder, **secrets) as serve:  # type: ignore[arg-type]
            yield serve, Client(serve.says(r"serving on (\S+)/;")[1])


def submitted(client: Client, **headers: str) -> tuple[str, str]:
    """A job that has ended, and the capability of its link."""
    new = {"upstream": "sora", "input": {"prompt": "a cat"}}
    status, text, _ = client.ask_for_token("POST", "/v1/jobs", new, **headers)
    assert status == 201, text
    answer = json.loads(text)
    capability: str = answer["watch"].partition("#watch=")[2]
    assert client.ask("GET", f"/v1/jobs/{answer['job']}/events?debug=1", **headers)[0] == 200
    return answer["job"], capability


def misuse(client: Client, token: str, job: str) -> None:
    """Put *token* everywhere where it does not belong."""
    mine = {"Authorization": f"Bearer {token}"}
    spelled = quote(token, safe="")
    for path in (
        f"/v1/jobs/{spelled}",
        f"/v1/jobs/{spelled}/events",
        f"/v1/events?job={spelled}",
        f"/v1/events?follow=false&ticket={spelled}",
        f"/v1/jobs/{job}/events?ticket={spelled}&access_token={spelled}",
        f"/{spelled}",
        f"/static/{spelled}",
        f"/v1/videos/{spelled}",
        f"/v1/webhooks/sora/{job}/{spelled}",
    ):
        client.ask("GET", path)
        client.ask("GET", path, **mine)
    for name in ("Referer", "User_Agent", "Origin", "Host", "Last_Event_ID", "X_Forwarded_User", "X_Forwarded_For"):
        client.ask("GET", "/v1/jobs", **{name: f"https://{token}" if name in ("Referer", "Origin") else token}, **mine)
    client.ask("GET", "/v1/jobs", Authorization=f"Bearer {token}x")
    client.ask("GET", "/v1/jobs", Authorization=f"Basic {token}")
    client.ask("GET", "/v1/jobs", Cookie=f"relay-00000000={token}; rt_00000000={token}")
    client.ask("GET", "/v1/jobs", X_Forwarded_User="ann", X_Relay_Proxy=token)
    for body in ({"upstream": token, "task": "t"}, {"upstream": "sora", "input": {"prompt": "x", token: token}}):
        client.ask_for_token("POST", "/v1/jobs", body, **mine)
    client.ask("POST", "/v1/tickets", {"jobs": [token], "ttl": token}, **mine)
    client.ask("POST", f"/v1/sinks/{spelled}", {"level": token}, **mine)
    client.send(f"GET /v1/jobs?ticket={token} HTTP/9.9\r\n\r\n".encode())
    client.send(f"{token}\r\n\r\n".encode())


def test_no_token_leaves_whichever_way_in_is_used_and_however(tmp_path: Path) -> None:
    key = new_key()
    exp = int(SystemClock().now().timestamp()) + 3_600
    claims = {"iss": "https://login.example", "aud": "relay", "sub": "dan", "exp": exp}
    token_of_issuer = jwt.encode({**claims, "scope": "jobs:read jobs:submit"}, HMAC, "HS256")
    tokens = {"key": key, "jwt": token_of_issuer}
    with running(tmp_path, key) as (serve, client):
        mine, dans = {"Authorization": f"Bearer {key}"}, {"Authorization": f"Bearer {token_of_issuer}"}
        users = {"X_Forwarded_User": "bob", "X_Relay_Proxy": PROXY}
        job, tokens["watch"] = submitted(client, **mine)
        submitted(client, **dans)
        assert client.ask("GET", "/v1/jobs", **users)[0] == 200
        assert client.ask("GET", f"/v1/jobs/{job}", Authorization=f"Bearer {tokens['watch']}")[0] == 200

        _, _, head = client.ask_for_token("POST", "/v1/session", **mine)
        cookie = head["Set-Cookie"].partition(";")[0]
        tokens["session"] = cookie.partition("=")[2]
        assert client.ask("GET", f"/v1/jobs/{job}/events", Cookie=cookie)[0] == 200

        _, text, _ = client.ask_for_token("POST", "/v1/tickets", {"jobs": [job]}, **mine)
        tokens["ticket"] = json.loads(text)["ticket"]
        stream = f"/v1/jobs/{job}/events?ticket={tokens['ticket']}"
        status, _, head = client.ask_for_token("GET", stream)
        assert status == 200
        tokens["bound"] = head["Set-Cookie"].partition(";")[0].partition("=")[2]
        assert client.ask("GET", stream, Cookie=head["Set-Cookie"].partition(";")[0])[0] == 200
        assert client.ask("GET", stream)[0] == 204

        for token in tokens.values():
            misuse(client, token, job)
        for secret in (SIGNING, PROXY, HMAC):
            misuse(client, secret, job)
        for path in ("/metrics", "/v1/sinks", "/v1/jobs", "/healthz", "/readyz", "/v1/models", "/v1/session"):
            assert client.ask("GET", path, **mine)[0] == 200
        _, _, page = client.ask("GET", "/")
        assert page["Referrer-Policy"] == "no-referrer"

        file = tmp_path / "relay.toml"
        file.write_text(file.read_text().replace('"env:ANN"', f'"{key}"'))
        serve.interrupt(signal.SIGHUP)
        serve.says(r"\[access\] stays as it was: .+ key is a secret; keep it out of the file")
        serve.interrupt(signal.SIGTERM)
        assert serve.ends() == 0

    left = {
        "standard error": "\n".join(serve.said),
        "standard output": "\n".join(serve.printed),
        "the file of a sink": (tmp_path / "jobs.jsonl").read_text(),
        "the journal": b"".join(part.read_bytes() for part in tmp_path.glob("relay.db*")).decode("latin-1"),
        "the answers": "\n".join(client.answers),
    }
    assert found_in(left, tokens) == []
    # An answer may repeat to a client what it has sent itself: to mask that would say that it is a part of a secret.
    del left["the answers"]
    assert found_in(left, {"signing": SIGNING, "proxy": PROXY, "hmac": HMAC}) == []
    assert "was refused (401)" in left["standard error"]
    assert "key:ann at 127.0.0.1 submitted" in left["standard error"]


def found_in(texts: Mapping[str, str], secrets: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Where the end of a secret is, which is a part of its signature, or random, with what stands before it."""
    return [
        (where, kind, match[0])
        for where, text in texts.items()
        for kind, secret in secrets.items()
        for match in re.finditer(rf".{{0,200}}{re.escape(secret[-16:])}", text)
    ]


@pytest.mark.parametrize("kind", ["Signer", "Guard", "AccessSettings"])
def test_no_repr_shows_a_secret(kind: str) -> None:
    from relay import Relay
    from relay.config.access_settings import AccessSettings, KeySettings
    from relay.secret import Secret
    from web import GUARD, create_app

    key = new_key()
    settings = AccessSettings(keys=(KeySettings(name="ann", key=Secret(key)),), signing_key=Secret(SIGNING))
    guard = create_app(Relay([]), access=settings)[GUARD]
    shown = {"Signer": repr(guard.signer), "Guard": repr(vars(guard)), "AccessSettings": repr(settings)}[kind]
    assert key[-16:] not in shown
    assert SIGNING[-16:] not in shown
