"""`python -m tests.bench`: what the relay costs, part by part, beside others where there are any."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from traceback import format_exception

import msgspec

from tests.bench.against.compare import against_release
from tests.bench.against.release import NoReleaseError
from tests.bench.fanout.scenarios import SCENARIOS
from tests.bench.fanout.servers import SERVERS
from tests.bench.goals import PARTS_OF_GOALS, goals_table
from tests.bench.machine import machine, versions
from tests.bench.part import Findings, Plan
from tests.bench.parts import PARTS, part
from tests.bench.report import Report, Section, comparison, markdown

LAST_RELEASE = ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print what was found. The status is 0 also where a goal is missed: it is a report.

    It is 1 only where `--compare` finds that the relay became slower than a release.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.parts if name not in PARTS]:
        parser.error(f"there is no part {unknown[0]!r}; choose from {', '.join(PARTS)}")
    old = None
    try:
        if options.compare is not None and not (options.compare and Path(options.compare).is_file()):
            text, status = against_release(options.compare, _say)
            print(text)
            return status
        if options.compare is not None:
            old = msgspec.json.decode(Path(options.compare).read_bytes(), type=Report)
    except (NoReleaseError, OSError, msgspec.DecodeError) as error:
        parser.error(f"cannot compare with {options.compare}: {error}")
    plan = Plan(
        rounds=1 if options.quick else options.rounds,
        quick=options.quick,
        goals=options.goals,
        minutes=options.minutes,
        say=_say,
        scenarios=options.scenarios,
        servers=options.servers,
    )
    report = run(options.parts or (PARTS_OF_GOALS if options.goals else list(PARTS)), plan)
    if options.json is not None:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    print(goals_table(report) if options.goals else markdown(report))
    if old is not None:
        print(comparison(old, report))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"all by default: {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=_rounds, default=3, metavar="N", help="how often each is run; 3 by default")
    parser.add_argument("--quick", action="store_true", help="only see that it works: one round, small sizes")
    parser.add_argument("--goals", action="store_true", help="measure only the goals, and print one table of them")
    parser.add_argument("--minutes", type=float, default=2.0, metavar="M", help="how long the part traffic lasts")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file as well")
    parser.add_argument(
        "--compare",
        nargs="?",
        const=LAST_RELEASE,
        metavar="FILE|REVISION",
        help="with a file of --json: compare this run with its figures. Without one, or with a revision: measure the "
        "last release, or that revision, beside the code of now; the status is 1 if that became slower",
    )
    parser.add_argument("--scenarios", nargs="+", default=(), choices=SCENARIOS, help="those of fanout to run")
    parser.add_argument("--servers", nargs="+", default=(), choices=SERVERS, help="those of fanout to measure")
    return parser


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
