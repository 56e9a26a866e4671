"""Files that a rotation has put aside: named, compressed in slices, and deleted when there are too many."""

import os
import re
import zlib
from collections.abc import Callable, Generator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeAlias

from sinks._file_lock import try_lock

__all__ = ["Compression", "RotatedFile", "compressor_for", "free_name", "rotated_files", "tidied"]

Compression: TypeAlias = Literal["none", "gzip", "zstd"]

ENDINGS: Final[dict[Compression, str]] = {"none": "", "gzip": ".gz", "zstd": ".zst"}

UNFINISHED: Final = ".tmp"
"""The end of the name of a compressed file that is still written. One that is left over is made anew."""

SLICE: Final = 64 * 1024
"""Bytes that are compressed at once, about 2 ms of CPU: lines are written in between."""


class RotatedFile(NamedTuple):
    """A file that was put aside; the order of these is the order in which that happened."""

    stamp: str
    number: int
    path: Path
    ending: str


class Compressor(Protocol):
    """Of the standard library's: bytes in, bytes out, and the rest with `flush`."""

    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


def compressor_for(compression: Compression) -> Callable[[], Compressor] | None:
    """A function that returns a compressor; None for no compression, and ImportError if this Python has none."""
    match compression:
        case "none":
            return None
        case "gzip":
            return lambda: zlib.compressobj(6, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
        case "zstd":
            from importlib import import_module

            zstd: Any = import_module("compression.zstd")  # since CPython 3.14
            made: Callable[[], Compressor] = zstd.ZstdCompressor
            return made


def free_name(path: Path, at: datetime) -> Path:
    """A name beside *path* that no file has: `jobs-20260101T000000Z.jsonl` for `jobs.jsonl`, rotated *at* that time."""
    stamp = at.strftime("%Y%m%dT%H%M%SZ")
    known = {one.number for one in rotated_files(path) if one.stamp == stamp}
    number = max(known) + 1 if known else 1
    behind = f"_{number}" if number > 1 else ""
    return path.with_name(f"{path.stem}-{stamp}{behind}{path.suffix}")


def rotated_files(path: Path) -> list[RotatedFile]:
    """The files that rotations of *path* have put aside, the oldest first. Raises OSError."""
    pattern = re.compile(
        rf"{re.escape(path.stem)}-(\d{{8}}T\d{{6}}Z)(?:_(\d{{1,9}}))?{re.escape(path.suffix)}(\.gz|\.zst)?"
        rf"(?:{re.escape(UNFINISHED)})?"
    )
    found: list[RotatedFile] = []
    with os.scandir(path.parent) as entries:
        for entry in entries:
            # A link of that name is somebody else's, as is a folder.
            if (match := pattern.fullmatch(entry.name)) and entry.is_file(follow_symlinks=False):
                found.append(RotatedFile(match[1], int(match[2] or 1), path.parent / entry.name, match[3] or ""))
    return sorted(found)


def tidied(
    path: Path, *, files: int, total: int, compression: Compression, notify: Callable[[str], object]
) -> Generator[None]:
    """Compress and delete the rotated files of *path*, a slice at each step.

    At most *files* are kept, of *total* bytes in all; 0 is no limit. A file that cannot be compressed or deleted stays
    as it is, and *notify* receives one sentence about it.
    """
    make = compressor_for(compression)
    try:
        _delete(path, files, total)
        yield
        if make is not None:
            for rotated in rotated_files(path):
                if not rotated.ending:
                    yield from _compressed(rotated.path, ENDINGS[compression], make)
            _delete(path, files, total)
    except OSError as error:
        notify(f"the rotated files of {path} cannot all be compressed and deleted ({error}); they stay as they are")


def _delete(path: Path, files: int, total: int) -> None:
    """Delete the oldest, beyond *files* and beyond *total* bytes; and what is left of a compression that broke off."""
    kept, size = 0, 0
    for rotated in reversed(rotated_files(path)):
        if rotated.path.name.endswith(UNFINISHED):
            continue
        kept += 1
        with suppress(FileNotFoundError):
            size += rotated.path.stat().st_size
            if (files and kept > files) or (total and size > total):
                rotated.path.unlink()


def _compressed(source: Path, ending: str, make: Callable[[], Compressor]) -> Generator[None]:
    """Put a compressed file in the place of *source*, a slice at each step."""
    unfinished = Path(f"{source}{ending}{UNFINISHED}")
    with suppress(FileNotFoundError), source.open("rb") as plain:
        if not try_lock(plain.fileno()):
            return  # another process of ours compresses it
        mode = os.fstat(plain.fileno()).st_mode & 0o777
        unfinished.unlink(missing_ok=True)
        try:
            with open(unfinished, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as packed:
                compressor = make()
                while data := plain.read(SLICE):
                    packed.write(compressor.compress(data))
                    yield
                packed.write(compressor.flush())
                packed.flush()
                # Before the original goes: a power cut must not cost both.
                os.fsync(packed.fileno())
            unfinished.rename(f"{source}{ending}")
        finally:
            unfinished.unlink(missing_ok=True)
        source.unlink()
