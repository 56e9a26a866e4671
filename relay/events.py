"""The events of a job: a closed union of frozen, typed classes, each with its one text.

Every sink prints an event's `text` and no wording of its own, so the console, every stream and the page always agree.
"""

from datetime import datetime
from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias, cast, get_args, get_origin

from msgspec import Meta, Struct
from msgspec.structs import fields, force_setattr

from relay.errors import ErrorKind
from relay.text import LINE_LIMIT, TEXT_LIMIT, bounded, brief, in_passing, inert, kept

__all__ = [
    "EVENTS",
    "LEVELS",
    "LEVELS_FROM",
    "TERMINALS",
    "Accepted",
    "Cancelled",
    "Checking",
    "Done",
    "DraftsFetch",
    "Event",
    "Exchange",
    "Failed",
    "FailureKind",
    "Level",
    "Log",
    "Position",
    "Progress",
    "ProgressSource",
    "Received",
    "Record",
    "Retrying",
    "Stalled",
    "Status",
    "Terminal",
    "at_least",
    "rank",
]

Level: TypeAlias = Literal["debug", "info", "warning", "error"]
LEVELS: Final[tuple[Level, ...]] = get_args(Level)
LEVELS_FROM: Final = {level: frozenset(LEVELS[rank:]) for rank, level in enumerate(LEVELS)}  # what matters as much
_RANKS: Final = {level: rank for rank, level in enumerate(LEVELS)}

Status: TypeAlias = Literal["queued", "running", "succeeded", "failed", "cancelled", "unknown"]
"""A job's state in one vocabulary for all upstreams; `unknown` stands for a word that no dialect maps."""
ProgressSource: TypeAlias = Literal["reported", "parsed", "estimated"]
FailureKind: TypeAlias = Literal[
    "policy", "upstream", "auth", "rate-limit", "not-found", "timeout", "lost", "malformed", "internal"
]

Percent: TypeAlias = Annotated[int, Meta(ge=0, le=100)]
Count: TypeAlias = Annotated[int, Meta(ge=0)]
Nth: TypeAlias = Annotated[int, Meta(ge=1)]
Seconds: TypeAlias = Annotated[float, Meta(ge=0)]


class _Event(Struct, frozen=True, kw_only=True, tag_field="type", gc=False):
    """The base of all events. Strings are kept well-formed and bounded, however the upstream wrote them."""

    default_level: ClassVar[Level] = "info"
    terminal: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        """Give a class that is derived from one below a name and a level of its own again."""
        for name in ("type", "level"):
            if name not in vars(cls) and not isinstance(getattr(cls, name), property):
                setattr(cls, name, vars(_Event)[name])

    @property
    def type(self) -> str:
        """The event's name on the wire."""
        return str(self.__struct_config__.tag)

    @property
    def level(self) -> Level:
        """How much the event matters: `debug`, `info`, `warning` or `error`."""
        return self.default_level

    @property
    def text(self) -> str:
        """The event in words, one line for people, safe to print on a terminal as it is."""
        words = self._words()
        plain = len(words) <= LINE_LIMIT and words.isascii() and words.isprintable()  # nearly always: 0.15 us less
        return words if plain else bounded(inert(words), LINE_LIMIT)

    def _words(self) -> str:
        raise NotImplementedError


class _Worded(_Event, frozen=True, kw_only=True):
    """An event with fields that may hold text of any length. One without is made in a third of the time."""

    _texts: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for name in self._texts:
            value = getattr(self, name)
            if isinstance(value, tuple):
                force_setattr(self, name, tuple(map(bounded, cast(tuple[str, ...], value))))
            elif isinstance(value, str) and not (len(value) <= TEXT_LIMIT and value.isascii()):
                force_setattr(self, name, bounded(value))  # most are right as they are: two calls less, 0.1 us


def _holds_text(annotation: Any) -> bool:
    return annotation is str or (get_origin(annotation) is not Literal and any(map(_holds_text, get_args(annotation))))


class Accepted(_Worded, frozen=True, kw_only=True, tag="accepted"):
    """The relay knows the job. This is every job's first record, so a client has the job's id at once.

    A submitted job is accepted before the request to the upstream, without a task; a second `accepted` names the task
    as soon as the upstream has created it.
    """

    upstream: Annotated[str, Meta(description="The name of the upstream that does the work.")]
    task: Annotated[str | None, Meta(description="The upstream's own id of the task, once there is one.")] = None

    def _words(self) -> str:
        return f"accepted for {self.upstream}" + (f", task {self.task}" if self.task else "")


class Checking(_Event, frozen=True, kw_only=True, tag="checking"):
    """A poll begins."""

    default_level: ClassVar[Level] = "debug"

    attempt: Annotated[Nth, Meta(description="The number of this poll of the job, from 1.")]
    of: Annotated[Nth, Meta(description="How many polls fit before the job's deadline.")]

    def _words(self) -> str:
        return f"checking ({self.attempt} of {self.of})"


