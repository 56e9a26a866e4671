"""One answer read field by field: a field that cannot be read is noted, and costs nothing but itself."""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, Self, cast

from relay.errors import UpstreamError
from relay.events import Status
from relay.jobs.observations import normalised
from relay.upstreams.reading.media import is_kept, resolved
from relay.upstreams.reading.values import is_something, read_number

__all__ = ["Fields", "about", "named", "only"]

_MISSING: Final = object()
_WRAPPED_IN: Final = ("data", "result", "response", "task", "job", "prediction", "generation", "video", "output")
_WRAPPERS: Final = 3
"""How many objects deep an answer is looked for."""

_EMPTY: Final[tuple[object, ...]] = (None, "", [])
_SHORT: Final = 64
_NAMED: Final = 4
"""How many fields a warning names."""


class Fields:
    """An object in an answer. A field that *value* lacks, or that is null, reads as None or empty.

    A field of another type than requested is None or empty as well, and becomes part of `warning`. A name counts in
    any spelling (`task_status`, `taskStatus`), and a list of one object for that object. *place* is where the object is
    in the answer; its own parts write to the same *problems*.
    """

    __slots__ = ("_fields", "_folded", "_place", "_problems")

    def __init__(self, value: Mapping[str, Any], place: str = "", problems: list[str] | None = None) -> None:
        self._fields = value
        self._folded: Mapping[str, Any] | None = None
        self._place = place
        self._problems: list[str] = [] if problems is None else problems

    def __getitem__(self, name: str) -> Any:
        """The field itself, whatever it is."""
        value = self._fields.get(name, _MISSING)
        if value is not _MISSING:
            return value
        if self._folded is None:
            self._folded = {_folded(key): found for key, found in self._fields.items()}
        return self._folded.get(_folded(name))

    def first(self, *names: str) -> Any:
        """The first of these fields that holds something (`values.is_something`), None if none does."""
        return next((found for name in names if is_something(found := self[name])), None)

    def __iter__(self) -> Iterator[str]:
        """The names of the fields."""
        return iter(self._fields)

    def __contains__(self, name: str) -> bool:
        """Whether there is such a field, whatever it holds."""
        return name in self._fields

    def __bool__(self) -> bool:
        return bool(self._fields)

    def status(self, name: str, words: Mapping[str, Status] | None = None) -> tuple[str | None, Status]:
        """The upstream's word for a status, None for none, and what it means (`relay.jobs.observations.normalised`).

        Raises UpstreamError (malformed), which names the field and never what it holds, for what is no text: without a
        status, nothing is known of the task.
        """
        word = self[name]
        if word is not None and not isinstance(word, str):
            raise self.unlike("a text", name)
        return word, normalised(word, words)

    @property
    def all(self) -> dict[str, Any]:
        """The object itself."""
        return dict(self._fields)

    def about(self, *names: str) -> Self | None:
        """The part that has one of the fields *names*: the object itself, or what it is wrapped in; None for none."""
        part = self
        for _ in range(_WRAPPERS):
            if any(part[name] is not None for name in names):
                return part
            within = next((name for name in _WRAPPED_IN if only(part[name])), None)
            if within is None:
                break
            part = part.part(within)
        return None

    def vital(self, name: str) -> Self:
        """The object in a field without which the rest says nothing. Raises UpstreamError (malformed) as `status`."""
        if only(self[name]) is None and self[name] not in _EMPTY:
            raise self.unlike("an object", name)
        return type(self)(only(self[name]) or {}, f"{self._place}.{name}", self._problems)

    def unlike(self, expected: str, name: str) -> UpstreamError:
        """The error that the field *name* is not what was *expected*, without what it holds."""
        problem = f"expected {expected}, got {named(self[name])} - at `${self._place}.{name}`"
        return UpstreamError("malformed", f"the answer is not in this dialect: {problem}")

    def part(self, name: str) -> Self:
        """The object in a field."""
        value, place = self[name], f"{self._place}.{name}"
        found = only(value)
        if found is None and value is not None:
            self.note(name, named(value))
        return type(self)(found or {}, place, self._problems)

    def items(self, name: str) -> list[object]:
        """The list in a field; an object or a text is a list of one."""
        value = self[name]
        match value:
            case None | "":
                return []
            case list():
                return cast("list[object]", value)
            case dict() | str():
                return [cast(object, value)]
            case _:
                self.note(name, named(value))
                return []

    def objects(self, name: str) -> Iterator[Self]:
        """The objects of the list in a field."""
        for number, item in enumerate(self.items(name)):
            if isinstance(item, dict):
                yield type(self)(cast("dict[str, Any]", item), f"{self._place}.{name}[{number}]", self._problems)
            elif item is not None:
                self.note(f"{name}[{number}]", named(item))

    def text(self, name: str) -> str | None:
        """The text in a field."""
        value = self[name]
        if value is None or isinstance(value, str):
            return value
        self.note(name, named(value))
        return None

    def code(self, name: str) -> int | None:
        """The whole number in a field, also where it is sent as text."""
        value = self[name]
        number = read_number(value)
        if number is not None and number == int(number):
            return int(number)
        if value is not None:
            self.note(name, named(value))
        return None

    def flag(self, name: str) -> bool | None:
        """True or false in a field, also where it is sent as text or as 0 or 1."""
        value: object = self[name]
        match value.strip().lower() if isinstance(value, str) else value:
            case None:
                return None
            case bool() as flag:
                return flag
            case "true" | "yes" | "1" | 1:
                return True
            case "false" | "no" | "0" | "" | 0:
                return False
            case _:
                self.note(name, named(value))
                return None

    def address(self, name: str, base: str) -> str | None:
        """The address of a file in a field, resolved against *base*; one of another kind as it is (`media.is_kept`)."""
        return self._address(name, self[name], base)

    def addresses(self, name: str, base: str) -> list[str | None]:
        """The addresses of files in a field that is a list of them, or a single one."""
        value = self[name]
        if isinstance(value, list):
            items = enumerate(cast("list[object]", value))
            return [self._address(f"{name}[{number}]", item, base) for number, item in items]
        return [self._address(name, value, base)]

    def _address(self, name: str, value: object, base: str) -> str | None:
        found = value if is_kept(value) else resolved(value, base)
        if found is None and value not in (None, ""):
            self.note(name, "no web address" if isinstance(value, str) else named(value))
        return found

    def note(self, name: str, what: str) -> None:
        """Take down that the field *name* is *what* cannot be used; never what was sent."""
        problem = f"`{f'{self._place}.{name}'.removeprefix('.')}` is {what}"
        if problem not in self._problems:
            self._problems.append(problem)

    @property
    def warning(self) -> str | None:
        """What could not be read so far, in a sentence without what was sent; None where all could."""
        if not self._problems:
            return None
        further = len(self._problems) - _NAMED
        problems = [*self._problems[:_NAMED], *([f"{further} more"] if further > 0 else [])]
        return f"a part of the answer cannot be read, and is left out: {', '.join(problems)}"


def only(value: object) -> dict[str, Any] | None:
    """The object that *value* is, or that is all there is in the list that it is; None for anything else."""
    if isinstance(value, list) and len(values := cast("list[object]", value)) == 1:
        value = values[0]
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def about(body: object, *names: str) -> dict[str, Any] | None:
    """The object in *body*, an answer, that has one of the fields *names*: itself, or what gateways wrap it in.

    None where *body* is no object at all; itself where nothing in it has such a field.
    """
    whole = only(body)
    if whole is not None and any(whole.get(name) is not None for name in names):
        return whole
    inner = None if whole is None else Fields(whole).about(*names)
    return whole if inner is None else inner.all


def _folded(name: str) -> str:
    """*name* in the one spelling of all its spellings. Known for short ones: the same come with every answer."""
    return _known_folded(name) if len(name) <= _SHORT else _known_folded.__wrapped__(name)


@lru_cache(maxsize=1_024)
def _known_folded(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()


def named(value: object) -> str:
    """What messages call the type of a JSON *value*, which itself they never repeat."""
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case list():
            return "a list"
        case _:
            return "an object"
