"""What counts as the memory of a server: what is its own, and nothing that other processes change."""

import mmap
import os
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.bench.fanout.accounting import memory_bytes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")

SIZE: Final = 64 * 1024 * 1024
NEARLY: Final = SIZE * 3 // 4
"""Other tests of the process may free something meanwhile, or need more."""


def grown_by(mapped: mmap.mmap) -> int:
    """By how much memory grows while every page of *mapped* is read or written."""
    before = memory_bytes([os.getpid()])
    for place in range(0, SIZE, mmap.PAGESIZE):
        if mapped[place] == 0:
            mapped[place] = 1
    return memory_bytes([os.getpid()]) - before


@pytest.mark.parametrize("flags", [mmap.MAP_PRIVATE, mmap.MAP_SHARED], ids=["private", "shared"])
def test_memory_that_is_mapped_counts(flags: int) -> None:
    with mmap.mmap(-1, SIZE, flags | mmap.MAP_ANONYMOUS) as mapped:
        assert grown_by(mapped) > NEARLY


def test_pages_of_a_file_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "library").write_bytes(b"1" * SIZE)
    with (tmp_path / "library").open("rb") as file, mmap.mmap(file.fileno(), SIZE, prot=mmap.PROT_READ) as mapped:
        assert grown_by(mapped) < SIZE - NEARLY
