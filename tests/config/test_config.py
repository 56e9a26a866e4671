"""What relay.toml and the environment may say, and the one line that answers what they may not."""

from collections.abc import Callable
from pathlib import Path

import pytest

from relay.cli.build import build_pace
from relay.cli.options import load_settings as load
from relay.config import passed_over
from relay.config.settings import (
    AttachSettings,
    CustomSinkSettings,
    JournalSettings,
    ServerSettings,
    Settings,
)
from relay.errors import ConfigError
from relay.journal import Retention
from relay.pace import Pace
from relay.secret import SECRET_LIMIT, Secret
from relay.upstreams.registry import UPSTREAM_KINDS
from sinks.console import ConsoleSettings
from sinks.debug import DebugSettings
from sinks.kinds import SINK_KINDS

CANARY = "canary-9f31"
KNOWN = ", ".join(SINK_KINDS)
SORA = '[[upstreams]]\nkind = "sora"\nbase_url = "http://gateway:8000"\n'


Load = Callable[..., Settings]
Refuse = Callable[..., str]


@pytest.fixture
def written(tmp_path: Path) -> Load:
    """Write relay.toml, load it, return the settings."""

    def write(content: str | bytes, environ: dict[str, str] | None = None) -> Settings:
        path = tmp_path / "relay.toml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return load(path, environ or {})

    return write


@pytest.fixture
def refused(written: Load, tmp_path: Path) -> Refuse:
    """Write relay.toml, return the line that refuses it, with the path as `relay.toml`."""

    def refuse(content: str | bytes, environ: dict[str, str] | None = None) -> str:
        with pytest.raises(ConfigError) as caught:
            written(content, environ)
        assert "\n" not in str(caught.value)
        return str(caught.value).replace(f"{tmp_path}/", "")

    return refuse


def test_without_a_file_everything_has_a_default() -> None:
    assert load(None, {}) == Settings(server=ServerSettings(), journal=JournalSettings(), upstreams=(), sinks=())


def test_a_whole_file_becomes_typed_settings(written: Load) -> None:
    settings = written(
        """
        [server]
        host = "::1"
        port = 9000
        heartbeat = 7.5
        max_streams = 50
        public_url = "https://progress.example.org/relay"

        [journal]
        url = "memory:"
        keep = { records = 5, age = "7d", bytes = 1000 }

        [[upstreams]]
        name = "studio"
        kind = "sora"
        base_url = "http://gateway:8000"
        token = "env:SORA_TOKEN"
        interval = 5
        deadline = "25m"

        [[sinks]]
        kind = "console"
        level = "info"
        format = "json"

        [[sinks]]
        kind = "debug"

        [[sinks]]
        kind = "notifiers.mail:Mail"
        level = "warning"
        to = "ops@example.org"
        """,
        {"SORA_TOKEN": CANARY},
    )
    assert settings.server == ServerSettings(
        host="::1", port=9000, heartbeat=7.5, max_streams=50, public_url="https://progress.example.org/relay"
    )
    assert settings.journal == JournalSettings(url="memory:", keep=Retention(records=5, age=604800.0, bytes=1000))
    (studio,) = settings.upstreams
    assert (studio.name, studio.base_url, studio.token.reveal()) == ("studio", "http://gateway:8000", CANARY)
    assert (studio.interval, studio.deadline, studio.timeout) == (5.0, 1500.0, 30.0)
    assert tuple(sink.settings for sink in settings.sinks) == (
        ConsoleSettings(level="info", format="json"),
        DebugSettings(),
        CustomSinkSettings(target="notifiers.mail:Mail", level="warning", options={"to": "ops@example.org"}),
    )


def test_an_upstream_is_called_after_its_kind_unless_it_has_a_name(written: Load) -> None:
    assert written(f'{SORA}token = "env:T"', {"T": CANARY}).upstreams[0].name == "sora"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("90s", 90.0), ("2.5s", 2.5), ("25m", 1500.0), ("1h", 3600.0), ("2d", 172800.0), ("10 s", 10.0)],
)
def test_a_duration_may_be_written_with_its_unit(written: Load, text: str, seconds: float) -> None:
    assert written(f'[server]\nheartbeat = "{text}"').server.heartbeat == seconds


