"""The queue of ComfyUI, which runs one task at a time."""

from typing import Any, Final, TypeGuard, cast

from msgspec import Struct

from relay.errors import UpstreamError
from relay.upstreams.http.reply import Reply
from relay.upstreams.per_task import as_object
from relay.upstreams.reading.fields import Fields
from relay.upstreams.reading.values import read_number

__all__ = ["Place", "read_queue"]

_LISTS: Final = ("queue_running", "queue_pending")


class Place(Struct, frozen=True):
    """Where a task is in the queue, counted from 0; it runs where there is no position."""

    nodes: int
    position: int | None = None


def read_queue(reply: Reply) -> tuple[dict[str, Place], UpstreamError | None]:
    """Where each task is, and what cannot be read; each entry is [number, prompt id, workflow, extra data, nodes].

    Raises UpstreamError (malformed) where it is no queue at all.
    """
    queue = Fields(as_object(reply.json()))
    problems = [queue.unlike("a list", name) for name in _LISTS if not isinstance(queue[name], list)]
    if len(problems) == len(_LISTS):
        raise problems[0]
    # The queue is a heap: only its first entry is where it belongs.
    pending = sorted(filter(_is_entry, queue.items("queue_pending")), key=lambda entry: read_number(entry[0]) or 0.0)
    places = {entry[1]: Place(_nodes(entry), number) for number, entry in enumerate(pending)}
    running = filter(_is_entry, queue.items("queue_running"))
    return places | {entry[1]: Place(_nodes(entry)) for entry in running}, next(iter(problems), None)


def _is_entry(entry: object) -> TypeGuard[list[Any]]:
    return isinstance(entry, list) and len(parts := cast("list[object]", entry)) > 1 and isinstance(parts[1], str)


def _nodes(entry: list[Any]) -> int:
    return len(cast("dict[str, Any]", entry[2])) if len(entry) > 2 and isinstance(entry[2], dict) else 0
