"""What the relay signs is recognised as what it was made for, by the key that made it, and nothing else is."""

import string
from typing import Final, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from web.access.signing import SIGNED_LIMIT, Claims, Purpose, Signer

NOW: Final = 1_767_225_600.0
SIGNER: Final = Signer(b"a key")
PURPOSES: Final[tuple[Purpose, ...]] = get_args(Purpose)
CLAIMS: Final = Claims(subject="key:ann", scopes=("jobs:read",), jobs="own", expires=int(NOW) + 60, issued=int(NOW))

names = st.text(st.characters(codec="ascii", categories=["L", "N"], include_characters="_.-"), min_size=1, max_size=40)
claims = st.builds(
    Claims,
    subject=st.text(min_size=1, max_size=40),
    scopes=st.lists(st.sampled_from(["jobs:read", "operate"]), max_size=2).map(tuple),
    jobs=st.sampled_from(["own", "*"]) | st.lists(names, max_size=5).map(tuple),
    expires=st.integers(int(NOW) + 1, 2**33),
    issued=st.integers(0, int(NOW)),
    credential=st.text(max_size=40),
    renew=st.none() | st.floats(1, 1_000),
    nonce=names,
)


def made(purpose: Purpose, signer: Signer = SIGNER) -> str:
    """A valid text for *purpose*."""
    match purpose:
        case "watch":
            return signer.sign_watch("job_1", int(NOW) + 60)
        case "bound":
            return signer.bind("rlt_ticket", "/v1/events")
        case _:
            return signer.sign(purpose, CLAIMS)


def accepts(purpose: Purpose, text: str, signer: Signer = SIGNER) -> bool:
    match purpose:
        case "watch":
            return signer.verify_watch(text, NOW) is not None
        case "bound":
            return signer.is_bound(text, "rlt_ticket", "/v1/events")
        case _:
            return signer.verify(purpose, text, NOW) is not None


@given(claims=claims, purpose=st.sampled_from(["session", "ticket"]))
def test_claims_come_back_as_they_were_signed(claims: Claims, purpose: Purpose) -> None:
    text = SIGNER.sign(purpose, claims)

    assert text.isascii()
    assert text.isprintable()
    assert not set(text) & set(' ;,"\\')
    assert SIGNER.verify(purpose, text, NOW) == claims


@pytest.mark.parametrize("signed", PURPOSES)
@pytest.mark.parametrize("wanted", PURPOSES)
def test_what_was_signed_for_one_purpose_is_nothing_for_another(signed: Purpose, wanted: Purpose) -> None:
    text = made(signed)

    assert accepts(wanted, text) is (signed == wanted)
    if signed != wanted:
        prefix = made(wanted).partition("_")[0]
        assert not accepts(wanted, f"{prefix}_{text.partition('_')[2]}")


@pytest.mark.parametrize("purpose", PURPOSES)
def test_every_change_of_one_character_is_refused(purpose: Purpose) -> None:
    text = made(purpose)
    accepted = [
        (place, character)
        for place in range(len(text))
        for character in string.printable + "\xe9\x00\u0131"
        if character != text[place] and accepts(purpose, text[:place] + character + text[place + 1 :])
    ]

    assert accepted == []


@pytest.mark.parametrize("purpose", PURPOSES)
def test_no_part_of_it_and_nothing_beside_it_is_accepted(purpose: Purpose) -> None:
    text = made(purpose)
    others = [text[:end] for end in range(len(text))] + [text[start:] for start in range(1, len(text))]
    others += [text + more for more in ("=", "==", ".", " ", "\n", "\0", "A", "." + text, text)]

    assert not any(accepts(purpose, other) for other in others)


@pytest.mark.parametrize("purpose", PURPOSES)
def test_another_key_accepts_nothing(purpose: Purpose) -> None:
    for other in (Signer(b"a kez"), Signer(), Signer(b"a key" + b"\0" * 100)):
        assert not accepts(purpose, made(purpose), other)
        assert not accepts(purpose, made(purpose, other))
        # Nor with the name of the key exchanged, which is no part of it.
        assert not accepts(purpose, made(purpose, other).replace(other.id, SIGNER.id))
    assert accepts(purpose, made(purpose), Signer(b"a key"))


@given(text=st.text(max_size=200), purpose=st.sampled_from(PURPOSES), whole=st.booleans())
def test_no_text_raises(text: str, purpose: Purpose, whole: bool) -> None:
    prefix = "" if whole else f"{made(purpose).partition('.')[0]}."

    assert not accepts(purpose, prefix + text)


@pytest.mark.parametrize("purpose", PURPOSES)
def test_a_long_text_is_refused_before_anything_is_computed(purpose: Purpose) -> None:
    assert not accepts(purpose, made(purpose).partition(".")[0] + "." + "a" * SIGNED_LIMIT)


def test_what_is_signed_has_an_end() -> None:
    for now, expected in ((NOW + 59.999, True), (NOW + 60, False), (NOW + 1e9, False)):
        assert (SIGNER.verify("session", made("session"), now) is not None) is expected
        assert (SIGNER.verify_watch(made("watch"), now) is not None) is expected


@given(job=names, end=st.integers(int(NOW) + 1, 2**40))
def test_a_link_is_of_the_job_that_it_was_made_for(job: str, end: int) -> None:
    assert SIGNER.verify_watch(SIGNER.sign_watch(job, end), NOW) == (job, end)


@given(ticket=names, path=names, other=names)
def test_what_binds_a_ticket_binds_it_to_one_path(ticket: str, path: str, other: str) -> None:
    bound = SIGNER.bind(ticket, f"/{path}")

    assert SIGNER.is_bound(bound, ticket, f"/{path}")
    assert SIGNER.is_bound(bound, ticket, f"/{other}") is (path == other)
    assert SIGNER.is_bound(bound, other, f"/{path}") is (ticket == other)


def test_the_name_of_a_key_tells_nothing_of_it_and_nothing_of_it_is_shown() -> None:
    key = b"a key that is long enough to be one"
    signer = Signer(key)

    assert len(signer.id) == 8
    assert key.hex()[:8] != signer.id
    assert key.decode() not in repr(signer) + made("session", signer)