def test_the_environment_wins_over_the_file(written: Load) -> None:
    settings = written(
        "[server]\nport = 8000\nheartbeat = 5\n[journal]\nkeep = { records = 7 }",
        {
            "RELAY_SERVER_PORT": "9000",
            "RELAY_SERVER_HEARTBEAT": "2.5",
            "RELAY_SERVER_PUBLIC_URL": "https://relay.example.org",
            "RELAY_JOURNAL_URL": "memory:",
            "RELAY_JOURNAL_KEEP_AGE": "90m",
            "RELAY_HOME": "/srv",
        },
    )
    assert settings.server == ServerSettings(port=9000, heartbeat=2.5, public_url="https://relay.example.org")
    assert settings.journal.keep == Retention(records=7, age=5400.0)


def test_the_environment_works_without_a_file() -> None:
    assert load(None, {"RELAY_SERVER_PORT": "0"}).server.port == 0


def test_a_byte_order_mark_is_no_error(written: Load) -> None:
    assert written(b"\xef\xbb\xbf[server]\nport = 1").server.port == 1


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("[server]\nprot = 1", "relay.toml: [server] has an unknown key 'prot'; did you mean 'port'?"),
        (
            "[server]\nxyzzy = 1",
            "relay.toml: [server] has an unknown key 'xyzzy'; known are host, port, heartbeat, send_timeout,"
            " slow_after, max_age, max_streams, max_streams_per_client, max_jobs, max_jobs_per_client,"
            " new_jobs_per_minute, debug, fast_accept, public_url, origins, tls",
        ),
        ("[sever]\nport = 1", "relay.toml: unknown table 'sever'; did you mean 'server'?"),
        (
            "[journal]\nkeep = { recrds = 1 }",
            "relay.toml: [journal] keep has an unknown key 'recrds'; did you mean 'records'?",
        ),
        (
            "[[sinks]]\nkind = 'console'\nlevl = 'info'",
            "relay.toml: [[sinks]] has an unknown key 'levl'; did you mean 'level'?",
        ),
        (
            f"{SORA}token = 'env:T'\n{SORA}tokn = 'env:T'",
            "relay.toml: [[upstreams]] 2 has an unknown key 'tokn'; did you mean 'token'?",
        ),
    ],
)
def test_an_unknown_key_or_table_is_named_with_the_nearest_known_one(
    refused: Refuse, content: str | bytes, line: str
) -> None:
    assert refused(content, {"T": CANARY}) == line


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("server = 1", "relay.toml: [server] must be a table, not 1"),
        ("[server]\nport = '80'", "relay.toml: [server] port must be a port number from 0 to 65535"),
        ("[server]\nport = 70000", "relay.toml: [server] port must be a port number from 0 to 65535, not 70000"),
        ("[server]\nport = true", "relay.toml: [server] port must be a port number from 0 to 65535, not true"),
        ("[server]\nport = 1979-05-27", "relay.toml: [server] port must be a port number from 0 to 65535, not a date"),
        (
            "[server]\nhost = []",
            'relay.toml: [server] host must be an address of this machine, "unix:PATH" or "systemd", not a list',
        ),
        (
            "[server]\nheartbeat = nan",
            'relay.toml: [server] heartbeat must be a number of seconds, or text like "90s", "25m" or "1h",'
            " from 0.1 s to 366 days, not nan",
        ),
        (
            "[server]\nheartbeat = '15'",
            'relay.toml: [server] heartbeat must be a number of seconds, or text like "90s", "25m" or "1h",'
            " from 0.1 s to 366 days",
        ),
        ("[server]\nmax_streams = 0", "relay.toml: [server] max_streams must be a number of streams, 1 or more, not 0"),
        (
            "[journal]\nkeep = { records = 0 }",
            "relay.toml: [journal] keep records must be a number of records, 1 or more, not 0",
        ),
        ("[upstreams]\nkind = 'sora'", "relay.toml: upstreams is a list of tables; write [[upstreams]] above each"),
        ("sinks = ['console']", "relay.toml: sinks is a list of tables; write [[sinks]] above each"),
        (
            "[[sinks]]\nlevel = 'info'",
            f"relay.toml: [[sinks]] needs the key 'kind', as text; known are {KNOWN}",
        ),
        (
            "[[sinks]]\nkind = 'console'\nlevel = 'loud'",
            "relay.toml: [[sinks]] level must be one of debug, info, warning, error",
        ),
        (
            "[[sinks]]\nkind = 'my.sinks:Mail'\nlevel = 3",
            "relay.toml: [[sinks]] level must be one of debug, info, warning, error, not 3",
        ),
        (SORA, 'relay.toml: [[upstreams]] needs the key \'token\': "env:NAME" or "file:PATH"'),
        (
            "[[upstreams]]\nkind = 'sora'\nbase_url = 'gateway:8000'",
            "relay.toml: [[upstreams]] base_url must be an http or https URL without user or query",
        ),
        (
            f"{SORA}name = 'a b'",
            "relay.toml: [[upstreams]] name must be a name of letters, digits, '.', '_' and '-'",
        ),
        (
            2 * f"{SORA}token = 'env:T'\n",
            "relay.toml: two [[upstreams]] are called 'sora'; give each a name of its own",
        ),
    ],
)
def test_a_wrong_value_is_named_with_what_is_expected(refused: Refuse, content: str | bytes, line: str) -> None:
    assert refused(content, {"T": CANARY}) == line


