"""The drawings are made by docs/drawings.py, and show the code as it is."""

import re
import runpy
from collections.abc import Callable
from datetime import UTC, datetime
from inspect import signature
from pathlib import Path
from typing import Any, get_args

import pytest

from relay.bus import Bus
from relay.events import EVENTS, Accepted, Done, Event, Position, Progress, Status
from relay.jobs.state import Job, JobState, evolve
from relay.journal import MemoryJournal, Retention
from relay.polling.breaker import Breaker
from relay.wire.record_json import stamp
from tests.architecture.plan import draw, storey
from web import create_app
from web.streaming.resume import start_stream
from web.streaming.selection import Selection

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
STATIC = DOCS / "_static"
MADE: dict[str, Any] = runpy.run_path(str(DOCS / "drawings.py"))
DRAWINGS = {drawing.name: drawing for drawing in MADE["DRAWINGS"]}
EXAMPLES: tuple[Event, ...] = runpy.run_path(str(DOCS / "generate.py"))["EXAMPLES"]
IMAGE = re.compile(r"!\[([^\]]*)\]\(([^)]+)\)")


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_drawing_is_what_its_source_makes(name: str) -> None:
    kept = (STATIC / f"{name}.svg").read_text(encoding="utf-8")

    assert kept == DRAWINGS[name].svg(), "run `python docs/drawings.py` after a change to it"


@pytest.mark.parametrize("path", sorted(STATIC.glob("*.svg")), ids=lambda path: path.stem)
def test_a_drawing_has_words_for_readers_who_do_not_see_it_and_a_dark_mode(path: Path) -> None:
    source = path.read_text(encoding="utf-8")

    assert re.search(r"<title[^>]*>[^<]+</title>", source)
    assert re.search(r"<desc[^>]*>[^<]+</desc>", source)
    assert "prefers-color-scheme: dark" in source


def test_every_drawing_is_shown_with_an_alternative_text() -> None:
    pages = [ROOT / "README.md", *(page for page in DOCS.rglob("*.md") if "_build" not in page.parts)]
    shown = {
        (page.parent / target).resolve(): alternative
        for page in pages
        for alternative, target in IMAGE.findall(page.read_text(encoding="utf-8"))
    }

    assert all(len(alternative) > 20 for alternative in shown.values())
    assert set(STATIC.glob("*.svg")) <= set(shown)


def arrows(name: str) -> list[tuple[str, str, str]]:
    """The arrows of a drawing: source, label, target."""
    return [(arrow.source, arrow.label, arrow.target) for arrow in DRAWINGS[name].arrows]


# The life of a job

BEFORE = {
    "submit or follow": JobState(),
    "looking": JobState(seq=1, status="running", looking=True),
    "open": JobState(seq=1, status="running"),
    **{status: JobState(seq=1, status=status) for status in get_args(Status)},
}
STEPS = [(source, tag, target) for source, tags, target in arrows("job") for tag in tags.split(", ")]


def after(state: JobState, event: Event) -> str:
    """The name of the box that a job is in, once it was in *state* and *event* was published."""
    became = evolve(state, stamp("job_1", state.seq + 1, datetime(2026, 1, 1, tzinfo=UTC), event, Position("7f3a", 1)))
    return "looking" if became.looking and became.terminal is None else became.status


@pytest.mark.parametrize(("source", "tag", "target"), STEPS)
def test_each_arrow_of_a_jobs_life_is_what_its_event_does(source: str, tag: str, target: str) -> None:
    event = next(event for event in EXAMPLES if event.type == tag)
    if isinstance(event, Progress):
        event = Progress(percent=None, status=target)  # type: ignore[arg-type]

    assert after(BEFORE[source], event) == target


def test_a_jobs_life_shows_every_status_and_every_event() -> None:
    drawing = DRAWINGS["job"]
    words = {word.strip(",.;") for _, _, note in drawing.notes for word in note.split()}

    assert set(get_args(Status)) <= {box.name for box in drawing.boxes}
    assert {str(event.__struct_config__.tag) for event in EVENTS} == {tag for _, tag, _ in STEPS} | (
        words & {event.type for event in EXAMPLES}
    )


# The breaker


def opened() -> Breaker:
    breaker = Breaker(threshold=1)
    assert breaker.counts()
    breaker.open(10.0)
    return breaker


def half_open() -> Breaker:
    breaker = opened()
    assert not breaker.allows(9.0)
    assert breaker.allows(10.0)
    breaker.try_out()
    return breaker


def fail(breaker: Breaker) -> None:
    if breaker.counts():
        breaker.open(20.0)


