"""What there is: `relay sinks`, `relay upstreams`, `relay schema`."""

import json
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from relay.cli.options import config_option
from relay.wire.record_json import record_schema

if TYPE_CHECKING:
    from relay.cli.sink_listing import ListedKey

__all__ = ["schema", "sinks", "upstreams"]

_SOURCES = {"box": "in the box", "package": "from the package {}", "relay.toml": "named in relay.toml"}
_SCHEMAS = {"jsonschema": record_schema}


@click.command
@config_option
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="How to print the list.")
@click.option("--forget", metavar="NAME", help="Forget how far the durable sink NAME has got; the relay must not run.")
def sinks(config: Path | None, form: str, forget: str | None) -> int:
    """List the kinds of sinks, as [[sinks]] of relay.toml names them: where each comes from, its keys and defaults."""
    if forget is not None:
        from relay.cli.forgetting import forget_sink

        return forget_sink(config, forget)
    from relay.cli.build import import_from_here
    from relay.cli.sink_listing import common_keys, listed_kinds

    import_from_here()
    default = Path("relay.toml")
    kinds = listed_kinds(config if config is not None else default if default.exists() else None)
    common = common_keys()
    if form == "json":
        click.echo(json.dumps({"kinds": msgspec.to_builtins(kinds), "keys": msgspec.to_builtins(common)}, indent=2))
        return 0
    for kind in kinds:
        click.echo(f"{kind.kind}  ({_SOURCES[kind.source].format(kind.package)})")
        for line in (kind.about, f"cannot be used: {kind.problem}" if kind.problem else "", _in_words(kind.keys)):
            if line:
                click.echo(textwrap.fill(line, 100, initial_indent="    ", subsequent_indent="        "))
    click.echo("package.module:Name  (your own)")
    click.echo("    Any callable of one record, or a class that makes one from the keys of its table.")
    click.echo(f"\nKeys of every sink: {_in_words(common)}")
    return 0


@click.command
def upstreams() -> int:
    """List the kinds of upstreams, as [[upstreams]] of relay.toml names them."""
    from relay.upstreams.registry import DIALECTS, adapter

    _print({kind: _first_line(adapter(kind)) for kind in DIALECTS})
    return 0


@click.command
@click.argument("kind", type=click.Choice(list(_SCHEMAS)), default="jsonschema")
def schema(kind: str) -> int:
    """Print the schema of a record on the wire, as JSON Schema (2020-12)."""
    click.echo(json.dumps(_SCHEMAS[kind](), indent=2))
    return 0


def _in_words(keys: "Iterable[ListedKey]") -> str:
    """Each key with its default, as in a table of TOML."""
    return ", ".join(
        f"{key.name} (required)" if key.required else f"{key.name} = {key.default}" if key.default else key.name
        for key in keys
    )


def _first_line(documented: object) -> str:
    return (documented.__doc__ or "").strip().splitlines()[0]


def _print(kinds: Mapping[str, str]) -> None:
    width = max(map(len, kinds))
    for kind, says in kinds.items():
        click.echo(f"{kind:<{width}}  {says}")