def test_an_unknown_kind_of_upstream_is_answered_with_the_nearest_and_all_known(refused: Refuse) -> None:
    known = ", ".join(UPSTREAM_KINDS)
    line = f"relay.toml: [[upstreams]] has an unknown kind 'soar'; did you mean 'sora'? known are {known}"
    assert refused("[[upstreams]]\nkind = 'soar'") == line


def test_an_unknown_kind_of_sink_is_answered_with_how_to_write_ones_own(refused: Refuse) -> None:
    assert refused("[[sinks]]\nkind = 'consle'") == (
        f"relay.toml: [[sinks]] has an unknown kind 'consle'; did you mean 'console'? known are {KNOWN};"
        " a sink of your own is written package.module:Name"
    )


@pytest.mark.parametrize(
    ("environ", "line"),
    [
        (
            {"RELAY_SERVER_PROT": "1"},
            "the environment variable RELAY_SERVER_PROT is not known; did you mean 'RELAY_SERVER_PORT'?",
        ),
        ({"RELAY_SERVER_PORT": "http"}, "RELAY_SERVER_PORT must be a port number from 0 to 65535"),
        ({"RELAY_SERVER_PORT": "http://10.0.0.1:80"}, "RELAY_SERVER_PORT must be a port number from 0 to 65535"),
        (
            {"RELAY_SERVER_NAME": "here"},
            "the environment variable RELAY_SERVER_NAME is not known; did you mean 'RELAY_SERVER_MAX_AGE'?",
        ),
        ({"RELAY_SERVER_MAX_STREAMS": "-1"}, "RELAY_SERVER_MAX_STREAMS must be a number of streams, 1 or more"),
        (
            {"RELAY_SERVER_HEARTBEAT": "often"},
            'RELAY_SERVER_HEARTBEAT must be a number of seconds, or text like "90s", "25m" or "1h",'
            " from 0.1 s to 366 days",
        ),
        ({"RELAY_JOURNAL_KEEP_RECORDS": "many"}, "RELAY_JOURNAL_KEEP_RECORDS must be a number of records, 1 or more"),
    ],
)
def test_the_environment_is_checked_like_the_file(refused: Refuse, environ: dict[str, str], line: str) -> None:
    assert refused("", environ) == line


KUBERNETES = {
    "{}_SERVICE_HOST": "10.0.0.1",
    "{}_SERVICE_PORT": "8080",
    "{}_SERVICE_PORT_HTTP": "8080",
    "{}_PORT": "tcp://10.0.0.1:8080",
    "{}_PORT_8080_TCP": "tcp://10.0.0.1:8080",
    "{}_PORT_8080_TCP_PROTO": "tcp",
    "{}_PORT_8080_TCP_PORT": "8080",
    "{}_PORT_8080_TCP_ADDR": "10.0.0.1",
    "{}_PORT_53_UDP": "udp://10.0.0.1:53",
}
DOCKER = {
    "{}_NAME": "/app/relay-server",
    "{}_PORT": "udp://[fd00::1]:8080",
    "{}_PORT_8080_TCP_START": "tcp://172.17.0.5:8080",
    "{}_PORT_8080_TCP_END": "tcp://172.17.0.5:8081",
    "{}_ENV_PORT": "9000",
}


