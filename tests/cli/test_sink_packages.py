"""Sinks of other packages: found by their entry point, and never in the way of the relay's own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from relay import ConfigError
from relay.cli import main
from relay.cli.build import build_sinks
from relay.cli.options import load_settings

Capture = pytest.CaptureFixture[str]

MODULE = """
from relay.events import Record
from relay.secret import NO_SECRET, Secret
from msgspec import Struct

class Plain:
    '''Keeps what it was made with.'''
    def __init__(self, place, *, width=80):
        self.place, self.width = place, width
    def __call__(self, record): pass

class Keys(Struct, frozen=True, kw_only=True):
    url: str
    token: Secret = NO_SECRET
    level: str = "debug"

class Typed:
    settings = Keys
    @classmethod
    def from_settings(cls, settings):
        made = cls()
        made.given = settings
        return made
    def __call__(self, record): pass

def function(record):
    '''Does nothing.'''

number = 3
"""


def install(folder: Path, name: str, entries: str) -> None:
    """A distribution as pip leaves it, with nothing but its metadata."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[progress_relay.sinks]\n{entries}\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "packaged_sinks_of_a_test.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made(site: Path, table: str, environ: dict[str, str] | None = None) -> Any:
    (site / "relay.toml").write_text(f"[[sinks]]\n{table}\n")
    (one,) = build_sinks(load_settings(site / "relay.toml", environ or {}))
    return one


def listed(capsys: Capture, *options: str) -> dict[str, Any]:
    assert main(["sinks", "--format", "json", *options]) == 0
    return {kind["kind"]: kind for kind in json.loads(capsys.readouterr().out)["kinds"]}


def test_a_kind_is_made_with_the_keys_of_its_table(site: Path) -> None:
    install(site, "one", "plain = packaged_sinks_of_a_test:Plain")
    one = made(site, 'kind = "plain"\nplace = "here"\nlevel = "info"\nname = "mine"')
    assert (one.sink.place, one.sink.width, one.level, one.name) == ("here", 80, "info", "mine")


def test_a_kind_with_settings_has_its_keys_checked_and_its_secrets_kept(site: Path) -> None:
    install(site, "one", "typed = packaged_sinks_of_a_test:Typed")
    one = made(site, 'kind = "typed"\nurl = "x"\ntoken = "env:T"\nlevel = "error"', {"T": "secret"})
    assert (one.sink.given.token.reveal(), one.sink.given.level, one.level) == ("secret", "error", "error")
    with pytest.raises(ConfigError, match="needs the key 'url'"):
        made(site, 'kind = "typed"')
    with pytest.raises(ConfigError, match=r"token is a secret; keep it out of the file, and write .env:NAME. or"):
        made(site, 'kind = "typed"\nurl = "x"\ntoken = "in the open"')


def test_a_kind_that_two_packages_bring_is_refused_with_both_names(site: Path, capsys: Capture) -> None:
    install(site, "one", "plain = packaged_sinks_of_a_test:Plain")
    install(site, "two", "plain = packaged_sinks_of_a_test:function")
    with pytest.raises(ConfigError, match=r"the kind 'plain' is brought by one 1\.0 and two 1\.0; remove one, or"):
        made(site, 'kind = "plain"')
    assert listed(capsys)["plain"]["problem"] == "also brought by one 1.0; remove one"


def test_a_kind_in_the_box_wins(site: Path, capsys: Capture) -> None:
    install(site, "one", "console = packaged_sinks_of_a_test:Plain")
    assert type(made(site, 'kind = "console"').sink).__name__ == "ConsoleSink"
    assert main(["sinks"]) == 0
    out = capsys.readouterr().out
    assert "cannot be used: the kind 'console' in the box is used in its place" in " ".join(out.split())


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("packaged_sinks_of_a_test:Missing", "AttributeError"),
        ("no_such_module_of_a_test:Plain", "ModuleNotFoundError"),
        ("packaged_sinks_of_a_test:number", "TypeError: int is no sink and makes none"),
    ],
)
def test_one_that_cannot_be_loaded_is_listed_with_its_package(
    site: Path, capsys: Capture, target: str, problem: str
) -> None:
    install(site, "broken", f"odd = {target}")
    odd = listed(capsys)["odd"]
    assert odd["package"] == "broken 1.0"
    assert odd["problem"].startswith(f"it cannot be loaded: {problem}")
    assert listed(capsys)["console"]["problem"] is None
    with pytest.raises(ConfigError, match=f"sink {target}"):
        made(site, 'kind = "odd"')


def test_a_sink_of_the_configuration_is_listed_with_its_keys(site: Path, capsys: Capture) -> None:
    (site / "relay.toml").write_text('[[sinks]]\nkind = "packaged_sinks_of_a_test:Plain"\nplace = "here"\n')
    own = listed(capsys)["packaged_sinks_of_a_test:Plain"]
    assert (own["source"], own["about"]) == ("relay.toml", "Keeps what it was made with.")
    assert [(key["name"], key["default"], key["required"]) for key in own["keys"]] == [
        ("place", None, True),
        ("width", "80", False),
    ]


def test_a_configuration_that_cannot_be_read_hides_no_kind(site: Path, capsys: Capture) -> None:
    (site / "relay.toml").write_text("[[sinks")
    assert "console" in listed(capsys)
    assert "console" in listed(capsys, "--config", str(site / "missing.toml"))


def test_an_unknown_kind_is_one_line(site: Path) -> None:
    with pytest.raises(ConfigError, match="unknown kind 'consul'; did you mean 'console'"):
        made(site, 'kind = "consul"')


def test_entry_points_are_read_for_an_unknown_kind_alone(site: Path) -> None:
    (site / "relay.toml").write_text('[[sinks]]\nkind = "console"\n')
    program = (
        "import sys; from pathlib import Path; from relay.cli.options import load_settings\n"
        "load_settings(Path('relay.toml'), {}); import relay, relay.relay, sinks\n"
        "print('importlib.metadata' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=site)
    assert ran.stdout == "False\n"
