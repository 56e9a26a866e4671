"""The documentation is complete, and says what is so. Its code blocks are run by the root conftest.py."""

import json
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

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
from relay.codec import read_record
from relay.events import EVENTS, Position
from relay.settings import SINK_KINDS, UPSTREAM_KINDS, JournalSettings, PaceSettings, ServerSettings, WebhookSettings
from web import create_app

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)
READ_ON_GITHUB = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")]

LINK = re.compile(r"\]\(([^()\s]+)\)")
TAGS = [str(event.__struct_config__.tag) for event in EVENTS]


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def reference(name: str) -> str:
    return read(DOCS / "reference" / f"{name}.md")


def section(page: str, heading: str) -> str:
    """What is below *heading*, down to the next one of the same depth or above."""
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


def test_the_events_page_is_what_the_classes_say() -> None:
    made = runpy.run_path(str(DOCS / "generate.py"))["page"]()

    assert reference("events") == made, "run `python docs/generate.py` after a change to relay/events.py"


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
    for field in msgspec.structs.fields(kind):
        if field.name == "pace":
            continue  # it is the same for all kinds, and has a section of its own
        yield f"{prefix}{field.name}", field.default
        for inner in get_args(field.type) or [field.type]:
            # What several kinds have in common has a section of its own.
            if isinstance(inner, type) and issubclass(inner, Struct) and inner is not WebhookSettings:
                yield from keys(inner, f"{field.name}.")


TABLES: dict[str, type[Struct]] = {
    "## [server]": ServerSettings,
    "## [journal]": JournalSettings,
    "### pace": PaceSettings,
    "### webhook": WebhookSettings,
    **{f'### kind = "{kind}"': settings for kind, settings in UPSTREAM_KINDS.items()},
    **{f'### kind = "{kind}"': settings for kind, settings in SINK_KINDS.items()},
}


@pytest.mark.parametrize(("heading", "settings"), list(TABLES.items()))
def test_every_key_of_the_configuration_is_documented_with_its_default(heading: str, settings: type[Struct]) -> None:
    text = section(reference("configuration"), heading)
    rows = dict(re.findall(r"^\| `([\w.]+)` \| (.*?) \|", text, re.MULTILINE))

    assert list(rows) == [key for key, _ in keys(settings)]
    for key, default in keys(settings):
        if isinstance(default, str | int | float):
            assert rows[key] == f"`{json.dumps(default)}`", key


def test_every_route_is_documented() -> None:
    app = create_app(relay.Relay([]))
    routes = {(route.method, route.resource.canonical) for route in app.router.routes() if route.resource is not None}

    for method, path in routes - {("GET", "/static")}:
        assert method == "HEAD" or f"`{method} {path}`" in reference("http"), f"{method} {path}"


@pytest.mark.parametrize("module", [relay, relay.upstreams, relay.testing, sinks, web], ids=lambda m: m.__name__)
def test_every_public_name_is_documented(module: object) -> None:
    page = reference("python")

    for name in module.__all__:  # type: ignore[attr-defined]
        assert re.search(rf"[.`]{name}\b", page), f"{module.__name__}.{name}"  # type: ignore[attr-defined]


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


def test_every_page_is_in_the_table_of_contents() -> None:
    index = read(DOCS / "index.md")
    listed = re.findall(r"^[\w-]+/[\w-]+$", index, re.MULTILINE)

    assert sorted(listed) == [
        path.relative_to(DOCS).with_suffix("").as_posix() for path in PAGES if path.parent != DOCS
    ]


def test_every_page_can_be_reached_from_the_readme() -> None:
    linked = {(ROOT / link.partition("#")[0]).resolve() for link in LINK.findall(read(ROOT / "README.md"))}

    assert {path for path in PAGES if path.parent != DOCS} <= linked