@pytest.mark.parametrize("service", ["RELAY_SERVER", "RELAY_JOURNAL", "RELAY_SERVER_1", "RELAY_SERVER_PORT"])
@pytest.mark.parametrize("injected", [KUBERNETES, DOCKER], ids=["kubernetes", "docker"])
def test_what_an_orchestrator_injects_for_a_service_is_passed_over_and_listed(
    written: Load, service: str, injected: dict[str, str]
) -> None:
    environ = {name.format(service): text for name, text in injected.items()}

    assert written("[server]\nport = 8000", environ | {"RELAY_JOURNAL_URL": "memory:"}) == Settings(
        server=ServerSettings(port=8000), journal=JournalSettings(url="memory:")
    )
    assert passed_over(environ | {"RELAY_JOURNAL_URL": "memory:"}) == sorted(environ)


def test_what_is_meant_for_the_relay_is_not_passed_over() -> None:
    assert passed_over({"RELAY_SERVER_PORT": "9000", "RELAY_SERVER_PROT": "", "RELAY_LOOP": "tcp://10.0.0.1:1"}) == []


@pytest.mark.parametrize("empty", ["", " "])
def test_an_empty_variable_is_as_one_that_is_not_set(written: Load, empty: str) -> None:
    names = ("SERVER_PORT", "SERVER_PUBLIC_URL", "SERVER_DEBUG", "SERVER_PROT", "JOURNAL_URL", "JOURNAL_KEEP_AGE")
    settings = written("[server]\nport = 8000", {f"RELAY_{name}": empty for name in names})
    assert settings == Settings(server=ServerSettings(port=8000))


@pytest.mark.parametrize("url", [CANARY, f"http://user:{CANARY}@host", "SQLITE:x", ""])
def test_another_journal_is_refused_without_repeating_what_may_be_a_password(refused: Refuse, url: str) -> None:
    assert refused(f'[journal]\nurl = "{url}"') == (
        '[journal] url: this version keeps no journal in such a place; write "sqlite:relay.db", "memory:", or the'
        ' address of a server of Redis, such as "redis://127.0.0.1"'
    )


@pytest.mark.parametrize("url", ["sqlite:", "sqlite:///relay.db", "sqlite:file:relay.db?mode=ro"])
def test_a_file_is_named_as_it_is(refused: Refuse, url: str) -> None:
    assert refused(f'[journal]\nurl = "{url}"') == (
        '[journal] url needs a path behind "sqlite:", as it is: "sqlite:relay.db" or "sqlite:/var/lib/relay.db"'
    )


def test_a_durable_sink_needs_a_journal_in_a_file(refused: Refuse) -> None:
    durable = '[[sinks]]\nkind = "console"\nname = "c"\ndurable = true'
    assert refused(f'{durable}\n[journal]\nurl = "memory:"') == (
        "relay.toml: [[sinks]] durable needs a journal that outlives the relay; under [journal] write url ="
        ' "sqlite:relay.db"'
    )


def test_a_database_in_memory_is_no_journal_on_disk(refused: Refuse) -> None:
    assert refused('[journal]\nurl = "sqlite::memory:"') == (
        '[journal] url: a journal that need not outlive the relay is url = "memory:"'
    )


def test_the_path_of_a_journal_is_what_stands_behind_the_scheme(written: Load) -> None:
    journal = written('[journal]\nurl = "sqlite:/var/lib/relay: jobs.db"').journal
    assert (journal.scheme, journal.path) == ("sqlite", "/var/lib/relay: jobs.db")


