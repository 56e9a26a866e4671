"""A stream whose access ends: it goes on with another secret if there is one, and says so in one line if not."""

import asyncio
from collections.abc import Mapping

import pytest

from relay import Relay
from relay.cli.stream import NOW, RelayStream, Remark
from relay.config.access_settings import AccessSettings, KeySettings
from relay.errors import UsageError
from relay.secret import Secret
from relay.testing import ManualClock
from tests.cli.test_stream import BUSY, UP_TO_DATE, Waits, block, cursors, cut, notice, stream
from tests.relay.scripted import RUNNING, TwoStep, story
from tests.upstreams.stub import Stub, reply
from tests.web.access.keys import ANN, BOB, OPERATOR
from tests.web.serving import serve_app
from web import GUARD, create_app
from web.access.signing import Signer

EXPIRING = notice("expiring", 1, expires="2026-01-01T00:01:00Z")
DENIED = notice("denied", 1, reason="the access to this stream has expired")
REFUSED = reply('{"detail": "this token is not valid here, or has expired"}', "401 Unauthorized")
PRESENT = "present what it asks for with --token, --basic or --header"


class Tokens:
    """Credentials: the first of *tokens*, until it is renewed."""

    def __init__(self, *tokens: str) -> None:
        self.tokens = list(tokens)

    def __call__(self) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {self.tokens[0]}"}

    def renew(self) -> None:
        del self.tokens[0]


class Renewing(Stub):
    """Renews *tokens* when it has been asked so many times."""

    def __init__(self, tokens: Tokens, renew: int, *replies: bytes | None) -> None:
        super().__init__(*replies)
        self._tokens = tokens
        self._renew = renew

    def next_answer(self, target: str) -> bytes | None:
        if len(self.requests) == self._renew:
            self._tokens.renew()
        return super().next_answer(target)


def presented(stub: Stub) -> list[str]:
    heads = [request.decode().split("\r\n") for request in stub.requests]
    return [line.removeprefix("Authorization: Bearer ") for head in heads for line in head if "Authorization" in line]


async def told(stub: Stub, tokens: Tokens) -> tuple[list[str], list[float]]:
    """The lines: records in words, remarks in brackets, an error in angle brackets; and the waits between."""
    clock, said = Waits(), list[str]()
    try:
        async for one in RelayStream(stub.url, ["a"], clock=clock, credentials=tokens).read():
            said.append(f"({one.text})" if isinstance(one, Remark) else one.event.text)
    except UsageError as error:
        said.append(f"<{str(error).replace(stub.url, 'URL')}>")
    return said, clock.waits


async def test_a_secret_that_is_renewed_before_the_access_ends_is_presented_at_once_and_nothing_is_missed() -> None:
    tokens = Tokens("old", "new")
    async with Renewing(tokens, 1, stream(block(1), EXPIRING), stream(block(2), UP_TO_DATE)) as stub:
        said, waits = await told(stub, tokens)

    assert said == [
        "line 1",
        "(expiring: the access to this stream ends at 2026-01-01T00:01:00Z)",
        "(there is another secret by now; coming back with it)",
        "(the connection is back)",
        "line 2",
        "done",
    ]
    assert (presented(stub), cursors(stub), waits) == (["old", "new"], [None, "e-1"], [0.5])


async def test_a_secret_that_stays_as_it_is_is_presented_until_the_end_of_its_access_and_not_again() -> None:
    tokens = Tokens("old")
    async with Stub(stream(block(1), EXPIRING, block(2), DENIED, block(3))) as stub:
        said, waits = await told(stub, tokens)

        assert len(stub.requests) == 1
    assert said == [
        "line 1",
        "(expiring: the access to this stream ends at 2026-01-01T00:01:00Z)",
        "line 2",
        "<URL has ended this stream (denied: the access to this stream has expired); present another secret with"
        " --token, --basic or --header>",
    ]
    assert waits == []


async def test_an_access_that_was_withdrawn_is_gone_on_with_by_another_secret() -> None:
    tokens = Tokens("old", "new")
    async with Renewing(tokens, 1, stream(block(1), DENIED), stream(UP_TO_DATE)) as stub:
        said, waits = await told(stub, tokens)

    assert said == [
        "line 1",
        "(denied: the access to this stream has expired; coming back with another secret in 0.5 s)",
        "(the connection is back)",
        "done",
    ]
    assert (presented(stub), waits) == (["old", "new"], [0.5])


@pytest.mark.parametrize(
    ("data", "why"),
    [("", "denied"), ("[1]", "denied"), ('{"reason": 7}', "denied"), ('{"reason": "%s"}' % ("x" * 9_999), "denied: x")],
)
async def test_a_denial_may_say_anything_and_ends_in_one_bounded_line(data: str, why: str) -> None:
    async with Stub(stream(f"event: denied\ndata: {data}\nid: e-1\n\n".encode())) as stub:
        said, _ = await told(stub, Tokens("old"))
    assert len(said) == 1
    assert said[0].startswith(f"<URL has ended this stream ({why}")
    assert len(said[0]) < 400


