"""[journal] and [cluster] for relays that share a journal: addresses are secrets, and each table needs the other."""

import re
from pathlib import Path
from typing import Any

import pytest

from relay.cli.options import load_settings as load
from relay.cli.redaction import redactor_of
from relay.config.settings import SHARED_JOURNALS, ClusterSettings, JournalSettings, Settings
from relay.errors import ConfigError
from relay.journal.redis._place import read_url

CANARY = "canary-9f31"
ADDRESS = f"redis://user:{CANARY}@redis.example:6380/1"
SHARED = '[journal]\nurl = "redis://127.0.0.1"\n'
KEY = '[[access.keys]]\nname = "ann"\nkey = "env:ANN"\nscopes = "jobs:read"\njobs = "own"\n'


def written(folder: Path, content: str, **environ: str) -> Settings:
    path = folder / "relay.toml"
    path.write_text(content)
    return load(path, environ)


def refused(folder: Path, content: str, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        written(folder, content, **environ)
    assert CANARY not in str(caught.value)
    return str(caught.value).replace(f"{folder}/", "")


@pytest.mark.parametrize(
    ("content", "environ"),
    [
        ('[journal]\nurl = "env:REDIS_URL"', {"REDIS_URL": ADDRESS}),
        ('[journal]\nurl = "file:address"', {}),
        ("", {"RELAY_JOURNAL_URL": ADDRESS}),
        ("", {"RELAY_JOURNAL_URL": "env:REDIS_URL", "REDIS_URL": ADDRESS}),
    ],
    ids=["variable", "file", "own variable", "own variable that names another"],
)
def test_the_address_of_a_server_is_read_from_where_secrets_are_and_never_shown(
    content: str, environ: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "address").write_text(ADDRESS)
    settings = written(tmp_path, content, **environ)
    journal = settings.journal
    assert (journal.reveal(), journal.scheme, journal.shared, journal.path) == (ADDRESS, "redis", True, "")
    assert CANARY not in repr(settings)
    assert redactor_of(settings)(f"no answer from {CANARY} at redis.example") == "no answer from *** at redis.example"


def test_an_address_without_a_password_may_stand_in_the_file_and_its_host_is_no_secret(tmp_path: Path) -> None:
    settings = written(tmp_path, '[journal]\nurl = "redis://redis.example/1"')
    assert settings.journal.reveal() == "redis://redis.example/1"
    assert redactor_of(settings)("redis://redis.example/1 refuses") == "redis://redis.example/1 refuses"


@pytest.mark.parametrize(
    "url",
    [
        ADDRESS,
        f"rediss://:{CANARY}@host",
        f"redis+sentinel://:{CANARY}@one,two/relay",
        f"unix://:{CANARY}@/run/redis.sock",
        f"redis://user:a/{CANARY}@host",
        f"redis+sentinel://one/relay?sentinel_password={CANARY}",
    ],
    ids=["both", "password", "sentinel", "socket", "slash", "option"],
)
def test_a_password_in_the_file_is_refused_and_not_repeated(url: str, tmp_path: Path) -> None:
    assert refused(tmp_path, f'[journal]\nurl = "{url}"') == (
        'relay.toml: [journal] url has a user or a password in it; keep it out of the file, and write "env:NAME" or'
        ' "file:PATH" here, for the whole address'
    )


@pytest.mark.parametrize("scheme", SHARED_JOURNALS)
def test_a_shared_journal_is_known_by_its_scheme(scheme: str, tmp_path: Path) -> None:
    journal = written(tmp_path, f'[journal]\nurl = "{scheme}://"').journal
    assert (journal.shared, journal.where) == (True, "a journal in Redis")


def test_the_schemes_are_those_that_the_engine_reads() -> None:
    with pytest.raises(ConfigError) as caught:
        read_url("postgres://host")
    assert set(re.findall(r"[\w+]+(?=://)", str(caught.value))) == set(SHARED_JOURNALS)


def test_a_path_or_a_journal_in_memory_is_plain_text_wherever_it_is_written(tmp_path: Path) -> None:
    assert written(tmp_path, '[journal]\nurl = "env:U"', U="sqlite:a.db").journal == JournalSettings(url="sqlite:a.db")
    assert written(tmp_path, "", RELAY_JOURNAL_URL="memory:").journal == JournalSettings(url="memory:")


def test_a_reference_that_leads_nowhere_is_one_line(tmp_path: Path) -> None:
    assert refused(tmp_path, '[journal]\nurl = "env:NONE"') == (
        "relay.toml: [journal] url comes from the environment variable NONE, which is not set"
    )


def test_the_cluster_has_defaults_and_the_environment_wins(tmp_path: Path) -> None:
    assert written(tmp_path, SHARED).cluster == ClusterSettings(lease=10.0, shards=64, name="relay", node=None)
    table = '[cluster]\nlease = "3s"\nshards = 8\nname = "prod"\nnode = "a"\n'
    assert written(tmp_path, SHARED + table, RELAY_CLUSTER_NODE="relay-0").cluster == ClusterSettings(
        lease=3.0, shards=8, name="prod", node="relay-0"
    )


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("lease = 0.4", "lease must be a number of seconds, or text like"),
        ("shards = 0", "shards must be a number of shards from 1 to 1024, not 0"),
        ('name = "a{b}"', "name must be a name of up to 48 letters, digits"),
        ("nodes = 3", "has an unknown key 'nodes'; did you mean 'node'?"),
    ],
)
def test_a_cluster_that_cannot_be_is_refused(key: str, expected: str, tmp_path: Path) -> None:
    assert refused(tmp_path, f"{SHARED}[cluster]\n{key}\n").startswith(f"relay.toml: [cluster] {expected}")


@pytest.mark.parametrize(
    ("content", "environ"),
    [
        ("[cluster]", {}),
        ('[cluster]\nnode = "a"', {"RELAY_JOURNAL_URL": "memory:"}),
        ("", {"RELAY_CLUSTER_NODE": "a"}),
    ],
    ids=["empty table", "in memory", "variable"],
)
def test_a_cluster_needs_a_journal_that_is_shared(content: str, environ: dict[str, Any], tmp_path: Path) -> None:
    kept = "in memory" if environ.get("RELAY_JOURNAL_URL") else "in a file"
    assert refused(tmp_path, content, **environ) == (
        f"relay.toml: [cluster] is for relays that share a journal, and a journal {kept} serves one alone; under"
        ' [journal] write the address of a server, as in url = "redis://127.0.0.1", or remove [cluster]'
    )


def test_a_shared_journal_needs_one_key_that_signs_for_all_relays(tmp_path: Path) -> None:
    assert refused(tmp_path, SHARED + KEY, ANN="0123456789abcdefghijklmnopqrstuv").startswith(
        "relay.toml: [access] needs a signing_key where relays share a journal"
    )
    signed = f'{SHARED}[access]\nsigning_key = "env:SIGNS"\n{KEY}'
    keys = {"ANN": "0123456789abcdefghijklmnopqrstuv", "SIGNS": "vutsrqponmlkjihgfedcba9876543210"}
    assert written(tmp_path, signed, **keys).access is not None


def test_a_durable_sink_needs_a_journal_of_its_own_relay(tmp_path: Path) -> None:
    durable = '[[sinks]]\nkind = "console"\nname = "c"\ndurable = true\n'
    assert refused(tmp_path, SHARED + durable) == (
        "relay.toml: [[sinks]] durable needs a journal that is this relay's own; under [journal] write url ="
        ' "sqlite:relay.db"'
    )
