"""`relay follow`: one task in the console, and an exit status that says how it went."""

import json
from pathlib import Path

import pytest

from relay.cli import main
from tests.cli.running import Running, relay


def configure(folder: Path, fake: Running) -> tuple[str, str]:
    """Write relay.toml for *fake*; its token and its task."""
    base_url, token = fake.says(r"base_url (\S+)")[1], fake.says(r"token (\S+)")[1]
    (folder / "relay.toml").write_text(
        f'[[upstreams]]\nkind = "sora"\nname = "studio"\nbase_url = "{base_url}"\ntoken = "env:TOKEN"\ninterval = 0.1'
    )
    return token, fake.says(r"task (\S+) plays")[1]


@pytest.mark.parametrize(
    ("scenario", "status", "last"),
    [("happy", 0, "done"), ("violation", 1, "failed"), ("missing-url", 1, "failed")],
)
def test_its_exit_status_says_how_the_job_ended(
    scenario: str,
    status: int,
    last: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with relay("fake", "--port", "0", "--scenario", scenario, "--speed", "20", folder=tmp_path) as fake:
        token, task = configure(tmp_path, fake)
        monkeypatch.setenv("TOKEN", token)
        assert main(["follow", "studio", task, "--level", "debug"]) == status
    said = capfd.readouterr()
    records = [json.loads(line) for line in said.out.splitlines()]
    assert [record["seq"] for record in records] == list(range(1, len(records) + 1))
    assert (records[0]["type"], records[0]["task"], records[-1]["type"]) == ("accepted", task, last)
    assert said.err == ""


def test_an_interrupted_follow_has_status_130(tmp_path: Path) -> None:
    with relay("fake", "--port", "0", "--scenario", "never-finishes", folder=tmp_path) as fake:
        token, task = configure(tmp_path, fake)
        with relay("follow", "studio", task, folder=tmp_path, piped=True, TOKEN=token) as follow:
            assert json.loads(follow.prints())["type"] == "accepted"
            follow.interrupt()
            assert follow.ends() == 130
            assert {json.loads(line)["type"] for line in follow.printed} <= {"checking", "received", "progress"}
    assert follow.said == []


NOTIFY = """
class Keeps:
    def __init__(self, path):
        self.path = path

    def __call__(self, record):
        with open(self.path, "ab") as file:
            file.write(record.json + b"\\n")
"""


def test_the_sinks_of_relay_toml_receive_every_record(
    tmp_path: Path,
) -> None:
    (tmp_path / "keeping.py").write_text(NOTIFY)
    with relay("fake", "--port", "0", "--speed", "20", folder=tmp_path) as fake:
        token, task = configure(tmp_path, fake)
        with (tmp_path / "relay.toml").open("a") as file:
            file.write('\n[[sinks]]\nkind = "console"\n[[sinks]]\nkind = "keeping:Keeps"\npath = "env:KEPT"\n')
        with relay("follow", "studio", task, folder=tmp_path, TOKEN=token, KEPT="kept.jsonl") as follow:
            assert follow.ends() == 0
    assert (tmp_path / "kept.jsonl").read_text().splitlines() == follow.printed
    assert json.loads(follow.printed[-1])["type"] == "done"
    assert follow.said == []


def test_another_token_than_the_configured_one_is_presented_to_the_upstream_and_never_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with relay("fake", "--port", "0", "--speed", "20", folder=tmp_path) as fake:
        token, task = configure(tmp_path, fake)
        monkeypatch.setenv("TOKEN", "canary-that-is-not-valid")
        (tmp_path / "token").write_text(token)
        assert main(["follow", "studio", task, "--token", "file:token"]) == 0
    said = capfd.readouterr()
    assert token not in said.out + said.err
    assert json.loads(said.out.splitlines()[-1])["type"] == "done"


@pytest.mark.parametrize("reference", ["canary-token", "env:NONE", "env:TWO"])
def test_a_token_that_cannot_be_read_is_one_line_without_it(
    reference: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOKEN", "x")
    monkeypatch.setenv("TWO", "canary canary")
    (tmp_path / "relay.toml").write_text('[[upstreams]]\nkind = "sora"\nbase_url = "http://x"\ntoken = "env:TOKEN"\n')
    assert main(["follow", "sora", "task_1", "--token", reference]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n"), "canary" in said.err) == ("", 1, False)
    assert "--token" in said.err