class Received(_Event, frozen=True, kw_only=True, tag="received"):
    """The upstream answered the poll."""

    default_level: ClassVar[Level] = "debug"

    listed: Annotated[Count, Meta(description="How many jobs the answer listed, followed or not.")]
    seconds: Annotated[Seconds, Meta(description="How long the answer took.")]

    def _words(self) -> str:
        return f"answered in {self.seconds:.2f} s, {self.listed} {'job' if self.listed == 1 else 'jobs'} listed"


class Progress(_Worded, frozen=True, kw_only=True, tag="progress"):
    """The state of the job as of one poll. Each poll publishes one, whether or not anything changed.

    Only what has changed is of level `info`: an `unchanged` one is for those that want to see each poll.
    """

    percent: Annotated[Percent | None, Meta(description="0 to 100, or null while unknown. Never goes down.")]
    status: Annotated[Status, Meta(description="The state in the relay's vocabulary.")]
    raw_status: Annotated[str | None, Meta(description="The state in the upstream's own word.")] = None
    source: Annotated[ProgressSource | None, Meta(description="The origin of the figure.")] = None
    queue_position: Annotated[Count | None, Meta(description="How many jobs are ahead.")] = None
    eta: Annotated[
        Seconds | None, Meta(description="Seconds until done: the upstream's own figure, or an estimate.")
    ] = None
    eta_low: Annotated[
        Seconds | None, Meta(description="The fewest seconds, if estimated: at the job's fastest pace.")
    ] = None
    eta_high: Annotated[
        Seconds | None, Meta(description="The most seconds, if estimated: at the job's slowest pace.")
    ] = None
    listed: Annotated[
        bool, Meta(description="False if the answer did not list the job; the rest is as last known.")
    ] = True
    regressed: Annotated[bool, Meta(description="True if the upstream went back; the highest figure stays.")] = False
    raw_percent: Annotated[str | None, Meta(description="The figure as sent, if it could not be used like that.")] = (
        None
    )
    unchanged: Annotated[
        bool, Meta(description="True if it repeats what was published of the job before, but for the time left.")
    ] = False

    @property
    def level(self) -> Level:
        return "debug" if self.unchanged else "info"

    def _words(self) -> str:
        status = self.raw_status or self.status
        words = f"{self.percent}% ({status})" if self.percent is not None else status
        if self.status == "unknown":
            words += ", a status not known here"
        if self.queue_position is not None:
            words += f", position {self.queue_position} in the queue"
        if self.eta is not None:
            words += f", about {self._left(self.eta)} left"
        if self.regressed:
            words += ", the upstream went back"
        if not self.listed:
            words += ", not listed at the moment"
        return words

    def _left(self, eta: float) -> str:
        if self.eta_low is None or self.eta_high is None or self.eta_low == self.eta_high:
            return in_passing(eta)
        low, high = in_passing(self.eta_low), in_passing(self.eta_high)
        return f"{low.removesuffix(' s') if high.endswith(' s') else low} to {high}"


class DraftsFetch(_Event, frozen=True, kw_only=True, tag="drafts-fetch"):
    """The upstream no longer lists the job as pending: its result is being fetched."""

    attempt: Annotated[Nth, Meta(description="The number of this attempt to fetch the result, from 1.")]
    listed: Annotated[bool, Meta(description="True if the job is still listed, as finished.")] = False

    def _words(self) -> str:
        return f"{'finished' if self.listed else 'no longer pending'}, fetching the result (try {self.attempt})"


class Retrying(_Worded, frozen=True, kw_only=True, tag="retrying"):
    """A poll failed. The job goes on, and so does the polling."""

    default_level: ClassVar[Level] = "warning"

    kind: Annotated[ErrorKind, Meta(description="The kind of error.")]
    message: Annotated[str, Meta(description="The error in words, without secrets.")]
    attempt: Annotated[Nth, Meta(description="How many polls in a row have failed, from 1.")]
    next_in: Annotated[Seconds, Meta(description="Seconds until the next poll.")]

    def _words(self) -> str:
        return f"poll failed ({self.kind}): {self.message}; next try in {in_passing(self.next_in, 1)}"


class Stalled(_Event, frozen=True, kw_only=True, tag="stalled"):
    """Nothing has moved for longer than this job's own rhythm."""

    default_level: ClassVar[Level] = "warning"

    seconds: Annotated[Seconds, Meta(description="How long nothing has moved.")]

    def _words(self) -> str:
        return f"nothing has moved for {in_passing(self.seconds)}"


class Log(_Worded, frozen=True, kw_only=True, tag="log"):
    """A line of the upstream's own log; with severity `warning`, an oddity of its answer, published once a job."""

    line: Annotated[str, Meta(description="The line, as the upstream wrote it, or the warning.")]
    severity: Annotated[Level, Meta(description="The level of the line.")] = "info"
    number: Annotated[
        Nth | None, Meta(description="The number of the line in the upstream's log, from 1, if known.")
    ] = None

    @property
    def level(self) -> Level:
        return self.severity

    def _words(self) -> str:
        return self.line