@pytest.mark.parametrize(
    ("content", "beginning"),
    [
        ("[server]\nport = \n", "relay.toml is not TOML: "),
        (b"[server]\nhost = '\xff'", "relay.toml is not UTF-8 text, in line 2; save it as UTF-8"),
        ("a = " + 4000 * "[", "relay.toml has numbers too long or tables too deep to be read"),
        ("a = " + 5000 * "1", "relay.toml has numbers too long or tables too deep to be read"),
        ("#" * (1024 * 1024 + 1), "relay.toml is over the limit of 1,048,576 bytes"),
    ],
)
def test_a_file_that_cannot_be_read_is_said_in_one_line(refused: Refuse, content: str | bytes, beginning: str) -> None:
    assert refused(content).startswith(beginning)


def test_a_mistake_in_the_syntax_is_named_with_its_line(refused: Refuse) -> None:
    assert "line 2" in refused("[server]\nport = \n")


def test_a_missing_file_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*none\.toml: No such file or directory; name the right file"):
        load(tmp_path / "none.toml", {})


def test_a_folder_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Is a directory"):
        load(tmp_path, {})


class TestSecrets:
    def test_comes_from_the_environment(self, written: Load) -> None:
        settings = written(f'{SORA}token = "env:T"', {"T": f"{CANARY}\n"})
        assert settings.upstreams[0].token.reveal() == CANARY

    def test_comes_from_a_file_beside_the_configuration(self, written: Load, tmp_path: Path) -> None:
        (tmp_path / "token.txt").write_text(f"{CANARY}\n")
        assert written(f'{SORA}token = "file:token.txt"').upstreams[0].token.reveal() == CANARY

    def test_is_in_no_repr_and_no_text(self, written: Load) -> None:
        settings = written(f'{SORA}token = "env:T"', {"T": CANARY})
        token = settings.upstreams[0].token
        assert CANARY not in f"{settings} {settings!r} {token} {token!r} {settings.upstreams}"

    def test_is_refused_in_the_file_itself_and_not_repeated(self, refused: Refuse) -> None:
        line = refused(f'{SORA}token = "{CANARY}"')
        assert CANARY not in line
        assert line == (
            "relay.toml: [[upstreams]] token is a secret; keep it out of the file,"
            ' and write "env:NAME" or "file:PATH" here'
        )

    @pytest.mark.parametrize(
        ("token", "ending"),
        [
            ("env:NONE", "comes from the environment variable NONE, which is not set"),
            ("env:EMPTY", "comes from env:EMPTY, which is empty"),
            ("file:none.txt", "comes from the file none.txt, which cannot be read: No such file or directory"),
            ("file:empty.txt", "comes from file:empty.txt, which is empty"),
            (
                "file:binary.txt",
                "comes from the file binary.txt, which is not UTF-8 text at line 1, character 1; save it as UTF-8",
            ),
            ("file:long.txt", "comes from the file long.txt, which is over the limit of 16,384 bytes"),
            ("file:\\u0000", "comes from a file whose name cannot be one"),
        ],
    )
    def test_that_is_not_there_is_said_in_one_line(
        self, refused: Refuse, tmp_path: Path, token: str, ending: str
    ) -> None:
        (tmp_path / "empty.txt").touch()
        (tmp_path / "binary.txt").write_bytes(b"\xff")
        (tmp_path / "long.txt").write_bytes(bytes(SECRET_LIMIT + 1))
        assert refused(f'{SORA}token = "{token}"', {"EMPTY": " "}) == f"relay.toml: [[upstreams]] token {ending}"

    @pytest.mark.parametrize(
        "content",
        [
            b"\xef\xbb\xbf%s", b"%s\r\n", b"\xef\xbb\xbf\r\n %s \r\n", b"%s\0", b"%s\n\0\0", b"\xc2\xa0%s\xe2\x80\xa8"
        ],
    )  # fmt: skip
    def test_is_read_without_what_an_editor_or_a_program_leaves_around_it(
        self, written: Load, tmp_path: Path, content: bytes
    ) -> None:
        around = content % CANARY.encode()
        (tmp_path / "token.txt").write_bytes(around)
        variable = around.replace(b"\0", b"").decode()
        tokens = [
            written(f'{SORA}token = "{one}"', {"T": variable}).upstreams[0].token for one in ("file:token.txt", "env:T")
        ]
        assert [token.reveal() for token in tokens] == [CANARY, CANARY]

    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            ("%s\n%s", "goes on in line 2; a secret is one line"),
            ("%s\r\n\r\n# for the studio\r\n", "goes on in line 3; a secret is one line"),
            ("%s\r%s", "goes on in line 2; a secret is one line"),
            ("%s\0%s", "has U+0000 at character 12; a secret is text that prints"),
            ("%s\u200b", "has U+200B at character 12; a secret is text that prints"),
            ('"%s"', "has quotes around it, at its first and last character; write it without them"),
            ("'%s'\n", "has quotes around it, at its first and last character; write it without them"),
            ("\u201c%s\u201d", "has quotes around it, at its first and last character; write it without them"),
            ("Bearer %s", "begins with the word 'Bearer'; write the token alone, as the relay puts that word in front"),
            ("%s %s", "has a space at character 12; a token has none"),
            ("%s\u00e9", "has a character that is not printing ASCII at character 12; a token has none"),
        ],
    )
    def test_that_cannot_be_one_is_said_with_its_source_and_the_place_and_not_repeated(
        self, refused: Refuse, tmp_path: Path, content: str, problem: str
    ) -> None:
        content = content.replace("%s", CANARY)
        (tmp_path / "token.txt").write_bytes(content.encode())
        of_file, of_variable = (
            refused(f'{SORA}token = "file:token.txt"'),
            refused(f'{SORA}token = "env:T"', {"T": content}),
        )
        at = "relay.toml: [[upstreams]] token comes from the"
        assert of_file == f"{at} file token.txt, which {problem}"
        assert of_variable == f"{at} environment variable T, which {problem}"
        assert CANARY not in of_file + of_variable

    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            (CANARY.encode("utf-16"), "is UTF-16 text, by its first two bytes; save it as UTF-8"),
            (CANARY.encode("utf-16-be"), "has U+0000 at character 1; a secret is text that prints"),
            (f"{CANARY}\nn\u00e9".encode() + b"\xff", "is not UTF-8 text at line 2, character 3; save it as UTF-8"),
        ],
    )
    def test_in_a_file_of_another_encoding_is_said_with_the_place(
        self, refused: Refuse, tmp_path: Path, content: bytes, problem: str
    ) -> None:
        (tmp_path / "token.txt").write_bytes(content)
        line = refused(f'{SORA}token = "file:token.txt"')
        assert line == f"relay.toml: [[upstreams]] token comes from the file token.txt, which {problem}"

    def test_of_a_webhook_may_hold_what_a_token_may_not(self, written: Load) -> None:
        webhook = 'webhook = { secret = "env:W" }\n'
        fal = f'[[upstreams]]\nkind = "fal"\nbase_url = "http://f"\ntoken = "env:T"\n{webhook}'
        (upstream,) = written(fal, {"T": CANARY, "W": "Bearer \u00e9"}).upstreams
        assert upstream.webhook.secret.reveal() == "Bearer \u00e9"  # type: ignore[attr-defined]

    def test_that_is_no_text_is_answered_with_what_to_write(self, refused: Refuse) -> None:
        line = refused(f"{SORA}token = 5")
        assert line == 'relay.toml: [[upstreams]] token must be "env:NAME" or "file:PATH", not 5'

    @pytest.mark.parametrize("table", ["[server]\nport", "[server]\nheartbeat", f"{SORA}interval", f"{SORA}base_url"])
    def test_in_the_wrong_place_is_not_repeated(self, refused: Refuse, table: str) -> None:
        assert CANARY not in refused(f'{table} = "{CANARY}"')


