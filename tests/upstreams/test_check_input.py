"""What an adapter refuses without a request, it refuses the same when it is only checked."""

from collections.abc import Mapping
from typing import Any

import pytest

from relay import UsageError
from relay.upstreams import ChecksInput
from relay.upstreams.registry import DIALECTS, adapter

URL = "http://127.0.0.1:9"

REFUSED: dict[str, list[Mapping[str, Any]]] = {
    "sora": [{}, {"prompt": ""}, {"prompt": "a cat", "seconds": "4"}],
    "openai-videos": [{}, {"prompt": " "}],
    "new-api": [{"prompt": "a cat"}, {"model": "m"}],
    "runway": [{"endpoint": "nowhere"}],
    "luma": [{"prompt": "a cat"}, {"model": "m", "generation_type": "text"}],
    "replicate": [{}, {"version": "v", "model": "a/b"}, {"model": "no owner"}],
    "fal": [{}, {"model": "m", "fal_webhook": "nowhere"}],
    "veo": [{"prompt": "a cat"}, {"model": "veo-3"}],
    "kling": [{"route": "../x"}],
    "comfyui": [{}, {"prompt": "a cat"}],
}


def test_every_dialect_that_can_refuse_an_input_is_among_these() -> None:
    checking = {kind for kind in DIALECTS if issubclass(adapter(kind), ChecksInput)}
    assert checking == set(REFUSED)


@pytest.mark.parametrize(("kind", "input"), [(kind, input) for kind, inputs in REFUSED.items() for input in inputs])
async def test_a_check_refuses_what_a_submission_refuses_in_the_same_words(kind: str, input: Mapping[str, Any]) -> None:
    upstream = adapter(kind)(URL, "a-token", name=kind)
    assert isinstance(upstream, ChecksInput)
    with pytest.raises(UsageError) as checked:
        upstream.check_input(input)
    async with upstream:
        with pytest.raises(UsageError) as submitted:
            await upstream.submit(input)  # type: ignore[attr-defined]
    assert str(checked.value) == str(submitted.value)