BREAKERS: dict[str, Callable[[], Breaker]] = {
    "closed": lambda: Breaker(threshold=1),
    "open": opened,
    "half-open": half_open,
}
ACTS: dict[str, Callable[[Breaker], object]] = {
    "failures": fail,
    "failure": fail,
    "success": Breaker.close,
    "known to work": Breaker.reset,
    "wait is over": Breaker.try_out,
}


@pytest.mark.parametrize(("source", "label", "target"), arrows("breaker"))
def test_each_arrow_of_the_breaker_is_what_it_does(source: str, label: str, target: str) -> None:
    breaker = BREAKERS[source]()

    ACTS[label](breaker)

    assert breaker.state == target


def test_the_breaker_opens_for_as_many_tasks_as_the_drawing_names() -> None:
    note = " ".join(text for _, _, text in DRAWINGS["breaker"].notes)
    five, two = Breaker(), Breaker()

    assert ("Five tasks in a row" in note, "two refused tokens" in note) == (True, True)
    assert [five.counts() for _ in range(5)] == [False] * 4 + [True]
    assert [two.counts(refusal=True) for _ in range(2)] == [False, True]


# A stream


def test_the_times_in_the_drawing_of_a_stream_are_the_defaults() -> None:
    defaults = {name: parameter.default for name, parameter in signature(create_app).parameters.items()}

    assert ("behind", f"for {defaults['slow_after']:g} s", "slow") in arrows("stream")
    assert ("slow", f"{defaults['send_timeout']:g} s unread", "cut off") in arrows("stream")


# Where a stream begins


def first_of_stream(*, keep: int, cursor: str | None, ended: bool = False) -> list[str]:
    """The boxes that a client of one job with this cursor passes, in a journal that has *keep* of three records."""
    bus = Bus(MemoryJournal(Retention(records=keep), epoch="7f3a"))
    job = Job("job_1")
    for event in (
        Accepted(upstream="sora"),
        Progress(percent=1, status="running"),
        Done() if ended else Progress(percent=2, status="running"),
    ):
        bus.publish(job, event)
    start = start_stream(bus, Selection([job]), cursor)
    if start.finished:
        return ["204"]
    return [*(["gap"] if start.gap else []), *(["snapshot"] if start.snapshot else []), "records"]


def path_from(box: str) -> list[str]:
    """The boxes that follow *box* in the drawing."""
    following = {source: target for source, _, target in arrows("resume") if source != "a client connects"}
    path = []
    while box in following:
        box = following[box]
        path.append(box)
    return path


@pytest.mark.parametrize(
    ("box", "first"),
    [
        ("all of it is kept", first_of_stream(keep=10, cursor="7f3a-1")),
        ("all of it is kept", first_of_stream(keep=10, cursor=None)),
        ("no cursor", first_of_stream(keep=1, cursor=None)),
        ("cursor without a past", first_of_stream(keep=1, cursor="7f3a-1")),
        ("cursor without a past", first_of_stream(keep=10, cursor="beef-1")),
        ("cursor without a past", first_of_stream(keep=10, cursor="7f3a-99")),
        ("cursor without a past", first_of_stream(keep=10, cursor="nonsense")),
        ("every job has ended", first_of_stream(keep=10, cursor="7f3a-3", ended=True)),
    ],
)
def test_a_stream_begins_as_it_is_drawn(box: str, first: list[str]) -> None:
    assert path_from(box) == first


# The rooms

FLOORS: tuple[tuple[tuple[str, str], ...], ...] = MADE["FLOORS"]
FLOOR_OF = {name: number for number, floor in enumerate(FLOORS) for name, _ in floor}


def as_drawn(place: str) -> str:
    """The box that a room, or a module of the hall, is in."""
    return place if place in FLOOR_OF else "hall"


def test_every_room_is_drawn() -> None:
    plan = draw()
    rooms = {storey(room) for room in plan.rooms} - {"relay"}

    assert rooms | {"relay.relay", "hall"} == set(FLOOR_OF)


@pytest.mark.parametrize(("start", "to"), sorted(draw().storeys()))
def test_every_import_points_down(start: str, to: str) -> None:
    upper, lower = as_drawn(start), "relay.relay" if to == "relay" else as_drawn(to)

    assert FLOOR_OF[upper] < FLOOR_OF[lower] or upper == lower


def test_the_single_modules_of_the_hall_are_all_named() -> None:
    ((_, caption),) = FLOORS[-1]

    assert {f"relay.{module}" for module in caption.split(", ")} == set(draw().loose) - {"relay.relay"}
