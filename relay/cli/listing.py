"""What there is: `relay sinks`, `relay upstreams`, `relay schema`."""

import json
from collections.abc import Mapping
from pathlib import Path

import click

from relay.cli.options import config_option
from relay.wire.record_json import record_schema

__all__ = ["schema", "sinks", "upstreams"]

_SCHEMAS = {"jsonschema": record_schema}


@click.command
@config_option
@click.option("--forget", metavar="NAME", help="Forget how far the durable sink NAME has got; the relay must not run.")
def sinks(config: Path | None, forget: str | None) -> int:
    """List the kinds of sinks, as [[sinks]] of relay.toml names them."""
    if forget is not None:
        from relay.cli.forgetting import forget_sink

        return forget_sink(config, forget)
    from sinks.kinds import SINKS, sink_class

    own = "A sink of your own: any callable of one record, or a class that makes one."
    _print({**{kind: _first_line(sink_class(kind)) for kind in SINKS}, "package.module:Name": own})
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


def _first_line(documented: object) -> str:
    return (documented.__doc__ or "").strip().splitlines()[0]


def _print(kinds: Mapping[str, str]) -> None:
    width = max(map(len, kinds))
    for kind, says in kinds.items():
        click.echo(f"{kind:<{width}}  {says}")
