"""The benchmark's runner: what a reader of its report may rely on."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from tests.bench.__main__ import main
from tests.bench.fanout.servers import missing
from tests.bench.part import Figure, Findings, Plan, least, most, ratio
from tests.bench.parts import PARTS, part
from tests.bench.report import Report, Section, comparison, markdown

MACHINE = {"kernel": "6.1", "processors": 2, "load": 0.1}


def report(figures: Sequence[Figure], *, quick: bool = False, **more: Sequence[str]) -> Report:
    findings = Findings(figures=figures, **more)  # type: ignore[arg-type]
    return Report(
        taken=datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
        rounds=3,
        quick=quick,
        machine=MACHINE,
        versions={"relay": "0123456789ab"},
        sections=[Section(part="replay", seconds=12.3, findings=findings)],
    )


def test_a_ratio_is_of_the_least_of_each_and_as_uncertain_as_both() -> None:
    figure = ratio("relay / nchan", [6.0, 7.0, 9.0], [8.0, 10.0, 9.0], goal=0.8)

    assert figure == Figure(name="relay / nchan", value=0.75, unit="x", goal=0.8, spread=1 / 6 + 1 / 8)
    assert figure.met


def test_a_cost_is_the_least_of_all_rounds_and_a_fault_is_the_most() -> None:
    assert least("time", "ms", [3.0, 2.0, 4.0], goal=1.5).value == 2.0
    assert most("gaps", "", [0.0, 1.0, 0.0], goal=0).value == 1.0
    assert (least("time", "ms", [2.0], goal=1.5).met, most("gaps", "", [0.0], goal=0).met) == (False, True)
    assert least("time", "ms", [2.0]).met is None


def test_what_falls_short_is_said_by_name() -> None:
    figures = [
        Figure(name="replay, SQLite", value=123.4, unit="ms", goal=100, note="10,000 records"),
        Figure(name="replay, memory", value=45.67, unit="ms", goal=100),
        Figure(name="file of a record", value=0.0123, unit="KB"),
    ]

    text = markdown(report(figures, skipped=["nchan, which needs nginx"], failed=["memory, round 2: OSError: no room"]))

    assert text == (
        "# Benchmark\n\n"
        "- Machine: kernel 6.1, processors 2, load 0.1\n"
        "- Versions: relay 0123456789ab\n"
        "- Rounds: 3, 2026-01-02 03:04 UTC\n\n"
        "## replay\n\n"
        "| figure | | goal | | |\n"
        "| --- | ---: | ---: | --- | --- |\n"
        "| replay, SQLite | 123 ms | <= 100 | falls short | 10,000 records |\n"
        "| replay, memory | 45.7 ms | <= 100 | met |  |\n"
        "| file of a record | 0.012 KB |  |  |  |\n\n"
        "Not measured: nchan, which needs nginx.\n\n"
        "Broke down: memory, round 2: OSError: no room.\n\n"
        "This part took 12 s.\n\n"
        "## Goals\n\n"
        "1 of 2 are met.\n\n"
        "- falls short: replay: replay, SQLite: 123 ms, and should be at most 100\n"
    )


def test_a_quick_run_judges_nothing() -> None:
    text = markdown(report([Figure(name="replay", value=123.4, unit="ms", goal=100)], quick=True))

    assert "falls short" not in text
    assert "none of 1 goals is judged" in text


def test_only_what_is_beyond_the_noise_of_both_runs_is_called_worse_or_better() -> None:
    old = report(
        [
            Figure(name="steady", value=10.0, unit="us", spread=0.01),
            Figure(name="noisy", value=10.0, unit="us", spread=0.2),
            Figure(name="slower", value=10.0, unit="us"),
            Figure(name="faster", value=10.0, unit="us"),
            Figure(name="gaps", value=0.0),
            Figure(name="dropped", value=1.0),
        ]
    )
    new = report(
        [
            Figure(name="steady", value=10.9, unit="us", spread=0.01),
            Figure(name="noisy", value=12.5, unit="us", spread=0.1),
            Figure(name="slower", value=12.0, unit="us"),
            Figure(name="faster", value=8.0, unit="us"),
            Figure(name="gaps", value=1.0),
            Figure(name="added", value=1.0),
        ]
    )

    assert comparison(old, new).splitlines()[2:] == [
        "| figure | old | new | change | |",
        "| --- | ---: | ---: | ---: | --- |",
        "| replay: steady | 10 us | 10.9 us | +9% |  |",
        "| replay: noisy | 10 us | 12.5 us | +25% |  |",
        "| replay: slower | 10 us | 12 us | +20% | worse |",
        "| replay: faster | 10 us | 8 us | -20% | better |",
        "| replay: gaps | 0 | 1 |  | worse |",
        "| replay: added | | 1 | | new |",
        "| replay: dropped | 1 | | | gone |",
        "",
        "Worse than before, beyond the noise: replay: slower; replay: gaps.",
    ]


def test_a_comparison_says_where_machine_or_versions_differ_and_judges_no_quick_run() -> None:
    old = report([Figure(name="steady", value=10.0)])
    new = msgspec.structs.replace(
        report([Figure(name="steady", value=99.0)], quick=True), machine={**MACHINE, "processors": 8, "load": 3.0}
    )

    text = comparison(old, new)

    assert "Machine: processors 2 -> 8\n" in text
    assert "nothing can be said" in text
    assert "Worse than before, beyond the noise: nothing." in text


@pytest.mark.parametrize("name", PARTS)
def test_every_part_is_there(name: str) -> None:
    assert callable(part(name))


@pytest.mark.skipif(missing("relay") is not None, reason=f"the relay is not measured: it needs {missing('relay')}")
def test_a_run_is_printed_kept_and_compared_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = tmp_path / "bench.json"
    command = ["fanout", "--quick", "--scenarios", "S2", "--servers", "relay", "--json", str(kept)]

    assert main(command) == 0
    assert main([*command, "--compare", str(kept)]) == 0

    found = msgspec.json.decode(kept.read_bytes(), type=Report)
    assert [name for name, _ in found.figures()] == ["fanout"] * 3
    assert [figure.value for _, figure in found.figures() if "missing" in figure.name] == [0.0]
    printed = capsys.readouterr().out
    assert printed.count("## fanout\n") == 2
    assert "| fanout: S2 CPU of a delivery | " in printed.partition("## Compared with an older run")[2]
    assert str(Path.home()) not in kept.read_text()
    assert str(tmp_path) not in kept.read_text()


def test_a_part_that_breaks_down_does_not_cost_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(plan: Plan) -> Findings:
        raise OSError("no room is left")

    monkeypatch.setattr("tests.bench.__main__.part", lambda _: broken)

    assert main(["fanout", "--quick"]) == 0
    assert "Broke down: OSError: no room is left." in capsys.readouterr().out


def test_a_part_or_file_that_is_not_there_is_said_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["fanuot"])
    with pytest.raises(SystemExit, match="2"):
        main(["fanout", "--compare", str(tmp_path / "none.json")])

    said = capsys.readouterr().err
    assert "there is no part 'fanuot'; choose from fanout" in said
    assert "cannot compare with" in said
