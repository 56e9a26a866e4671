"""The vectors of Project Wycheproof for signatures and keys: no token that is not valid passes."""

import json
from pathlib import Path
from typing import Any, Final

from web.access.jws import RefusedError, read_signed
from web.access.jwt_keys import FAMILIES, read_key_set

VECTORS: Final = Path(__file__).parent / "wycheproof"

OTHER_ALGORITHM: Final = {346, 347, 350, 351}
"""Valid to Wycheproof: token and key name different algorithms, or the key one that does not exist (`ES521`)."""

OTHER_CHARACTER: Final = {372, 373}
"""Valid to Wycheproof: a `?` in the header or the payload, which RFC 7515, 2 does not allow."""

NO_PADDING: Final = {367, 370}
"""Not valid to Wycheproof, for their padding. But they have none: both are the token of test 357, which is valid."""

MIXED: Final = {1}
"""Not valid to Wycheproof, as the set has keys of two families. The configuration names one; others are not used."""


def cases(name: str) -> list[Any]:
    """(number, keys, token, whether it is valid) of each test."""
    document = json.loads((VECTORS / name).read_text("utf-8"))
    found = []
    for group in document["testGroups"]:
        keys = group.get("public", group["private"])
        for case in group["tests"]:
            token = case["jws"] if isinstance(case["jws"], str) else json.dumps(case["jws"])
            found.append((case["tcId"], keys.get("keys", [keys]), token, case["result"] == "valid"))
    assert len(found) == document["numberOfTests"]
    return found


def accepted(keys: list[dict[str, Any]], token: str) -> bool:
    """Whether the token is accepted by a relay that is configured for any one family of algorithms."""
    for algorithms in FAMILIES.values():
        ring, _ = read_key_set(json.dumps({"keys": keys}).encode(), algorithms)
        try:
            ring.check(read_signed(token, algorithms))
        except RefusedError:
            continue
        return True
    return False


def departures(name: str) -> tuple[set[int], set[int]]:
    """The numbers of the tests that are valid and refused, and of those that are not and accepted."""
    refused: set[int] = set()
    passed: set[int] = set()
    for number, keys, token, valid in cases(name):
        if accepted(keys, token) != valid:
            (refused if valid else passed).add(number)
    return refused, passed


def test_signatures() -> None:
    assert departures("json_web_signature_test.json") == (OTHER_ALGORITHM | OTHER_CHARACTER, NO_PADDING)


def test_keys() -> None:
    assert departures("json_web_key_test.json") == (set(), MIXED)


def test_the_tokens_that_should_have_padding_are_those_of_a_valid_test() -> None:
    tokens = {number: token for number, _, token, _ in cases("json_web_signature_test.json")}

    assert {tokens[number] for number in NO_PADDING} == {tokens[357]}
