"""`python -m tests.bench`: what the relay costs, part by part, beside others where there are any."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from traceback import format_exception

import msgspec

from tests.bench.fanout.scenarios import SCENARIOS
from tests.bench.fanout.servers import SERVERS
from tests.bench.machine import machine, versions
from tests.bench.part import Findings, Plan
from tests.bench.parts import PARTS, part
from tests.bench.report import Report, Section, comparison, markdown


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print what was found. The status is 0 also where a goal is missed: it is a report."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"all by default: {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=_rounds, default=3, metavar="N", help="how often each is run; 3 by default")
    parser.add_argument("--quick", action="store_true", help="only see that it works: one round, small sizes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file as well")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="compare with the figures in this file")
    parser.add_argument("--scenarios", nargs="+", default=(), choices=SCENARIOS, help="those of fanout to run")
    parser.add_argument("--servers", nargs="+", default=(), choices=SERVERS, help="those of fanout to measure")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.parts if name not in PARTS]:
        parser.error(f"there is no part {unknown[0]!r}; choose from {', '.join(PARTS)}")
    try:
        old = msgspec.json.decode(options.compare.read_bytes(), type=Report) if options.compare is not None else None
    except (OSError, msgspec.DecodeError) as error:
        parser.error(f"cannot compare with {options.compare}: {error}")
    plan = Plan(
        rounds=1 if options.quick else options.rounds,
        quick=options.quick,
        say=_say,
        scenarios=options.scenarios,
        servers=options.servers,
    )
    report = run(options.parts or list(PARTS), plan)
    if options.json is not None:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    print(markdown(report))
    if old is not None:
        print(comparison(old, report))
    return 0


def run(parts: Sequence[str], plan: Plan) -> Report:
    """Measure *parts*, one after another."""
    facts, found = machine(), versions()
    sections = [_section(name, plan) for name in dict.fromkeys(parts)]
    for section in sections:
        found.update(section.findings.versions)
    return Report(rounds=plan.rounds, quick=plan.quick, machine=facts, versions=found, sections=sections)


def _section(name: str, plan: Plan) -> Section:
    plan.say(f"{name}: begins")
    began = time.monotonic()
    try:
        findings = part(name)(plan)
    except Exception as error:
        # One part that breaks down must not cost what the others have found.
        plan.say("".join(format_exception(error)))
        findings = Findings(failed=[f"{type(error).__name__}: {error}"])
    seconds = time.monotonic() - began
    plan.say(f"{name}: took {seconds:.0f} s")
    return Section(part=name, seconds=round(seconds, 1), findings=findings)


def _rounds(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("at least one round")
    return number


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
