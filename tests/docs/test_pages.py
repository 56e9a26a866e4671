"""The documentation is complete, and says what is so. Its code blocks are run by the root conftest.py."""

import ast
import json
import re
import runpy
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, get_args

import click
import msgspec
import pytest
from msgspec import Struct

import relay
import relay.testing
import relay.upstreams
import sinks
import web
from relay.cli import _relay
from relay.config.access_settings import AccessSettings, JwtSettings, KeySettings, ProxySettings
from relay.config.settings import (
    AttachSettings,
    ClusterSettings,
    GatewayModel,
    GatewaySettings,
    JournalSettings,
    RedactSettings,
    ServerSettings,
)
from relay.events import EVENTS, Position
from relay.upstreams.registry import UPSTREAM_KINDS
from relay.upstreams.settings import PaceSettings, WebhookSettings
from relay.wire.record_json import read_record
from sinks.kinds import SINK_KINDS
from web import create_app
from web.middleware.access_check import RULES

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if not {"_build", "examples"} & {*path.parts})
READ_ON_GITHUB = [
    ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CODE_OF_CONDUCT.md", "SECURITY.md", "CHANGELOG.md")
]

LINK = re.compile(r"\]\(([^()\s]+)\)")
TOCTREE = re.compile(r"^```\{toctree\}\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ENTRY = re.compile(r"^[\w-]+(?:/[\w-]+)*$", re.MULTILINE)
TAGS = [str(event.__struct_config__.tag) for event in EVENTS]


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def reference(name: str) -> str:
    return read(DOCS / "reference" / f"{name}.md")


def section(page: str, heading: str) -> str:
    """The text below *heading*, down to the next heading of the same depth or above."""
    depth = heading.index(" ")
    _, found, below = page.partition(f"\n{heading}\n")
    assert found, f"there is no {heading!r}"
    return re.split(rf"\n#{{1,{depth}}} ", below)[0]


def anchors(page: str) -> set[str]:
    """What a link can lead to within *page*: its headings as GitHub and MyST name them, and MyST's own targets."""
    without_code = re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", without_code, re.MULTILINE)
    named = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
    return named | set(re.findall(r"^\(([\w-]+)\)=$", page, re.MULTILINE))


# The reference is complete


@pytest.fixture(scope="module")
def generated() -> dict[str, Any]:
    return runpy.run_path(str(DOCS / "generate.py"))


def test_the_events_page_is_what_the_classes_say(generated: dict[str, Any]) -> None:
    made = generated["page"]()

    assert reference("events") == made, "run `python docs/generate.py` after a change to relay/events.py"


def test_the_table_of_metrics_is_that_of_the_code(generated: dict[str, Any]) -> None:
    made = generated["metrics_page"]()

    assert reference("metrics") == made, "run `python docs/generate.py` after a change to web/metric_table.py"
    assert "relay_delivery_seconds" in section(made, "## The metrics")


@pytest.mark.parametrize("kind", UPSTREAM_KINDS)
def test_the_keys_of_an_upstream_are_what_its_settings_say(kind: str, generated: dict[str, Any]) -> None:
    made = generated["upstream_page"](kind)

    assert reference(f"upstreams/{kind}") == made, "run `python docs/generate.py` after a change to the settings"


@pytest.mark.parametrize("kind", UPSTREAM_KINDS)
def test_every_kind_of_upstream_has_a_page_of_the_same_parts(kind: str) -> None:
    page = reference(f"upstreams/{kind}")

    assert page.startswith(f"# {kind}\n")
    assert f'kind = "{kind}"' in re.findall(r"^```toml$.*?^```$", page, re.MULTILINE | re.DOTALL)[0]
    assert re.findall(r"^## (.*)$", page, re.MULTILINE) == ["Keys", "Submit", "Progress", "Failures", "Traps", "Links"]


@pytest.mark.parametrize("path", sorted((DOCS / "reference" / "sinks").glob("*.md")), ids=lambda path: path.stem)
def test_a_page_of_a_sink_begins_with_how_it_is_configured(path: Path) -> None:
    page = path.read_text(encoding="utf-8")

    assert path.stem == "index" or path.stem in SINK_KINDS
    assert path.stem == "index" or page.startswith(f"# {path.stem}\n")
    for example in re.findall(r"^```toml\n# relay.toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        assert len(example.splitlines()) < 10 or "[journal]" in example


def test_the_keys_that_every_kind_of_sink_has_are_documented_with_their_defaults() -> None:
    text = section(reference("sinks/index"), "## Keys of every kind")
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", text, re.MULTILINE))

    fields = {field.name: field.default for field in msgspec.structs.fields(AttachSettings)}
    assert set(rows) == {"kind", "level", *fields}
    for key, default in fields.items():
        assert default is None or rows[key] == f"`{json.dumps(default)}`", key


@pytest.mark.parametrize("tag", TAGS)
def test_every_event_is_documented(tag: str) -> None:
    assert tag in anchors(reference("events"))
    assert section(reference("events"), f"### {tag}").strip()


def commands() -> Iterator[tuple[str, click.Command]]:
    assert isinstance(_relay, click.Group)
    with click.Context(_relay) as context:
        for name in _relay.list_commands(context):
            command = _relay.get_command(context, name)
            assert command is not None
            yield name, command


@pytest.mark.parametrize(("name", "command"), list(commands()))
def test_every_command_and_option_is_documented(name: str, command: click.Command) -> None:
    text = section(reference("command-line"), f"## relay {name}")

    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert f"`{parameter.opts[-1]}" in text, f"relay {name} {parameter.opts[-1]}"
        else:
            assert str(parameter.make_metavar(click.Context(command))).strip("[]") in text


def test_no_command_is_documented_that_does_not_exist() -> None:
    documented = re.findall(r"^## relay (\w+)$", reference("command-line"), re.MULTILINE)

    assert documented == [name for name, _ in commands()]


def keys(kind: type[Struct], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Every key of a table, with its default."""
    # Each of these has a section of its own.
    apart = (WebhookSettings, GatewayModel, KeySettings, JwtSettings, ProxySettings)
    for field in msgspec.structs.fields(kind):
        if field.name == "pace":
            continue  # it is the same for all kinds, and has a section of its own
        yield f"{prefix}{field.encode_name}", field.default
        for inner in get_args(field.type) or [field.type]:
            if isinstance(inner, type) and issubclass(inner, Struct) and inner not in apart:
                yield from keys(inner, f"{field.name}.")


def keys_of_a_sink(kind: str) -> tuple[str, str]:
    """The page and the heading of its keys: a page of its own, if there is one."""
    if (DOCS / "reference" / "sinks" / f"{kind}.md").exists():
        return f"sinks/{kind}", "## Keys"
    return "configuration", f'### kind = "{kind}"'


TABLES: list[tuple[str, str, type[Any]]] = [
    ("configuration", "## [server]", ServerSettings),
    ("configuration", "## [journal]", JournalSettings),
    ("configuration", "## [cluster]", ClusterSettings),
    ("configuration", "## [gateway]", GatewaySettings),
    ("configuration", "## [gateway.models]", GatewayModel),
    ("configuration", "## [redact]", RedactSettings),
    ("configuration", "## [access]", AccessSettings),
    ("configuration", "## [[access.keys]]", KeySettings),
    ("configuration", "## [access.jwt]", JwtSettings),
    ("configuration", "## [access.proxy]", ProxySettings),
    ("configuration", "### pace", PaceSettings),
    ("configuration", "### webhook", WebhookSettings),
    *((f"upstreams/{kind}", "## Keys", settings) for kind, settings in UPSTREAM_KINDS.items()),
    *((*keys_of_a_sink(kind), settings) for kind, settings in SINK_KINDS.items()),
]


@pytest.mark.parametrize(("page", "heading", "settings"), TABLES)
def test_every_key_of_the_configuration_is_documented_with_its_default(
    page: str, heading: str, settings: type[Struct]
) -> None:
    text = section(reference(page), heading)
    rows = dict(re.findall(r"^\| `([\w.]+)` \| (.*?) \|", text, re.MULTILINE))

    assert list(rows) == [key for key, _ in keys(settings)]
    for key, default in keys(settings):
        if isinstance(default, str | int | float):
            assert rows[key] == f"`{json.dumps(default)}`", key


def test_every_route_is_documented() -> None:
    app = create_app(relay.Relay([]))
    routes = {(route.method, route.resource.canonical) for route in app.router.routes() if route.resource is not None}

    for method, path in routes:
        assert method == "HEAD" or f"`{method} {path}`" in reference("http"), f"{method} {path}"


def test_the_scope_that_each_route_needs_is_documented() -> None:
    named = {"none, not even an access": "nothing", "any access": "any"}
    rows = re.findall(r"^\| (.+?) \| (.+) \|$", section(reference("http"), "## Access"), re.MULTILINE)
    documented = {
        request: named.get(scope, scope.strip("`"))
        for scope, requests in rows[: rows.index(("status", "when | what to do"))]
        for request in re.findall(r"`([A-Z]+ /[^`]*)`", requests)
    }

    rules = create_app(relay.Relay([]))[RULES]
    assert documented == {
        f"{route.method} {route.resource.canonical}": rule.needs
        for route, rule in rules.items()
        if route.method != "HEAD" and route.resource is not None
    }


@pytest.mark.parametrize("module", [relay, relay.upstreams, relay.testing, sinks, web], ids=lambda m: m.__name__)
def test_every_public_name_is_documented(module: object) -> None:
    page = reference("python")

    for name in module.__all__:  # type: ignore[attr-defined]
        assert re.search(rf"[.`]{name}\b", page), f"{module.__name__}.{name}"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "members"),
    re.findall(r"^\.\. auto\w+:: ([\w.]+)\n(?: +:members: (.+)\n)?", reference("python"), re.MULTILINE),
)
def test_every_name_that_the_reference_documents_exists(name: str, members: str) -> None:
    documented = resolve_name(name)
    inside = {*dir(documented), *getattr(documented, "__annotations__", {})}

    assert {member.strip() for member in members.split(",") if member} <= inside


def test_the_records_that_are_shown_as_streams_are_records() -> None:
    shown = re.findall(r"^data: (\{.*\})$", reference("http"), re.MULTILINE)

    assert shown
    for body in shown:
        assert read_record(body.encode(), Position("7f3a", 4)).json == body.encode()


# Every page can be reached


@pytest.mark.parametrize("page", [*PAGES, *READ_ON_GITHUB], ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_within_the_repository_leads_somewhere(page: Path) -> None:
    for link in LINK.findall(read(page)):
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_relative_to(ROOT), link
        assert target.exists(), link
        assert not anchor or anchor in anchors(read(target)), link


def linked_from(page: Path) -> set[Path]:
    """The files that *page* links to or lists in a table of contents."""
    links = [link.partition("#")[0] for link in LINK.findall(read(page)) if "://" not in link]
    listed = [f"{line}.md" for toctree in TOCTREE.findall(read(page)) for line in ENTRY.findall(toctree)]
    return {(page.parent / link).resolve() for link in [*filter(None, links), *listed]}


def test_every_page_is_in_one_table_of_contents() -> None:
    listed = [
        (page.parent / f"{line}.md").resolve()
        for page in PAGES
        for toctree in TOCTREE.findall(read(page))
        for line in ENTRY.findall(toctree)
    ]

    assert sorted(listed) == [path for path in PAGES if path != DOCS / "index.md"]


def test_every_page_is_two_clicks_from_the_readme_at_most() -> None:
    first = linked_from(ROOT / "README.md")
    second = {link for page in first & set(PAGES) for link in linked_from(page)}

    assert {path for path in PAGES if path.parent != DOCS} <= first | second


# What troubleshooting quotes is what the code says

QUOTED = [
    line
    for block in re.findall(r"^```text\n(.*?)^```$", read(DOCS / "how-to" / "troubleshooting.md"), re.M | re.S)
    for line in block.splitlines()
]


@cache
def sentences() -> str:
    """Every text in the code; in place of a value within one there is a NUL, as there is between two."""
    texts = [
        node
        for package in ("relay", "sinks", "web")
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(read(path)))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    return "\0".join(str(node.value) for node in texts)


@pytest.mark.parametrize("line", QUOTED)
def test_every_line_that_troubleshooting_quotes_is_in_the_code(line: str) -> None:
    pieces = [piece for piece in (part.strip() for part in line.split("...")) if len(piece) > 2]

    assert pieces
    for piece in pieces:
        assert piece in sentences(), piece


def test_each_row_of_the_page_on_upgrades_keeps_two_releases_apart() -> None:
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", (DOCS / "how-to" / "upgrade.md").read_text(), re.MULTILINE)

    assert len(rows) > 10
    assert [old for old, new in rows if old == new and set(old) != {"-"}] == []