class Done(_Worded, frozen=True, kw_only=True, tag="done"):
    """Terminal: the job has succeeded. Its result is files, a value, both, or neither.

    A *result* is JSON of at most 64 KiB in ASCII; a longer one is cut and marked as cut (`relay.text.kept`).
    """

    terminal = True

    urls: Annotated[
        tuple[str, ...], Meta(description="The addresses of the files. A signed URL is itself a secret.")
    ] = ()
    media_types: Annotated[tuple[str, ...], Meta(description="The media type of each URL, as far as known.")] = ()
    expires: Annotated[datetime | None, Meta(description="When the URLs expire, if known.")] = None
    result: Annotated[
        Any, Meta(description="The result beside the files, or without files: any JSON value; null for none.")
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        force_setattr(self, "result", kept(self.result))

    def _words(self) -> str:
        count = len(self.urls)
        kinds = f" ({', '.join(dict.fromkeys(self.media_types))})" if self.media_types else ""
        files = f", {count} {'file' if count == 1 else 'files'}{kinds}" if count else ""
        # Beside files, the text holds a value only if the value is text: figures and flags are for programs.
        spoken = self.result is not None and (not count or isinstance(self.result, str))
        words = brief(self.result).strip() if spoken else ""
        return f"done{files}: {words}" if words else f"done{files}"


class Failed(_Worded, frozen=True, kw_only=True, tag="failed"):
    """Terminal: the job has no result and will have none."""

    default_level: ClassVar[Level] = "error"
    terminal = True

    kind: Annotated[FailureKind, Meta(description="The reason, in one word.")]
    message: Annotated[str, Meta(description="The reason, in words.")]
    retryable: Annotated[bool, Meta(description="True if submitting the same input again may help.")] = False

    def _words(self) -> str:
        return f"failed ({self.kind}): {self.message}"


class Cancelled(_Worded, frozen=True, kw_only=True, tag="cancelled"):
    """Terminal: the job was cancelled."""

    default_level: ClassVar[Level] = "warning"
    terminal = True

    by: Annotated[Literal["caller", "upstream"], Meta(description="The side that cancelled it.")] = "caller"
    message: Annotated[str | None, Meta(description="An explanation, if one is needed.")] = None

    def _words(self) -> str:
        return f"cancelled by the {self.by}" + (f": {self.message}" if self.message else "")


Event: TypeAlias = (
    Accepted | Checking | Received | Progress | DraftsFetch | Retrying | Stalled | Log | Done | Failed | Cancelled
)
Terminal: TypeAlias = Done | Failed | Cancelled

EVENTS: Final[tuple[type[Event], ...]] = get_args(Event)
TERMINALS: Final[tuple[type[Terminal], ...]] = get_args(Terminal)


for _kind in EVENTS:
    # An attribute of the class, where all its events have the same: each property costs 0.1 us of a record.
    _texts = tuple(field.name for field in fields(_kind) if _holds_text(field.type))
    _same = {"type": _kind.__struct_config__.tag, "level": _kind.default_level, "_texts": _texts}
    for _name in _same.keys() - vars(_kind):
        setattr(_kind, _name, _same[_name])


def at_least(level: Level, threshold: Level) -> bool:
    """Whether *level* matters as much as *threshold*."""
    return level in LEVELS_FROM[threshold]


class Position(Struct, frozen=True, gc=False):
    """The offset of a record, and the epoch of the journal that counts it. It is the `id` in an SSE stream.

    The epoch changes when a journal is begun anew, so a position of the old one is recognised and never misread.
    """

    epoch: str
    offset: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.offset}"

    @classmethod
    def parse(cls, text: str) -> "Position | None":
        """The position that *text* spells, or None for anything else. Bounded: never more than 18 digits."""
        epoch, dash, offset = text.rpartition("-")
        named = bool(dash) and epoch.isascii() and epoch.isalnum() and len(epoch) <= 64
        numbered = offset.isascii() and offset.isdigit() and len(offset) <= 18
        return cls(epoch, int(offset)) if named and numbered else None


class Record(Struct, frozen=True, kw_only=True, gc=False):
    """An event with its envelope: its job, its sequence number within the job, its time and its position.

    Every output prints the same record, so `json` is made once and kept: one JSON object in ASCII, on one line.
    """

    job: str
    seq: int
    at: datetime
    event: Event
    position: Position
    json: bytes
    v: int = 1

    @property
    def terminal(self) -> bool:
        """Whether this is the last record of its job."""
        return self.event.terminal


def rank(record: Record) -> int:
    """The place in LEVELS of the highest level whose readers get *record*: a terminal record reaches all of them."""
    return len(_RANKS) - 1 if record.event.terminal else _RANKS[record.event.level]


class Exchange(Struct, frozen=True, kw_only=True, tag_field="type", tag="exchange"):
    """One raw request and its answer, secrets redacted: for debugging. Not a record, not numbered, not kept.

    *jobs* are the jobs that it concerns. An adapter names its own tasks there; the relay replaces them by its job ids.
    """

    jobs: tuple[str, ...]
    upstream: str
    method: str
    url: str
    status: int | None
    seconds: float
    request: str
    response: str
    at: datetime
