"""What the detail of a refusal repeats of a request: no token, and nothing that tells whether it guessed a secret."""

import pytest

from relay import Redactor, Relay
from relay.cli.api_keys import new_key
from relay.testing import ManualClock
from tests.web.serving import serve

SECRET = "correct-horse-battery-staple-0123456789"


@pytest.mark.parametrize("path", ["/v1/jobs/{}", "/v1/videos/{}", "/v1/responses/resp_{}", "/{}", "/static/{}"])
async def test_a_part_of_a_secret_is_repeated_as_any_other_text(path: str) -> None:
    """If it were masked, a client could look for a secret word by word."""
    relay = Relay([], clock=ManualClock(), redactor=Redactor([SECRET]))
    async with serve(relay) as client:
        answers = [await (await client.get(path.format(word))).text() for word in ("battery-staple", "battery-stable")]
    assert answers[0].replace("staple", "stable") == answers[1]
    assert "***" not in answers[0]


@pytest.mark.parametrize("path", ["/v1/jobs/{}", "/v1/videos/{}", "/v1/responses/resp_{}", "/{}", "/static/{}"])
async def test_a_token_is_not_repeated(path: str) -> None:
    key = new_key()
    async with serve(Relay([], clock=ManualClock())) as client:
        answer = await client.get(path.format(key))
        text = await answer.text()
    assert answer.status == 404
    assert key[4:] not in text