async def test_a_relay_that_denies_each_new_secret_is_asked_more_and_more_rarely() -> None:
    tokens = Tokens(*map(str, range(9)))

    class Denying(Stub):
        def next_answer(self, target: str) -> bytes | None:
            if len(tokens.tokens) > 1:
                tokens.renew()
            return super().next_answer(target)

    async with Denying(stream(DENIED)) as stub:
        _, waits = await told(stub, tokens)

    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


async def test_a_refusal_after_a_lost_connection_ends_it_unless_there_is_another_secret_by_then() -> None:
    same, renewed = Tokens("old"), Tokens("old", "new")
    async with Stub(cut(block(1)), REFUSED) as stub:
        said, waits = await told(stub, same)
        assert len(stub.requests) == 2
    assert said[-1] == f"<URL answers 401: this token is not valid here, or has expired; {PRESENT}>"
    async with Renewing(renewed, 2, cut(block(1)), REFUSED, stream(UP_TO_DATE)) as stub:
        said, waits = await told(stub, renewed)
    assert (said[-1], waits, presented(stub)) == ("done", [0.5, 1.0], ["old", "old", "new"])


@pytest.mark.parametrize(
    ("headers", "when"), [({"retry_after": "6"}, "in 6 s"), ({}, "later"), ({"retry_after": "soon"}, "later")]
)
async def test_too_many_attempts_are_one_sentence_and_no_further_attempt(headers: dict[str, str], when: str) -> None:
    much = reply('{"detail": "too many tokens were not valid"}', "429 Too Many Requests", **headers)
    async with Stub(much) as stub:
        said, waits = await told(stub, Tokens("old"))

        assert len(stub.requests) == 1
    assert (said, waits) == ([f"<URL answers 429: too many tokens were not valid; try again {when}>"], [])


@pytest.mark.parametrize(("asked", "wait"), [("45", 45.0), ("0", 0.5), ("999999", 300.0), ("9" * 40, 0.5), ("-1", 0.5)])
async def test_a_lost_connection_is_tried_again_no_sooner_than_the_relay_asks_for(asked: str, wait: float) -> None:
    much = reply("", "429 Too Many Requests", retry_after=asked)
    async with Stub(cut(block(1)), much, BUSY, stream(UP_TO_DATE)) as stub:
        said, waits = await told(stub, Tokens("old"))

    assert (said[-1], waits) == ("done", [0.5, max(wait, 1.0), 2.0])


def keys(*tokens: str) -> AccessSettings:
    listed = tuple(KeySettings(name=f"k{n}", key=Secret(token), jobs="*") for n, token in enumerate(tokens))
    return AccessSettings(keys=listed, signing_key=Secret(OPERATOR))


async def test_a_key_that_a_real_relay_takes_back_is_followed_by_the_next_one_without_a_hole() -> None:
    clock = ManualClock()
    relay = Relay([TwoStep(story({"t": RUNNING}))], clock=clock)
    app = create_app(relay, access=keys(ANN), send_timeout=3_600, slow_after=3_600)
    tokens = Tokens(ANN, BOB)
    async with serve_app(app) as client:
        job = relay.follow("scripted", "t")
        url, remarks, seqs = str(client._base_url).rstrip("/"), list[str](), list[int]()
        async for one in RelayStream(url, [job.id], clock=Waits(), credentials=tokens).read():
            if isinstance(one, Remark):
                remarks.append(one.text)
            else:
                seqs.append(one.seq)
            if seqs == [1] and not remarks:
                tokens.renew()
                app[GUARD].reload(keys(BOB))
            elif isinstance(one, Remark) and one.text == "the connection is back":
                await relay.cancel(job.id)

    assert remarks == [
        "denied: the access to this stream was withdrawn; coming back with another secret in 2 s",
        "the connection is back",
    ]
    assert (seqs, job.state.status) == (list(range(1, job.state.seq + 1)), "cancelled")


async def test_a_session_that_has_ended_is_a_refusal_and_no_end_of_the_story() -> None:
    """What a browser presents by itself is answered 204 on a stream."""
    app = create_app(Relay([]), access=keys(ANN))
    async with serve_app(app) as client:
        name = f"relay-{Signer(OPERATOR.encode()).id}"
        url = str(client._base_url).rstrip("/")
        stream = RelayStream(url, clock=Waits(), credentials=lambda: {"Cookie": f"{name}=none"})
        with pytest.raises(UsageError, match="accepts this session or ticket no more; present another secret"):
            await anext(stream.read())


async def test_a_wrong_token_at_the_start_is_one_sentence_also_with_now() -> None:
    app = create_app(Relay([]), access=keys(ANN))
    async with serve_app(app) as client:
        for since in ("start", NOW):
            url = str(client._base_url).rstrip("/")
            reading = RelayStream(url, since=since, clock=Waits(), credentials=Tokens(BOB)).read()
            with pytest.raises(UsageError) as refused:
                await anext(reading)
            said = f"{url} answers 401: this token is not valid here, or has expired; {PRESENT}"
            assert str(refused.value) == said
    assert asyncio.all_tasks() == {asyncio.current_task()}
