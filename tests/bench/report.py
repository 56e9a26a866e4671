"""A run as Markdown and as JSON, and how it compares with an older one."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from msgspec import Struct, field

from tests.bench.part import Figure, Findings

__all__ = ["Report", "Section", "comparison", "markdown", "number", "value"]

NOISE: Final = 0.10
"""Differences below this mean nothing, however close the rounds of a run were."""


class Section(Struct, frozen=True, kw_only=True):
    """One part of a run. *seconds* is how long it took."""

    part: str
    seconds: float
    findings: Findings


class Report(Struct, frozen=True, kw_only=True):
    """One run of the benchmark. Times within it compare; with those of another machine or day, only ratios do."""

    format: int = 1
    taken: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))
    rounds: int
    quick: bool
    machine: dict[str, Any]
    versions: dict[str, str]
    sections: Sequence[Section]

    def figures(self) -> Iterator[tuple[str, Figure]]:
        """Every figure, with the part that it belongs to."""
        for section in self.sections:
            for figure in section.findings.figures:
                yield section.part, figure


def markdown(report: Report) -> str:
    """The whole report."""
    head = ["# Benchmark", "", *_facts("Machine", report.machine), *_facts("Versions", report.versions)]
    head += [f"- Rounds: {report.rounds}, {report.taken:%Y-%m-%d %H:%M} UTC", ""]
    parts = [line for section in report.sections for line in _section(section, judged=not report.quick)]
    return "\n".join([*head, *parts, *_verdict(report)])


def comparison(old: Report, new: Report) -> str:
    """Figure by figure, what has changed since *old*; only what is beyond the noise is called better or worse."""
    lines = ["## Compared with an older run", ""]
    for what, one, other in (("Machine", old.machine, new.machine), ("Versions", old.versions, new.versions)):
        differing = [
            f"{key} {one.get(key, 'none')} -> {other.get(key, 'none')}"
            for key in dict.fromkeys([*one, *other])
            if key != "load" and one.get(key) != other.get(key)
        ]
        if differing:
            lines += [f"{what}: {'; '.join(differing)}", ""]
    if old.quick or new.quick:
        lines += ["A quick run measures other sizes: nothing can be said about what became slower.", ""]
    before, after = dict(_keyed(old)), dict(_keyed(new))
    lines += ["| figure | old | new | change | |", "| --- | ---: | ---: | ---: | --- |"]
    worse = []
    for key, figure in after.items():
        if (known := before.get(key)) is None:
            lines.append(f"| {key} | | {value(figure)} | | new |")
            continue
        word = "" if old.quick or new.quick else _change(known, figure)
        if word == "worse":
            worse.append(key)
        lines.append(f"| {key} | {value(known)} | {value(figure)} | {_percent(known, figure)} | {word} |")
    measured = {section.part for section in new.sections}
    lines += [
        f"| {key} | {value(figure)} | | | gone |"
        for key, figure in before.items()
        if key not in after and key.partition(":")[0] in measured
    ]
    lines += ["", f"Worse than before, beyond the noise: {'; '.join(worse) or 'nothing'}.", ""]
    return "\n".join(lines)


def _keyed(report: Report) -> Iterator[tuple[str, Figure]]:
    for name, figure in report.figures():
        yield f"{name}: {figure.name}", figure


def _facts(title: str, facts: Mapping[str, Any]) -> list[str]:
    return [f"- {title}: " + ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in facts.items())]


def _section(section: Section, *, judged: bool) -> Iterator[str]:
    findings = section.findings
    yield f"## {section.part}"
    yield ""
    if findings.figures:
        yield "| figure | | goal | | |"
        yield "| --- | ---: | ---: | --- | --- |"
        for figure in findings.figures:
            goal = f"<= {number(figure.goal)}" if figure.goal is not None else ""
            word = {None: "", True: "met", False: "falls short"}[figure.met if judged else None]
            yield f"| {figure.name} | {value(figure)} | {goal} | {word} | {figure.note} |"
        yield ""
    yield from (f"Not measured: {line}.\n" for line in findings.skipped)
    yield from (f"Broke down: {line}.\n" for line in findings.failed)
    if findings.detail:
        yield findings.detail
    yield f"This part took {section.seconds:.0f} s.\n"


def _verdict(report: Report) -> Iterator[str]:
    yield "## Goals"
    yield ""
    goals = [(name, figure) for name, figure in report.figures() if figure.goal is not None]
    if report.quick:
        yield f"A quick run only shows that all of it still works: none of {len(goals)} goals is judged.\n"
        return
    short = [(name, figure) for name, figure in goals if not figure.met]
    yield f"{len(goals) - len(short)} of {len(goals)} are met.\n"
    for name, figure in short:
        yield f"- falls short: {name}: {figure.name}: {value(figure)}, and should be at most {number(figure.goal)}"
    if short:
        yield ""


def _change(old: Figure, new: Figure) -> str:
    noise = max(NOISE, old.spread + new.spread)
    if new.value > old.value + abs(old.value) * noise:
        return "worse"
    return "better" if new.value < old.value - abs(old.value) * noise else ""


def _percent(old: Figure, new: Figure) -> str:
    return f"{(new.value - old.value) / abs(old.value):+.0%}" if old.value else ""


def value(figure: Figure) -> str:
    """The figure with its unit."""
    return f"{number(figure.value)} {figure.unit}".rstrip()


def number(amount: float | None) -> str:
    """Three digits that count, without an exponent; nothing for None."""
    if amount is None:
        return ""
    if amount == int(amount) or abs(amount) >= 100:
        return f"{amount:,.0f}"
    return f"{amount:.1f}" if abs(amount) >= 10 else f"{amount:.2f}" if abs(amount) >= 0.1 else f"{amount:.2g}"
