"""What a user can do wrong is one line on stderr that says what to do, and exit status 2."""

import errno
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

import pytest

from relay.cli import main
from relay.errors import UsageError
from relay.journal import SqliteJournal
from relay.upstreams.registry import UPSTREAM_KINDS
from tests.cli.running import SCRIPT, relay

CANARY = "canary-9f31"
NO_DEMO = "the demonstration is for this machine alone; serve it on 127.0.0.1, ::1 or localhost"
NO_HOST = (
    "will not serve on '0.0.0.0' to other machines while [access] is not configured, as everybody there could read,"
    " submit and cancel; add [[access.keys]], [access.jwt] or [access.proxy], or serve on a unix socket (host ="
    ' "unix:/run/relay/relay.sock") or on 127.0.0.1 behind a reverse proxy that authenticates'
)
NO_SPEED = "is not a number from 0.01 to 1000; see relay demo --help"
NO_UPSTREAM = "no upstream is configured; add [[upstreams]] to relay.toml, or name the file with --config"
NO_FILE = "cannot read none.toml: No such file or directory; name the right file with --config"
COMMANDS = "demo, serve, follow, tail, replay, audit, fake, token, access, doctor, sinks, webhook, upstreams, schema"
NO_COMMAND = f"there are {COMMANDS}; see relay --help"
SORA = '[[upstreams]]\nkind = "sora"\nbase_url = "http://127.0.0.1:9"\n'

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory, and an environment that says nothing to the relay."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("RELAY_")]:
        monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def taken() -> Generator[int]:
    """A port on which somebody else listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def refused(capture: Capture, *arguments: str) -> str:
    """The one line with which the command line refuses *arguments*."""
    assert main(arguments) == 2
    said = capture.readouterr()
    assert said.out == ""
    assert said.err.startswith("relay: ")
    assert said.err.count("\n") == 1
    return said.err.removeprefix("relay: ").rstrip("\n")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["dmo"], "no command 'dmo'; did you mean 'demo'?; see relay --help"),
        (["xyzzy"], f"no command 'xyzzy'; {NO_COMMAND}"),
        (["demo", "--speed", "nan"], f"Invalid value for '--speed': 'nan' {NO_SPEED}"),
        (["demo", "--speed", "fast"], f"Invalid value for '--speed': 'fast' {NO_SPEED}"),
        (["demo", "--host", "0.0.0.0"], NO_DEMO),
        (["demo", "--host", "unix:/run/relay.sock"], NO_DEMO),
        (["serve", "--host", "0.0.0.0"], NO_HOST),
        (["serve", "--config", "none.toml"], NO_FILE),
        (["follow", "sora", "task_1"], NO_UPSTREAM),
        (["audit"], "an audit compares two recordings or more"),
        (["audit", "one.jsonl"], "an audit compares two recordings or more"),
        (["audit", "one.jsonl", "two.jsonl"], "one.jsonl: cannot be read: No such file or directory"),
        (["audit", ".", "."], ".: cannot be read: Is a directory"),
    ],
)  # fmt: skip
def test_a_mistake_on_the_command_line_is_one_line(arguments: list[str], line: str, capsys: Capture) -> None:
    assert refused(capsys, *arguments) == line


@pytest.mark.parametrize(
    ("arguments", "essentials"),
    [
        (["--foo"], ("--foo", "relay --help")),
        (["demo", "--prot", "80"], ("--prot", "--port", "relay demo --help")),
        (["demo", "--port", "http"], ("--port", "http", "relay demo --help")),
        (["demo", "--port", "70000"], ("--port", "70000", "65535")),
        (["demo", "--port"], ("--port", "requires an argument")),
        (["demo", "--jobs", "0"], ("--jobs", "0")),
        (["demo", "--log-format", "xml"], ("--log-format", "xml", "pretty", "json")),
        (["demo", "more"], ("more", "relay demo --help")),
        (["follow"], ("UPSTREAM", "relay follow --help")),
        (["follow", "sora"], ("TASK_ID", "relay follow --help")),
        (["fake", "--scenario", "hapy"], ("--scenario", "hapy", "happy", "gap")),
        (["schema", "openapi"], ("openapi", "jsonschema")),
    ],
)
def test_what_is_not_understood_is_one_line_that_names_it(
    arguments: list[str], essentials: tuple[str, ...], capsys: Capture
) -> None:
    line = refused(capsys, *arguments)
    assert [word for word in essentials if word not in line] == []


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("[server]\nprot = 1", "relay.toml: [server] has an unknown key 'prot'; did you mean 'port'?"),
        (
            "[[upstreams]]\nkind = 'soar'",
            "relay.toml: [[upstreams]] has an unknown kind 'soar'; did you mean 'sora'?"
            f" known are {', '.join(UPSTREAM_KINDS)}",
        ),
        ("[server]\nhost = '0.0.0.0'", NO_HOST),
        (
            "[journal]\nurl = 'postgres://localhost'",
            '[journal] url: this version keeps no journal in such a place; write "sqlite:relay.db", "memory:", or the'
            ' address of a server of Redis, such as "redis://127.0.0.1"',
        ),
        (
            "[journal]\nurl = 'sqlite:relay.toml'",
            "relay.toml is no journal: it is not even an SQLite database; name another file",
        ),
        (
            "[journal]\nurl = 'sqlite:none/relay.db'",
            "cannot open the journal none/relay.db: there is no folder FOLDER/none; make it",
        ),
        (
            f"{SORA}token = '{CANARY}'",
            "relay.toml: [[upstreams]] token is a secret; keep it out of the file,"
            ' and write "env:NAME" or "file:PATH" here',
        ),
        (
            f"{SORA}token = 'env:NONE'",
            "relay.toml: [[upstreams]] token comes from the environment variable NONE, which is not set",
        ),
        (
            "[[sinks]]\nkind = 'no_such_module:Name'",
            "sink no_such_module:Name cannot be imported: ModuleNotFoundError: No module named 'no_such_module'",
        ),
    ],
)
@pytest.mark.parametrize("arguments", [["serve"], ["serve", "--config", "relay.toml"]])
def test_a_mistake_in_relay_toml_is_one_line(
    arguments: list[str], content: str, line: str, folder: Path, capsys: Capture
) -> None:
    (folder / "relay.toml").write_text(content)
    assert refused(capsys, *arguments).replace(str(folder), "FOLDER") == line


def test_a_journal_in_use_is_one_line(folder: Path, capsys: Capture) -> None:
    with closing(SqliteJournal(folder / "relay.db")):
        line = refused(capsys, "serve", "--port", "0")
    assert line == "the journal relay.db is in use by another relay; stop that one, or name another file"


def test_a_mistake_in_the_environment_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv("RELAY_SERVER_PROT", "9000")
    line = "the environment variable RELAY_SERVER_PROT is not known; did you mean 'RELAY_SERVER_PORT'?"
    assert refused(capsys, "serve") == line


@pytest.mark.parametrize(
    ("content", "beginning"),
    [("[server\n", "relay.toml is not TOML: "), ("\udcff", "relay.toml is not UTF-8 text, in line 1")],
)
def test_a_configuration_that_cannot_be_read_is_one_line(
    content: str, beginning: str, folder: Path, capsys: Capture
) -> None:
    (folder / "relay.toml").write_text(content, errors="surrogateescape")
    assert refused(capsys, "serve").startswith(beginning)


def test_a_configuration_without_permission_is_one_line(folder: Path, capsys: Capture) -> None:
    (folder / "relay.toml").mkdir()
    assert refused(capsys, "serve") == "cannot read relay.toml: Is a directory; name the right file with --config"


def test_a_token_that_cannot_be_sent_is_one_line_without_the_token(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("TOKEN", f"{CANARY}\nX-Injected: 1")
    (folder / "relay.toml").write_text(f"{SORA}token = 'env:TOKEN'")
    assert refused(capsys, "serve") == (
        "relay.toml: [[upstreams]] token comes from the environment variable TOKEN, which goes on in line 2;"
        " a secret is one line"
    )


def test_an_upstream_that_is_not_configured_is_named_with_those_that_are(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("TOKEN", CANARY)
    (folder / "relay.toml").write_text(f"{SORA}token = 'env:TOKEN'")
    line = refused(capsys, "follow", "soar", "task_1")
    assert line == "no upstream is called 'soar'; did you mean 'sora'? known are sora"


def test_what_cannot_be_a_task_id_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv("TOKEN", CANARY)
    (folder / "relay.toml").write_text(f"{SORA}token = 'env:TOKEN'")
    assert refused(capsys, "follow", "sora", "a\nb") == "a task id is 1 to 256 printing ASCII characters"


@pytest.mark.parametrize("command", ["demo", "serve"])
def test_a_port_in_use_is_one_line(command: str, taken: int, capsys: Capture) -> None:
    line = refused(capsys, command, "--port", str(taken))
    assert line == f"port {taken} on 127.0.0.1 is in use; choose another with --port, or 0 for any free one"


@pytest.mark.parametrize(
    ("number", "line"),
    [
        (errno.EACCES, "port 80 needs more rights than this user has; choose one from 1024 up with --port"),
        (errno.EADDRNOTAVAIL, "cannot listen on 127.0.0.9 port 80: Cannot assign requested address"),
    ],
)
def test_a_port_that_cannot_be_had_is_one_line(
    number: int, line: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, "refused")

    monkeypatch.setattr(socket, "create_server", refuse)
    assert refused(capsys, "serve", "--host", "127.0.0.9", "--port", "80") == line


def test_an_interrupt_where_nothing_waits_for_one_is_status_130(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("relay.cli.audit.lines_of", interrupt)
    Path("one").touch()
    assert main(["audit", "one", "one"]) == 130
    assert capsys.readouterr().err.strip() == ""


def test_a_notice_of_the_relay_is_one_inert_line_on_stderr(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def notify(_: object) -> None:
        logging.getLogger("relay").warning("sink %s\nfailed \x1b[2J", "Mail")
        raise UsageError("over")

    monkeypatch.setattr("relay.cli.audit.lines_of", notify)
    Path("one").touch()
    assert main(["audit", "one", "one"]) == 2
    assert capsys.readouterr().err == "relay: sink Mail failed \\x1b[2J\nrelay: one: over\n"
    assert logging.getLogger("relay").handlers == []


def test_the_scripted_upstreams_port_in_use_is_one_line(taken: int, capsys: Capture) -> None:
    line = refused(capsys, "fake", "--port", str(taken))
    assert f"127.0.0.1:{taken}" in line
    assert "--port 0" in line


@pytest.mark.parametrize(
    "arguments", [["demo", "--once", "--port", "{taken}"], ["serve", "--port", "{taken}"], ["dmo"]]
)
def test_a_real_process_ends_with_status_2_and_one_line(arguments: list[str], taken: int, folder: Path) -> None:
    with relay(*(argument.format(taken=taken) for argument in arguments), folder=folder) as process:
        assert process.ends() == 2
    assert len(process.said) == 1
    assert process.said[0].startswith("relay: ")
    assert process.printed == []


def test_a_mistake_is_the_same_when_relay_is_run_as_a_module(folder: Path) -> None:
    runs = [
        subprocess.run([*command, "dmo"], cwd=folder, capture_output=True, text=True, check=False)
        for command in ([SCRIPT], [sys.executable, "-m", "relay"])
    ]
    assert [(run.returncode, run.stdout, run.stderr) for run in runs] == 2 * [
        (2, "", "relay: no command 'dmo'; did you mean 'demo'?; see relay --help\n")
    ]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("arguments", [["schema"], ["upstreams"], ["doctor"], ["--help"]], ids=str)
def test_an_output_that_takes_nothing_is_one_line(arguments: list[str], folder: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        run = subprocess.run(
            [SCRIPT, *arguments], cwd=folder, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (run.returncode, run.stderr) == (
        2,
        "relay: standard output cannot be written: No space left on device; send it elsewhere\n",
    )
