"""Bars are drawn over each other, in lines that no terminal wraps; what has ended stays."""

import io
import re
from datetime import UTC, datetime

import pytest

from relay.cli.bars import Bars, bar
from relay.cli.received import ReceivedRecord, Words


class Terminal(io.StringIO):
    """Knows what a terminal shows of what is printed on it: as much of its language as is spoken here."""

    @property
    def shows(self) -> list[str]:
        lines, row = [""], 0
        for part in re.split(r"(\x1b\[\d*[AJ]|\n|\r)", self.getvalue()):
            if part == "\n":
                row += 1
                lines += [""] * (row + 1 - len(lines))
            elif part == "\x1b[J":
                lines[row:] = [""]
            elif up := re.fullmatch(r"\x1b\[(\d+)A", part):
                row -= int(up[1])
            elif part != "\r":
                lines[row] += part
        return lines


@pytest.fixture(autouse=True)
def a_small_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "5")


def told(job: str, text: str, percent: int | None = None, kind: str = "progress") -> ReceivedRecord:
    return ReceivedRecord(job, 1, datetime(2026, 1, 1, tzinfo=UTC), Words(kind, "info", text), b"{}", percent)


@pytest.mark.parametrize(
    ("percent", "line"),
    [
        (None, "job_1                [                    ]      queued"),
        (0, "job_1                [                    ]   0% queued"),
        (42, "job_1                [########            ]  42% queued"),
        (100, "job_1                [####################] 100% queued"),
    ],
)
def test_a_bar_says_job_percent_and_text(percent: int | None, line: str) -> None:
    assert bar("job_1", percent, "queued") == line


async def test_each_job_has_one_line_that_is_drawn_again_and_one_that_has_ended_leaves_its_own() -> None:
    terminal = Terminal()
    async with Bars(terminal) as bars:
        await bars.tell(told("a", "preprocessing"))
        await bars.tell(told("b", "9% (running)", 9))
        await bars.remark("draw now")
        running = terminal.shows
        await bars.tell(told("b", "checking (2 of 600)", kind="checking"))
        await bars.tell(told("a", "done, 1 file", kind="done"))
        await bars.tell(told("c", "50% (running)", 50))

    assert running == [bar("a", None, "preprocessing"), bar("b", 9, "9% (running)"), ""]
    assert terminal.shows == [
        bar("a", 100, "done, 1 file"),
        bar("b", 9, "checking (2 of 600)"),
        bar("c", 50, "50% (running)"),
        "",
    ]


async def test_a_job_that_failed_keeps_the_percent_it_had_come_to_and_all_of_its_words() -> None:
    terminal = Terminal()
    async with Bars(terminal) as bars:
        await bars.tell(told("a", "70% (running)", 70))
        await bars.tell(told("a", "failed (policy): " + "x" * 100, kind="failed"))

    assert terminal.shows == [bar("a", 70, "failed (policy): " + "x" * 100), ""]


async def test_no_more_is_drawn_than_the_terminal_has_room_for() -> None:
    terminal = Terminal()
    async with Bars(terminal) as bars:
        for job in "abcdef":
            await bars.tell(told(job, "\u754c" * 50 + "x" * 50, 5))
        await bars.remark("draw now")

    *lines, end = terminal.shows
    wide = bar("a", 5, "\u754c" * 15)
    assert (lines, end) == ([wide, "b" + wide[1:], "c" + wide[1:], "and 3 more"], "")


async def test_a_remark_is_said_above_the_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    async with Bars(terminal) as bars:
        await bars.tell(told("a", "9% (running)", 9))
        await bars.remark("the connection was lost")
        await bars.remark("the connection is back")

    assert terminal.shows == [
        "relay: the connection was lost",
        "relay: the connection is back",
        bar("a", 9, "9% (running)"),
        "",
    ]


class Ascii(Terminal):
    encoding = "ascii"


async def test_a_terminal_that_lacks_a_character_shows_its_escape() -> None:
    terminal = Ascii()
    async with Bars(terminal) as bars:
        await bars.tell(told("a", "done, \u00e9", kind="done"))

    assert terminal.shows == [bar("a", 100, r"done, \xe9"), ""]


async def test_a_terminal_that_has_gone_costs_nothing() -> None:
    class Gone(Terminal):
        def write(self, text: str) -> int:
            raise OSError(5, text)

    async with Bars(Gone()) as bars:
        await bars.tell(told("a", "done", kind="done"))
        await bars.remark("nobody sees this")


@pytest.mark.parametrize("kind", ["failed", "cancelled"])
async def test_the_bar_of_a_job_that_ended_without_a_result_is_not_full(kind: str) -> None:
    terminal = Terminal()
    async with Bars(terminal) as bars:
        await bars.tell(told("a", "100% (saving)", 100))
        await bars.tell(told("a", "it ended", kind=kind))

    assert terminal.shows == [bar("a", 99, "it ended"), ""]
    assert "####################" not in terminal.shows[0]
