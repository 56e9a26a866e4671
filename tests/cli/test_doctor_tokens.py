"""`relay doctor` says whether the tokens of an issuer can be verified here, before the relay starts."""

from pathlib import Path

import pytest

from relay.cli import main
from tests.web.access.issuer import SECRET, jwk, jwks, pem

Capture = pytest.CaptureFixture[str]

CONFIG = """
[journal]
url = "memory:"
[access.jwt]
issuer = "https://login.example"
audience = "relay"
"""


def examined(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> tuple[int, list[str]]:
    """The status of `relay doctor`, and its rows about tokens and files."""
    (folder / "relay.toml").write_text(CONFIG + text, encoding="utf-8")
    monkeypatch.chdir(folder)
    status = main(["doctor"])
    lines = capsys.readouterr().out.splitlines()
    return status, [" ".join(line.split()) for line in lines if line.startswith(("tokens", "notice"))]


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ('algorithms = ["RS256", "PS256"]\nkey = "file:key.pem"', "RS256 or PS256"),
        ('algorithms = ["HS256"]\nkey = "env:SECRET"', "HS256"),
        ('algorithms = ["RS256"]\njwks = "file:keys.json"', "RS256"),
    ],
    ids=["key", "secret", "set"],
)
def test_tokens_that_can_be_verified_are_a_row(
    tmp_path: Path, text: str, row: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    (tmp_path / "key.pem").write_text(pem("RS256"), encoding="utf-8")
    (tmp_path / "keys.json").write_bytes(jwks(jwk("RS256")))
    monkeypatch.setenv("SECRET", SECRET)

    found = examined(tmp_path, text, monkeypatch, capsys)
    assert found == (0, [f"tokens of https://login.example for relay, signed with {row}, are accepted"])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            'algorithms = ["none"]\nkey = "env:SECRET"',
            "algorithms has 'none', with which every token is valid",
        ),
        ('algorithms = ["HS256", "RS256"]\nkey = "env:SECRET"', "algorithms must be of one family"),
        (
            'algorithms = ["HS256"]\nkey = "env:SHORT"',
            "the environment variable SHORT, which has 6 bytes",
        ),
        ('algorithms = ["HS256"]\nkey = "file:key.pem"', "which is a public key, and no secret"),
        ('algorithms = ["RS256"]\nkey = "file:weak.pem"', "has 1,024 bits; an RSA key has 2,048 to 8,192"),
        ('algorithms = ["RS256"]\njwks = "http://login.example/keys"', "jwks must be https"),
        (
            'algorithms = ["RS256"]\njwks = "file:none.json"',
            "none.json, which cannot be read: No such file",
        ),
    ],
    ids=["none", "mixed", "short", "public", "weak", "http", "no file"],
)
def test_tokens_that_anybody_could_sign_are_a_problem(
    tmp_path: Path, text: str, problem: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    (tmp_path / "key.pem").write_text(pem("RS256"), encoding="utf-8")
    (tmp_path / "weak.pem").write_text(pem("RS256", "one", 1_024), encoding="utf-8")
    monkeypatch.setenv("SECRET", SECRET)
    monkeypatch.setenv("SHORT", "c4n4ry")

    status, rows = examined(tmp_path, text, monkeypatch, capsys)
    (row,) = (row for row in rows if row.startswith("tokens"))
    assert status == 1
    assert row.startswith("tokens problem: [access.jwt] ")
    assert problem in row
    assert "c4n4ry" not in row


def test_a_secret_that_every_user_can_read_is_a_notice_and_a_public_key_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    for name, content in (("key.pem", pem("RS256")), ("secret", SECRET)):
        (tmp_path / name).write_text(content, encoding="utf-8")
        (tmp_path / name).chmod(0o644)

    _, public = examined(tmp_path, 'algorithms = ["RS256"]\nkey = "file:key.pem"', monkeypatch, capsys)
    _, secret = examined(tmp_path, 'algorithms = ["HS256"]\nkey = "file:secret"', monkeypatch, capsys)
    assert [row for row in public if row.startswith("notice")] == []
    assert [row for row in secret if row.startswith("notice")] == [
        "notice secret can be read by every user of this machine; chmod o-rwx secret"
    ]
