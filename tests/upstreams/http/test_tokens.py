"""A token can be replaced while jobs run, and neither the old one nor the new one is ever told."""

import json
import os
from pathlib import Path

import pytest

from relay.errors import ConfigError, UpstreamError, UsageError
from relay.events import Exchange
from relay.secret import Secret, read_secret
from relay.testing import ManualClock
from relay.upstreams.dialects.sora import Sora
from relay.upstreams.http.client import HttpClient
from tests.upstreams.stub import Stub, reply

OLD, NEW = "canary-old", "canary-new"


def sent(request: bytes) -> str:
    return request.partition(b"Authorization: Bearer ")[2].partition(b"\r\n")[0].decode()


async def test_a_token_that_is_a_function_is_read_before_each_request() -> None:
    tokens = [OLD, OLD, NEW, NEW]
    async with Stub(reply("[]")) as stub, HttpClient(stub.url, lambda: tokens.pop(0), upstream="test") as http:
        for _ in range(3):
            await http.request("GET", "jobs")

    assert [sent(request) for request in stub.requests] == [OLD, NEW, NEW]


async def test_both_tokens_are_masked_whichever_the_upstream_repeats() -> None:
    tokens, heard = [OLD, NEW], list[Exchange]()
    async with (
        Stub(reply(json.dumps({"message": f"not {OLD}, and not {NEW}"}), "401 Unauthorized")) as stub,
        HttpClient(stub.url, lambda: tokens.pop(0), upstream="test") as http,
    ):
        with pytest.raises(UpstreamError) as refused:
            await http.request("GET", "jobs", on_exchange=heard.append)

    assert refused.value.message == "the upstream answered 401: not ***, and not ***"
    assert "canary" not in repr(heard)


def test_the_credential_changes_with_the_token_and_tells_nothing_of_it() -> None:
    tokens = [OLD, OLD, NEW, OLD]
    http = HttpClient("http://127.0.0.1", lambda: tokens.pop(0), upstream="test")

    assert [http.token_version() for _ in range(3)] == [1, 2, 3]


def test_a_token_that_is_given_as_it_is_never_changes() -> None:
    http = HttpClient("http://127.0.0.1", OLD, upstream="test")

    assert http.token_version() == http.token_version()


def broken() -> str:
    raise ConfigError(f"no such file, and {OLD} was in it")


async def test_a_token_that_cannot_be_had_is_an_error_of_kind_auth_and_no_request() -> None:
    parts = [OLD]
    async with (
        Stub(reply("[]")) as stub,
        HttpClient(stub.url, lambda: parts.pop() if parts else broken(), upstream="test") as http,
    ):
        with pytest.raises(UpstreamError, match=r"^the token cannot be had \(ConfigError\)") as error:
            await http.request("GET", "jobs")

    assert (error.value.kind, error.value.__context__, stub.requests) == ("auth", None, [])


def test_a_token_that_no_header_can_hold_is_refused_whoever_returns_it() -> None:
    with pytest.raises(UsageError, match="printable ASCII"):
        HttpClient("http://127.0.0.1", lambda: "two\r\nlines", upstream="test")


async def test_an_exchange_of_a_long_answer_holds_no_half_of_a_token() -> None:
    def told(padding: int) -> bytes:
        return reply(json.dumps(["x" * padding, *[OLD * 3] * 20_000]))

    heard: list[Exchange] = []
    async with (
        Stub(*[told(padding) for padding in range(len(OLD) + 1)]) as stub,
        HttpClient(stub.url, OLD, upstream="test") as http,
    ):
        for _ in range(len(OLD) + 1):
            await http.request("GET", "jobs", on_exchange=heard.append)

    assert "can" not in repr([exchange.response for exchange in heard])


def test_a_secret_from_a_file_is_read_again_when_the_file_has_changed(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(OLD + "\n")
    secret = read_secret("file:token", {}, tmp_path)
    seen = [secret.reveal()]
    (tmp_path / "next").write_text(NEW)
    os.replace(tmp_path / "next", file)
    seen.append(secret.reveal())
    file.write_text("")
    seen.append(secret.reveal())
    file.unlink()
    seen.append(secret.reveal())
    file.write_text(OLD)

    assert [*seen, secret.reveal()] == [OLD, NEW, NEW, NEW, OLD]


def test_a_secret_without_a_file_stays_as_it_is() -> None:
    assert Secret(OLD).reveal() == read_secret("env:T", {"T": OLD}, Path()).reveal() == OLD


def pending(count: int) -> bytes:
    item = {"status": "running", "progress_pct": 0.5, "prompt": "x" * 1_200}
    return reply(json.dumps([{"id": f"task_{number}", **item} for number in range(count)]))


async def test_a_list_of_ten_thousand_pending_tasks_is_read_whole() -> None:
    async with Stub(pending(10_000)) as stub, Sora(stub.url, "token", clock=ManualClock()) as sora:
        answer = await sora.observe(["task_0", "task_9999"])

    assert (answer.listed, list(answer.tasks)) == (10_000, ["task_0", "task_9999"])


async def test_a_list_beyond_the_limit_is_malformed() -> None:
    async with Stub(pending(14_000)) as stub, Sora(stub.url, "token", clock=ManualClock()) as sora:
        with pytest.raises(UpstreamError, match=r"^the answer is longer than 16,777,216 bytes$") as error:
            await sora.observe(["task_0"])

    assert error.value.kind == "malformed"
