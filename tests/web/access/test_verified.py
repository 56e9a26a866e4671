"""What is remembered of tokens: for a time, a bounded number, and none of their text."""

import gc

from web.access.verified import VERIFIED_LIMIT, VerifiedTokens


def test_a_token_is_known_until_its_time() -> None:
    verified: VerifiedTokens[str] = VerifiedTokens()
    verified.keep("token", "ann", 10.0)

    assert [verified.find("token", now) for now in (0.0, 9.999, 10.0, 0.0)] == ["ann", "ann", None, None]
    assert len(verified) == 0


def test_another_token_is_not_known() -> None:
    verified: VerifiedTokens[str] = VerifiedTokens()
    verified.keep("token", "ann", 10.0)

    assert [verified.find(token, 0.0) for token in ("token ", "toke", "", "TOKEN")] == [None] * 4


def test_the_token_that_was_not_used_for_longest_gives_way() -> None:
    verified: VerifiedTokens[int] = VerifiedTokens(3)
    for number in range(3):
        verified.keep(str(number), number, 10.0)
    verified.find("0", 0.0)
    verified.keep("2", 22, 10.0)
    assert len(verified) == 3
    verified.keep("3", 3, 10.0)

    assert [verified.find(str(number), 0.0) for number in range(4)] == [0, None, 22, 3]


def test_their_number_is_bounded() -> None:
    verified: VerifiedTokens[int] = VerifiedTokens()
    for number in range(VERIFIED_LIMIT + 100):
        verified.keep(str(number), number, 10.0)

    assert len(verified) == VERIFIED_LIMIT


def test_nothing_is_known_once_it_is_cleared() -> None:
    verified: VerifiedTokens[str] = VerifiedTokens()
    verified.keep("token", "ann", 10.0)
    verified.clear()

    assert verified.find("token", 0.0) is None


def test_the_token_itself_is_not_kept() -> None:
    verified: VerifiedTokens[str] = VerifiedTokens()
    token = "".join(["a", " ", "token"])
    verified.keep(token, "ann", 10.0)

    assert not any(isinstance(holder, dict | tuple | list) and token in holder for holder in gc.get_referrers(token))
