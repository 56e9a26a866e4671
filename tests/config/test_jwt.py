"""[access.jwt]: where the keys of an issuer are, and what is an error when the configuration is read."""

from pathlib import Path

import pytest

from relay import ConfigError
from relay.config import load
from relay.config.access_settings import JwtSettings

ISSUER = '[access.jwt]\nissuer = "https://login.example"\naudience = "relay"\nalgorithms = ["RS256"]\n'
PEM = "-----BEGIN PUBLIC KEY-----\nAAAA\nBBBB\n-----END PUBLIC KEY-----"


def read(folder: Path, text: str, **environ: str) -> JwtSettings:
    path = folder / "relay.toml"
    path.write_text(ISSUER + text, encoding="utf-8")
    access = load(path, environ).access
    assert access is not None
    assert access.jwt is not None
    return access.jwt


def test_a_key_may_have_several_lines(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text(f"{PEM}\n", encoding="utf-8")

    for found in (read(tmp_path, 'key = "file:key.pem"'), read(tmp_path, 'key = "env:KEY"', KEY=PEM)):
        assert found.key is not None
        assert found.key.reveal() == PEM


def test_the_file_of_a_key_set_is_relative_to_the_configuration(tmp_path: Path) -> None:
    assert read(tmp_path, 'jwks = "file:keys.json"').jwks == f"file:{tmp_path / 'keys.json'}"
    assert read(tmp_path, 'jwks = "file:/etc/relay/keys.json"').jwks == "file:/etc/relay/keys.json"
    assert read(tmp_path, 'jwks = "https://login.example/keys"').jwks == "https://login.example/keys"


def test_a_token_is_a_minute_late_at_most_unless_that_is_said(tmp_path: Path) -> None:
    assert read(tmp_path, 'jwks = "file:a"').leeway == 60.0
    assert read(tmp_path, 'jwks = "file:a"\nleeway = "5s"').leeway == 5.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "needs either `key` or `jwks`, with which signatures are verified"),
        ('key = "env:KEY"\njwks = "file:a"', "needs either `key` or `jwks`, with which signatures are verified"),
        (
            'key = "the secret itself"',
            'key is a secret; keep it out of the file, and write "env:NAME" or "file:PATH" here',
        ),
        ('jwks = "file:a"\nleeway = "1h"', "leeway must be seconds from 0 to 300, not 3600.0"),
        ('jwks = "file:a"\nissuers = []', "has an unknown key 'issuers'; did you mean 'issuer'?"),
    ],
    ids=["no key", "two keys", "a secret", "leeway", "unknown"],
)
def test_what_cannot_be_is_one_sentence(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text, KEY=PEM)
    assert str(caught.value) == f"{tmp_path / 'relay.toml'}: [access.jwt] {expected}"