def test_a_sink_of_any_kind_has_the_common_keys(written: Load) -> None:
    common = 'name = "ops"\ntypes = ["done"]\njobs = ["job_a"]\nsince = "start"\ndurable = true\n'
    sinks = written(f"[[sinks]]\nkind = 'console'\n{common}[[sinks]]\nkind = 'my.sinks:Mail'\n{common}to = 'ops'").sinks
    expected = AttachSettings(name="ops", types=("done",), jobs=("job_a",), since="start", durable=True)
    assert [sink.attached for sink in sinks] == [expected, expected]
    assert sinks[1].settings == CustomSinkSettings(target="my.sinks:Mail", options={"to": "ops"})


class TestSecretsOfASink:
    MAIL = '[[sinks]]\nkind = "my.sinks:Mail"\n'

    def test_take_the_place_of_their_references_at_any_depth(self, written: Load, tmp_path: Path) -> None:
        (tmp_path / "key.pem").write_bytes(b"\xef\xbb\xbf-----BEGIN\r\nline\r\n")
        (sink,) = written(
            f"""{self.MAIL}
            url = "env:HOOK"
            key = "file:key.pem"
            headers = {{ authorization = "env:HOOK", plain = "environment", files = ["file:key.pem", 3, "files"] }}
            """,
            {"HOOK": f" https://{CANARY}/\n"},
        ).sinks
        assert isinstance(sink.settings, CustomSinkSettings)
        assert CANARY not in repr(sink)
        assert revealed(sink.settings.options) == {
            "url": f"https://{CANARY}/",
            "key": "-----BEGIN\r\nline",
            "headers": {
                "authorization": f"https://{CANARY}/",
                "plain": "environment",
                "files": ["-----BEGIN\r\nline", 3, "files"],
            },
        }

    @pytest.mark.parametrize(
        ("keys", "line"),
        [
            ('url = "env:NONE"', "url comes from the environment variable NONE, which is not set"),
            ('url = "env:EMPTY"', "url comes from env:EMPTY, which is empty"),
            ('url = "env:"', 'url is a secret; keep it out of the file, and write "env:NAME" or "file:PATH" here'),
            (
                'a = { b = [{}, { c = "file:none" }] }',
                "a.b[1].c comes from the file none, which cannot be read: No such file or directory",
            ),
        ],
    )
    def test_that_cannot_be_had_are_an_error_that_names_the_key(self, refused: Refuse, keys: str, line: str) -> None:
        assert refused(f"{self.MAIL}{keys}", {"EMPTY": ""}) == f"relay.toml: [[sinks]] {line}"


