"""Makes the drawings of docs/_static from the boxes and arrows below; `python docs/drawings.py` writes them again.

tests/docs/test_drawings.py compares the files with what is made here, and the boxes and arrows with the code.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Final, Literal

STATIC: Final = Path(__file__).parent / "_static"

STYLE: Final = """
    .card { fill: #f6f8fa; stroke: #d0d7de }
    .box { fill: #ffffff; stroke: #8c959f; stroke-width: 1.5 }
    .core { fill: #ddf4ff; stroke: #0969da; stroke-width: 2 }
    .end { fill: #ffffff; stroke: #1a7f37; stroke-width: 2 }
    .frame { fill: none; stroke: #8c959f; stroke-width: 1.5; stroke-dasharray: 5 4 }
    .line { fill: none; stroke: #0969da; stroke-width: 2 }
    .head { fill: #0969da }
    text { fill: #1f2328; font: 14px system-ui, -apple-system, "Segoe UI", "Liberation Sans", sans-serif }
    .name { font-weight: 600 }
    .small { font-size: 12.5px; fill: #59636e }
    .label { paint-order: stroke; stroke: #f6f8fa; stroke-width: 4px; stroke-linejoin: round }
    .middle { text-anchor: middle }
    .right { text-anchor: end }
    @media (prefers-color-scheme: dark) {
      .card { fill: #161b22; stroke: #30363d }
      .box, .end { fill: #0d1117 }
      .box, .frame { stroke: #6e7681 }
      .end { stroke: #3fb950 }
      .core { fill: #0c2d6b; stroke: #58a6ff }
      .line { stroke: #58a6ff }
      .head { fill: #58a6ff }
      text { fill: #e6edf3 }
      .small { fill: #b1bac4 }
      .label { stroke: #161b22 }
    }
  """

ARROW: Final = (
    '<marker id="arrow" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" orient="auto">'
    '<path class="head" d="M0 0 10 5 0 10z"/></marker>'
)

Side = Literal["left", "right", "top", "bottom"]


@dataclass(frozen=True)
class Box:
    """A rectangle with a name and lines of smaller text below it."""

    name: str
    x: int
    y: int
    lines: tuple[str, ...] = ()
    width: int = 150
    height: int = 56
    look: Literal["box", "core", "end", "frame"] = "box"

    def at(self, side: Side, part: float) -> tuple[float, float]:
        """The point at *part*, from 0 to 1, of a side."""
        match side:
            case "left":
                return self.x, self.y + self.height * part
            case "right":
                return self.x + self.width, self.y + self.height * part
            case "top":
                return self.x + self.width * part, self.y
            case "bottom":
                return self.x + self.width * part, self.y + self.height


@dataclass(frozen=True)
class Arrow:
    """From one box to another, with a label; *parts* say where on each side it begins and ends."""

    source: str
    label: str
    target: str
    sides: tuple[Side, Side] = ("right", "left")
    parts: tuple[float, float] = (0.5, 0.5)
    shift: tuple[int, int] = (0, -7)
    look: Literal["middle", "right", "left"] = "middle"


@dataclass(frozen=True)
class Drawing:
    """One picture. *title* and *description* are for readers who do not see it."""

    name: str
    title: str
    description: str
    width: int
    height: int
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...] = ()
    notes: tuple[tuple[int, int, str], ...] = field(default=())

    def svg(self) -> str:
        """The picture as a file."""
        return "\n".join([*self._lines(), ""])

    def _lines(self) -> Iterator[str]:
        size = f'viewBox="0 0 {self.width} {self.height}" width="{self.width}" height="{self.height}"'
        yield f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="title description">'
        yield f'  <title id="title">{escape(self.title)}</title>'
        yield f'  <desc id="description">{escape(self.description)}</desc>'
        yield f"  <style>{STYLE}</style>"
        yield f"  <defs>{ARROW}</defs>"
        yield f'  <rect class="card" x=".5" y=".5" width="{self.width - 1}" height="{self.height - 1}" rx="12"/>'
        boxes = {box.name: box for box in self.boxes}
        for box in self.boxes:
            yield from _box(box)
        for arrow in self.arrows:
            yield from _arrow(arrow, boxes[arrow.source], boxes[arrow.target])
        for x, y, text in self.notes:
            yield f'  <text class="small" x="{x}" y="{y}">{escape(text)}</text>'
        yield "</svg>"


def _box(box: Box) -> Iterator[str]:
    place = f'x="{box.x}" y="{box.y}" width="{box.width}" height="{box.height}"'
    yield f'  <rect class="{box.look}" {place} rx="8"/>'
    middle = box.x + box.width / 2
    first = box.y + (22 if box.look == "frame" else box.height / 2 + 5 - 8.5 * len(box.lines))
    yield f'  <text class="name middle" x="{middle:g}" y="{first:g}">{escape(box.name)}</text>'
    for number, line in enumerate(box.lines, 1):
        yield f'  <text class="small middle" x="{middle:g}" y="{first + 17 * number:g}">{escape(line)}</text>'


def _arrow(arrow: Arrow, source: Box, target: Box) -> Iterator[str]:
    x1, y1 = source.at(arrow.sides[0], arrow.parts[0])
    x2, y2 = target.at(arrow.sides[1], arrow.parts[1])
    if arrow.sides[0] in ("left", "right") and arrow.sides[1] in ("left", "right"):
        middle = (x1 + x2) / 2
        path, x, y = f"M{x1:g} {y1:g}C{middle:g} {y1:g} {middle:g} {y2:g} {x2:g} {y2:g}", middle, (y1 + y2) / 2
    elif arrow.sides == ("top", "top"):
        path, x, y = f"M{x1:g} {y1:g}C{x1:g} {y1 - 64:g} {x2:g} {y2 - 64:g} {x2:g} {y2:g}", (x1 + x2) / 2, y1 - 48
    elif arrow.sides == ("bottom", "bottom"):
        path, x, y = f"M{x1:g} {y1:g}C{x1:g} {y1 + 40:g} {x2:g} {y2 + 40:g} {x2:g} {y2:g}", (x1 + x2) / 2, y1 + 44
    elif arrow.sides[0] in ("top", "bottom") and arrow.sides[1] in ("top", "bottom"):
        middle = (y1 + y2) / 2
        path, x, y = f"M{x1:g} {y1:g}C{x1:g} {middle:g} {x2:g} {middle:g} {x2:g} {y2:g}", (x1 + x2) / 2, middle
    elif arrow.sides[0] in ("top", "bottom"):
        path, x, y = f"M{x1:g} {y1:g}Q{x1:g} {y2:g} {x2:g} {y2:g}", (x1 + x2) / 2, y2
    else:
        path, x, y = f"M{x1:g} {y1:g}Q{x2:g} {y1:g} {x2:g} {y2:g}", (x1 + x2) / 2, y1
    yield f'  <path class="line" d="{path}" marker-end="url(#arrow)"/>'
    look = {"middle": "small label middle", "right": "small label right", "left": "small label"}[arrow.look]
    dx, dy = arrow.shift
    yield f'  <text class="{look}" x="{x + dx:g}" y="{y + dy:g}">{escape(arrow.label)}</text>'


JOB: Final = Drawing(
    name="job",
    title="The life of a job",
    description=(
        "A job is accepted and queued. Progress moves it between queued, running and unknown. drafts-fetch starts the"
        " look for its result when the upstream no longer lists it as pending; the next poll or a failed look leads"
        " back. done, failed or cancelled ends it, from any state, and no record follows."
    ),
    width=820,
    height=380,
    boxes=(
        Box("submit or follow", 20, 76, ("a request, or code",), width=140),
        Box("open", 232, 20, width=386, height=340, look="frame"),
        Box("queued", 254, 76, ("waits at the upstream",), width=160),
        Box("running", 254, 176, ("percent, queue, eta",), width=160, look="core"),
        Box("unknown", 254, 276, ("a word of no dialect",), width=160),
        Box("looking", 482, 176, ("for the result",), width=114),
        Box("succeeded", 696, 76, ("percent is 100",), width=110, look="end"),
        Box("failed", 696, 176, ("with a reason",), width=110, look="end"),
        Box("cancelled", 696, 276, ("by either side",), width=110, look="end"),
    ),
    arrows=(
        Arrow("submit or follow", "accepted", "queued", ("right", "left"), shift=(-12, -8)),
        Arrow("queued", "progress", "running", ("bottom", "top"), (0.4, 0.4), (-5, 4), "right"),
        Arrow("running", "progress", "queued", ("top", "bottom"), (0.56, 0.56), (5, 4), "left"),
        Arrow("running", "progress", "unknown", ("bottom", "top"), (0.4, 0.4), (-5, 4), "right"),
        Arrow("unknown", "progress", "running", ("top", "bottom"), (0.56, 0.56), (5, 4), "left"),
        Arrow("running", "drafts-fetch", "looking", ("top", "top"), (0.96, 0.5), (10, -8)),
        Arrow("looking", "checking, retrying", "running", ("bottom", "bottom"), (0.5, 0.9), (20, 0)),
        Arrow("open", "done", "succeeded", ("right", "left"), (0.247, 0.5)),
        Arrow("open", "failed", "failed", ("right", "left"), (0.541, 0.5)),
        Arrow("open", "cancelled", "cancelled", ("right", "left"), (0.835, 0.5)),
    ),
    notes=(
        (24, 176, "Each poll also brings"),
        (24, 194, "checking and received."),
        (24, 212, "log, retrying and stalled"),
        (24, 230, "change no status."),
    ),
)

RESUME: Final = Drawing(
    name="resume",
    title="Where a stream begins",
    description=(
        "If the journal still holds every record behind the client's cursor, or from the beginning for a new client,"
        " the stream replays them. If a new client's past has been dropped, the stream begins with a snapshot. If the"
        " cursor is too old, of another epoch, ahead or unreadable, it begins with a gap and a snapshot. A client that"
        " has the terminal record of every job gets 204 and stops."
    ),
    width=820,
    height=364,
    boxes=(
        Box("a client connects", 24, 148, ("Last-Event-ID, or none",), width=170),
        Box("all of it is kept", 262, 28, ("behind the cursor, or from 1",), width=210),
        Box("no cursor", 262, 108, ("and the past is not whole",), width=210),
        Box(
            "cursor without a past",
            262,
            188,
            ("dropped, of another epoch,", "ahead, or no position"),
            width=210,
            height=72,
        ),
        Box("every job has ended", 262, 284, ("and the client has it all",), width=210),
        Box("snapshot", 524, 108, ("state of the jobs",), width=134),
        Box("gap", 524, 196, ("from, to, missed",), width=134),
        Box("records", 686, 28, ("replay, then live",), width=118, look="core"),
        Box("204", 686, 284, ("no reconnect",), width=118, look="end"),
    ),
    arrows=(
        Arrow("a client connects", "", "all of it is kept", ("right", "left"), (0.2, 0.5)),
        Arrow("a client connects", "", "no cursor", ("right", "left"), (0.4, 0.5)),
        Arrow("a client connects", "", "cursor without a past", ("right", "left"), (0.6, 0.5)),
        Arrow("a client connects", "", "every job has ended", ("right", "left"), (0.8, 0.5)),
        Arrow("all of it is kept", "", "records", ("right", "left")),
        Arrow("no cursor", "", "snapshot", ("right", "left")),
        Arrow("cursor without a past", "", "gap", ("right", "left")),
        Arrow("gap", "", "snapshot", ("top", "bottom")),
        Arrow("snapshot", "from now on", "records", ("right", "bottom"), (0.5, 0.5), (28, 18)),
        Arrow("every job has ended", "", "204", ("right", "left")),
    ),
)

STREAM: Final = Drawing(
    name="stream",
    title="A stream, while it is open",
    description=(
        "A new stream catches up from the journal. Up to date, it becomes a member of a group that is written to"
        " together, and its connection leaves aiohttp. If the kernel does not accept a write, the stream leaves the"
        " group and catches up alone; after 2 seconds behind it is slow and receives the latest progress. It ends with"
        " its story, its renewal or the relay's shutdown; a client that reads nothing for 10 seconds is cut off."
    ),
    width=820,
    height=310,
    boxes=(
        Box("new", 24, 60, ("resumed or not",), width=120, height=72),
        Box("behind", 232, 60, ("reads the journal alone,", "a page at a time"), width=180, height=72),
        Box(
            "member of a group", 520, 60, ("up to date: no task,", "no buffer, 2 KB"), width=180, height=72, look="core"
        ),
        Box("slow", 232, 210, ("gets the latest progress,", "and a count as skipped"), width=180, height=72),
        Box("cut off", 24, 210, ("it resumes",), width=120, height=72, look="end"),
        Box("ended", 580, 210, ("finished, or it resumes",), width=180, height=72, look="end"),
    ),
    arrows=(
        Arrow("new", "headers", "behind"),
        Arrow("behind", "up to date", "member of a group", ("right", "left"), (0.3, 0.3)),
        Arrow("member of a group", "kernel is full", "behind", ("left", "right"), (0.75, 0.75), (0, 18)),
        Arrow("behind", "for 2 s", "slow", ("bottom", "top"), (0.4, 0.4), (-6, 4), "right"),
        Arrow("slow", "caught up", "member of a group", ("right", "bottom"), (0.4, 0.2), (-14, 18)),
        Arrow("member of a group", "last record, renewal, shutdown", "ended", ("bottom", "top"), (0.83, 0.5), (-4, 4)),
        Arrow("slow", "10 s unread", "cut off", ("left", "right")),
    ),
    notes=((520, 46, "takeover: the connection leaves aiohttp"),),
)

BREAKER: Final = Drawing(
    name="breaker",
    title="The breaker of an account",
    description=(
        "Closed, every poll is sent. Failures of different tasks open it. Open, nothing is sent until the wait is"
        " over; then it is half-open and one job tries. Its success closes the breaker, its failure opens it again."
        " An account that is known to work closes it at once."
    ),
    width=820,
    height=236,
    boxes=(
        Box("closed", 40, 92, ("every poll is sent",), width=170, look="core"),
        Box("open", 325, 92, ("nothing is sent",), width=170),
        Box("half-open", 610, 92, ("one job tries",), width=170),
    ),
    arrows=(
        Arrow("closed", "failures", "open", ("right", "left"), (0.3, 0.3)),
        Arrow("open", "known to work", "closed", ("left", "right"), (0.75, 0.75), (0, 18)),
        Arrow("open", "wait is over", "half-open", ("right", "left"), (0.3, 0.3)),
        Arrow("half-open", "failure", "open", ("left", "right"), (0.75, 0.75), (0, 18)),
        Arrow("half-open", "success", "closed", ("top", "top"), (0.5, 0.5), (0, 4)),
    ),
    notes=(
        (
            40,
            192,
            "Each task counts once, with its first failure. Five tasks in a row open the breaker, or two refused",
        ),
        (40, 212, "tokens, or one answer that asks for time (Retry-After)."),
    ),
)

FLOORS: Final = (
    (("relay.cli", "the command line, where the rooms are put together"),),
    (("web", "aiohttp: jobs, streams, gateway, page"), ("relay.testing", "clock, scripted upstreams, conformance")),
    (("sinks", "console, debug, sse, chat; each alone"), ("relay.relay", "Relay: registry and lifecycle")),
    (("relay.cluster", "several nodes: leases, fences, requests between them"),),
    (
        ("relay.polling", "poller, breaker, token bucket"),
        ("relay.attachments", "sinks, as a relay has them"),
        ("relay.config", "relay.toml and its settings"),
    ),
    (
        ("relay.bus", "stamp, commit, send"),
        ("relay.durable", "sinks behind a cursor"),
        ("relay.upstreams", "dialects, http, reading, declared"),
    ),
    (
        ("relay.journal", "memory, sqlite, redis"),
        ("relay.supervision", "tasks that last"),
        ("relay.audit", "compares recordings"),
    ),
    (
        ("relay.jobs", "state, decisions, observations"),
        ("relay.queue", "slow work: bounded, retried"),
        ("relay.wire", "record JSON, event streams"),
    ),
    (("hall", "events, errors, clock, text, secret, pace, notices, hints, webhooks"),),
)
"""The rooms from top to bottom: a room imports only rooms on floors below its own."""


def rooms() -> Drawing:
    """The floors of the house."""
    width, left, gap = 820, 24, 16
    boxes: list[Box] = []
    for floor, entries in enumerate(FLOORS):
        each = (width - 2 * left - gap * (len(entries) - 1)) // len(entries)
        for number, (name, caption) in enumerate(entries):
            look: Literal["box", "core"] = "core" if name == "hall" else "box"
            shown = "relay: events, errors and other single modules" if name == "hall" else name
            boxes.append(Box(shown, left + number * (each + gap), 24 + floor * 68, (caption,), each, 52, look))
    return Drawing(
        name="rooms",
        title="The rooms, and which way imports point",
        description="From top to bottom: "
        + "; ".join(", ".join(name for name, _ in floor) for floor in FLOORS)
        + ". A room imports only rooms on floors below its own.",
        width=width,
        height=24 + len(FLOORS) * 68 + 26,
        boxes=tuple(boxes),
        notes=(
            (
                left,
                24 + len(FLOORS) * 68 + 8,
                "A room imports only rooms on floors below its own: every import points down.",
            ),
        ),
    )


ACCESS: Final = Drawing(
    name="access",
    title="The way of a request through access",
    description=(
        "A request passes the check of its host and its origin, which answers 421 or 403. Its access is found by the"
        " first way that fits: the application, a bearer token, a ticket on a stream, a session, a trusted proxy. If"
        " none does, the answer is 401, or 204 for a stream that comes back with a session or a ticket. The scope of"
        " the route is compared with it, or the answer is 403. The jobs that it sees are selected, and any other is"
        " answered 404."
    ),
    width=820,
    height=310,
    boxes=(
        Box("a request", 20, 40, ("from anywhere",), width=112),
        Box("host, origin", 168, 40, ("of a page: ours, listed",), width=152),
        Box("Access", 356, 40, ("subject, scopes, jobs, end",), width=176, look="core"),
        Box("scope", 568, 40, ("of the route",), width=96),
        Box("jobs", 700, 40, ("that it sees",), width=100),
        Box("421, 403", 194, 150, width=100, height=34, look="end"),
        Box("401, 204", 608, 236, width=92, height=34, look="end"),
        Box("403", 570, 150, width=92, height=34, look="end"),
        Box("404, gone", 700, 150, width=100, height=34, look="end"),
        Box("the first that fits", 20, 206, width=512, height=90, look="frame"),
        Box("application", 34, 240, width=94, height=44),
        Box("bearer", 136, 240, ("key, JWT, link",), width=104, height=44),
        Box("ticket", 248, 240, ("of a stream",), width=88, height=44),
        Box("session", 344, 240, ("a cookie",), width=80, height=44),
        Box("proxy", 432, 240, ("and secret",), width=86, height=44),
    ),
    arrows=(
        Arrow("a request", "", "host, origin"),
        Arrow("host, origin", "", "Access"),
        Arrow("Access", "", "scope"),
        Arrow("scope", "", "jobs"),
        Arrow("host, origin", "foreign", "421, 403", ("bottom", "top"), shift=(8, 4), look="left"),
        Arrow("the first that fits", "", "Access", ("top", "bottom"), (0.828, 0.386)),
        Arrow("the first that fits", "none fits", "401, 204", ("right", "left"), (0.522, 0.5)),
        Arrow("scope", "lacks it", "403", ("bottom", "top"), shift=(-6, 4), look="right"),
        Arrow("jobs", "another's", "404, gone", ("bottom", "top"), shift=(-6, 4), look="right"),
    ),
)

CLUSTER: Final = Drawing(
    name="cluster",
    title="Several nodes over one engine",
    description=(
        "Each of three nodes polls the jobs of its own shards at the upstreams, and appends records to the engine with"
        " the fencing token of the shard. The engine holds leases, stream, states and commands. The tail of the"
        " stream goes to every node, and from there to the readers, in one order."
    ),
    width=820,
    height=372,
    boxes=(
        Box("upstreams", 20, 116, ("each job is polled", "by one node"), width=130, height=72),
        Box("node a", 250, 28, ("shards 0, 3, 5 ...",)),
        Box("node b", 250, 124, ("shards 1, 2, 7 ...",)),
        Box("node c", 250, 220, ("shards 4, 6, 8 ...",)),
        Box(
            "Redis or Valkey",
            590,
            40,
            (
                "leases: owner, token, beat",
                "stream: offset, record",
                "states of the jobs",
                "commands between nodes",
            ),
            width=206,
            height=224,
            look="core",
        ),
        Box("readers", 250, 318, ("at any node, the same order",), width=546, height=44, look="end"),
    ),
    arrows=(
        Arrow("node a", "polls", "upstreams", ("left", "right"), (0.5, 0.2), (-14, -10)),
        Arrow("node b", "polls", "upstreams", ("left", "right"), (0.5, 0.5)),
        Arrow("node c", "polls", "upstreams", ("left", "right"), (0.5, 0.8), (-14, 24)),
        Arrow("node a", "append, token 17", "Redis or Valkey", parts=(0.5, 16 / 224)),
        Arrow("node b", "append, token 21", "Redis or Valkey", parts=(0.5, 0.5)),
        Arrow("node c", "append, token 19", "Redis or Valkey", parts=(0.5, 208 / 224)),
        Arrow(
            "Redis or Valkey",
            "the tail, by way of every node",
            "readers",
            ("bottom", "top"),
            (0.5, 0.81),
            (-8, 4),
            "right",
        ),
    ),
)

DRAWINGS: Final = (JOB, RESUME, STREAM, BREAKER, ACCESS, CLUSTER, rooms())

if __name__ == "__main__":
    for drawing in DRAWINGS:
        (STATIC / f"{drawing.name}.svg").write_text(drawing.svg(), encoding="utf-8")
