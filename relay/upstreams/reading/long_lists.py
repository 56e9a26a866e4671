"""A long list, read a few items at a time, so that other tasks of the event loop run in between."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

import msgspec

from relay.clock import slices
from relay.upstreams.reading.values import DEPTH_LIMIT, check_depth, read_json

__all__ = ["LIST_LIMIT", "for_each", "read_beside", "split"]

LIST_LIMIT: Final = 16 * 1024 * 1024
"""The most bytes of an answer about all tasks: some 16,000 of them."""

FEW: Final = 80
"""How many items at most are read before others have their turn."""

_LONG: Final = 256 * 1024

_T = TypeVar("_T")
_R = TypeVar("_R")

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_items = msgspec.json.Decoder(list[msgspec.Raw]).decode


def split(body: bytes, way: Iterable[str] = ()) -> Sequence[msgspec.Raw] | None:
    """The items of the list to which the names of *way* lead from the top of *body*, each as it was sent.

    None where there is no list, or *body* is not strictly JSON. To split 10 MB takes 13 ms, and to read them at once
    ten times that, with objects all over that the collector then walks through. Raises UpstreamError (malformed) where
    what is beside the list nests too deep.
    """
    whole: bytes | msgspec.Raw = body
    try:
        for level, name in enumerate(way, start=1):
            fields = _fields(whole)
            whole = fields.pop(name)
            for beside in fields.values():
                check_depth(bytes(beside), DEPTH_LIMIT - level)
        return _items(whole)
    except (msgspec.MsgspecError, KeyError, RecursionError):
        return None


async def for_each(items: Sequence[_T], act: Callable[[_T], object]) -> None:
    """Do it for a slice at a time, after a pause if there are many: what came before is a slice by itself."""
    for part in slices(items, most=FEW):
        if len(items) > FEW:
            await asyncio.sleep(0)
        for item in part:
            act(item)


async def read_beside(body: bytes, read: Callable[[Any], _R]) -> _R:
    """What *read* makes of *body*, which is JSON that could not be split. Raises UpstreamError (malformed).

    Where it is long that is done in a thread, which gives the loop its turn every few milliseconds.
    """
    if len(body) <= _LONG:
        return read(read_json(body))
    return await asyncio.to_thread(lambda: read(read_json(body)))