def revealed(value: object) -> object:
    """*value* with each secret as what it is."""
    if isinstance(value, Secret):
        return value.reveal()
    if isinstance(value, dict):
        return {key: revealed(inner) for key, inner in value.items()}
    return [revealed(inner) for inner in value] if isinstance(value, list) else value


def test_a_path_is_shown_as_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("relay.toml").write_text("[server]\nprot = 1")
    with pytest.raises(ConfigError, match=r"^relay\.toml: \[server\] has an unknown key 'prot'"):
        load(Path("relay.toml"), {})


class TestPace:
    """When an upstream is asked, beyond its interval and its deadline."""

    ACCOUNT = '[[upstreams]]\nkind = "sora"\nbase_url = "http://g.example"\ntoken = "env:T"\n'

    def pace(self, tmp_path: Path, table: str, account: str = ACCOUNT) -> Pace:
        path = tmp_path / "relay.toml"
        path.write_text(account + table)
        (upstream,) = load(path, {"T": "token"}).upstreams
        return build_pace(upstream)

    def test_polls_vary_by_a_tenth_unless_it_is_said(self, tmp_path: Path) -> None:
        assert self.pace(tmp_path, "") == Pace(interval=2.5, deadline=1_500.0, jitter=0.1, concurrency=1)

    def test_everything_can_be_said(self, tmp_path: Path) -> None:
        table = """interval = "4s"
            [upstreams.pace]
            jitter = 0
            adaptive = true
            fastest = "500ms"
            slowest = "1m"
            requests_per_second = 10
            deadlines = { queued = "10m", running = "20m" }
        """
        item = self.ACCOUNT.replace("sora", "runway") + "concurrency = 4\n"

        assert self.pace(tmp_path, table, item) == Pace(
            interval=4.0,
            adaptive=True,
            fastest=0.5,
            slowest=60.0,
            requests_per_second=10.0,
            concurrency=4,
            deadlines={"queued": 600.0, "running": 1_200.0},
        )

    def test_an_adaptive_pace_whose_bounds_hold_nothing_is_refused_at_the_start(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"^upstream sora pace: an adaptive pace needs fastest, interval"):
            self.pace(tmp_path, 'interval = "30s"\npace = { adaptive = true }\n')

    def test_a_misspelt_key_is_named_with_its_table(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"pace has an unknown key 'jiter'; did you mean 'jitter'\?"):
            self.pace(tmp_path, "pace = { jiter = 0.2 }\n")
