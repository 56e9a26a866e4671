"""`python -m tests.bench.fanout`: what handing one record to many readers costs, beside the same with others."""

import argparse
import sys
from pathlib import Path

import msgspec

from tests.bench.fanout.measure import DEFAULT_SERVERS, Row, measure
from tests.bench.fanout.scenarios import SCENARIOS
from tests.bench.fanout.servers import SERVERS
from tests.bench.fanout.tables import tables

parser = argparse.ArgumentParser(prog="python -m tests.bench.fanout", description=__doc__)
parser.add_argument("scenarios", nargs="*", default=list(SCENARIOS), metavar="scenario", help=", ".join(SCENARIOS))
parser.add_argument("--servers", nargs="+", default=DEFAULT_SERVERS, choices=SERVERS)
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--json", type=Path, help="add the rows to this file, one a line, and print all that it holds")
options = parser.parse_args()


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


rows = measure(options.scenarios, options.servers, options.rounds, say)
if options.json is not None:
    with options.json.open("ab") as out:
        out.writelines(msgspec.json.encode(row) + b"\n" for row in rows)
    rows = [msgspec.json.decode(line, type=Row) for line in options.json.read_bytes().splitlines()]
print(tables(rows))
