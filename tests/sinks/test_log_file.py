"""A file of lines holds whole lines alone, whatever other programs, a full disk or a kill do to it."""

import fcntl
import gzip
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest

from relay.testing import ManualClock
from sinks._log_file import LogFile, LogFileOptions
from sinks._rotated import compressor_for, rotated_files
from tests.faults.disk import needs_mounts, small_disk
from tests.sinks.outputs import noted_syncs

Make = Callable[..., LogFile]
MIDNIGHT = 1_767_225_600.0
"""2026-01-01 00:00 UTC, where ManualClock begins."""


def is_ours(start: bytes) -> bool:
    return start[:1].isdigit()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.jsonl"


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def make(path: Path, said: list[str]) -> Make:
    def log_file(clock: ManualClock | None = None, at: Path = path, **options: object) -> LogFile:
        made = LogFileOptions(**options)  # type: ignore[arg-type]
        return LogFile(at, made, is_ours=is_ours, clock=clock or ManualClock(), notify=said.append)

    return log_file


def numbered(*numbers: int, width: int = 9) -> bytes:
    return b"".join(b"%0*d\n" % (width, number) for number in numbers)


def put(log: LogFile, data: bytes) -> None:
    """Write all of *data*, as the writer's thread does."""
    while data:
        data = data[log.write(data) :]


def tidy(log: LogFile) -> int:
    """Let *log* do all of its other work; the number of slices."""
    steps = 0
    while log.upkeep() == 0.0:
        steps += 1
    return steps


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.parent.iterdir())


def content(path: Path) -> bytes:
    return path.read_bytes()


def story(path: Path) -> bytes:
    """Everything that the rotated files and the file itself hold, oldest first."""
    parts: list[bytes] = []
    for rotated in rotated_files(path):
        data = rotated.path.read_bytes()
        parts.append(gzip.decompress(data) if rotated.ending else data)
    return b"".join([*parts, path.read_bytes()])


def test_lines_are_appended_to_what_is_there(make: Make, path: Path) -> None:
    path.write_bytes(numbered(1))
    log = make()
    put(log, numbered(2, 3))
    put(log, numbered(4))
    log.close()
    assert path.read_bytes() == numbered(1, 2, 3, 4)


def test_a_new_file_is_private_whatever_the_umask_and_keeps_the_mode_that_it_was_given(make: Make, path: Path) -> None:
    before = os.umask(0)
    try:
        log = make(rotate_bytes=1_000)
        put(log, numbered(1))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        path.chmod(0o640)
        os.umask(0o077)
        put(log, numbered(*range(2, 120)))
        log.close()
    finally:
        os.umask(before)
    (rotated,) = rotated_files(path)
    assert {stat.S_IMODE(file.stat().st_mode) for file in (path, rotated.path)} == {0o640}


# Renamed, deleted, emptied by another program


def test_a_file_that_is_renamed_receives_nothing_more(make: Make, path: Path) -> None:
    log = make()
    put(log, numbered(1))
    path.rename(path.with_name("jobs.1"))
    put(log, numbered(2))
    log.close()
    assert (path.with_name("jobs.1").read_bytes(), path.read_bytes()) == (numbered(1), numbered(2))


def test_a_file_that_is_replaced_by_one_of_another_program_is_left_for_it(make: Make, path: Path) -> None:
    log = make()
    put(log, numbered(1))
    # As logrotate does with `create`. The number of the inode may not be in use again while the old file is open.
    path.unlink()
    path.touch(0o640)
    path.chmod(0o640)
    put(log, numbered(2))
    log.close()
    assert path.read_bytes() == numbered(2)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_file_that_is_deleted_is_made_again(make: Make, path: Path) -> None:
    log = make()
    put(log, numbered(1))
    path.unlink()
    put(log, numbered(2))
    log.close()
    assert path.read_bytes() == numbered(2)


def test_after_copytruncate_the_next_line_is_the_first_one(make: Make, path: Path) -> None:
    log = make()
    put(log, numbered(1, 2, 3))
    shutil.copy(path, path.with_name("jobs.1"))
    os.truncate(path, 0)
    put(log, numbered(4))
    log.close()
    assert path.read_bytes() == numbered(4), "and no hole of NUL bytes before it"
    assert path.with_name("jobs.1").read_bytes() == numbered(1, 2, 3)


def test_it_lets_go_of_the_file_when_it_is_to_open_it_again(make: Make, path: Path) -> None:
    log = make()
    put(log, numbered(1))
    path.rename(path.with_name("jobs.1"))
    log.reopen()
    assert log.upkeep() is None
    assert path.read_bytes() == b"", "it is there before the next line comes"
    put(log, numbered(2))
    log.close()
    assert path.read_bytes() == numbered(2)


# What a process that was killed has left behind


@pytest.mark.parametrize("torn", [b"3", b"3" * 300_000])
def test_a_line_that_was_never_finished_is_cut_off_and_reported(
    torn: bytes, make: Make, path: Path, said: list[str]
) -> None:
    path.write_bytes(numbered(1, 2) + torn)
    log = make()
    log.upkeep()
    assert path.read_bytes() == numbered(1, 2), "at the start, before there is a line to write"
    put(log, numbered(4))
    log.close()
    assert path.read_bytes() == numbered(1, 2, 4)
    assert said == [f"{path}: {len(torn):,} bytes of a line that was never finished are cut off at its end"]


def test_the_only_line_may_be_the_one_that_was_not_finished(make: Make, path: Path) -> None:
    path.write_bytes(b"00")
    log = make()
    put(log, numbered(1))
    log.close()
    assert path.read_bytes() == numbered(1)


@pytest.mark.parametrize("foreign", [b"[server]\n", b"SQLite format 3\0", b"no line feed", b"1\nand no line feed"])
def test_a_file_of_something_else_is_refused_and_left_as_it_is(foreign: bytes, make: Make, path: Path) -> None:
    path.write_bytes(foreign)
    log = make()
    for _ in range(2):
        with pytest.raises(OSError, match="something else than records"):
            log.write(numbered(1))
    log.close()
    assert path.read_bytes() == foreign


def test_a_long_file_without_lines_is_refused(make: Make, path: Path) -> None:
    path.write_bytes(b"1" * (2 * 1024 * 1024))
    log = make()
    with pytest.raises(OSError, match="something else than records"):
        log.write(numbered(1))
    log.close()
    assert path.stat().st_size == 2 * 1024 * 1024


def test_a_fifo_is_refused_and_not_waited_for(make: Make, path: Path) -> None:
    os.mkfifo(path)
    log = make()
    with pytest.raises(OSError, match="not a regular file"):
        log.write(numbered(1))
    log.close()


# Rotation


def test_no_file_grows_beyond_the_size_and_no_line_is_lost_torn_or_out_of_order(make: Make, path: Path) -> None:
    log = make(rotate_bytes=1_000)
    lines = numbered(*range(1, 501))
    for start in range(0, len(lines), 730):
        put(log, lines[start : start + 730])
    log.close()
    sizes = [file.path.stat().st_size for file in rotated_files(path)]
    assert sizes == [1_000] * len(sizes)
    assert len(sizes) == 4
    assert story(path) == lines


def test_a_line_that_is_longer_than_a_file_has_one_of_its_own(make: Make, path: Path) -> None:
    log = make(rotate_bytes=1_000)
    long = b"5" * 3_000 + b"\n"
    put(log, numbered(1) + long + numbered(2))
    log.close()
    assert [file.path.stat().st_size for file in rotated_files(path)] == [10, 3_001]
    assert story(path) == numbered(1) + long + numbered(2)


def test_files_that_are_put_aside_within_a_second_have_names_in_their_order(make: Make, path: Path) -> None:
    log = make(rotate_bytes=1_000)
    put(log, numbered(*range(1_200)))
    log.close()
    rotated = [file.path.name for file in rotated_files(path)]
    assert rotated[:3] == [f"jobs-20260101T000000Z{number}.jsonl" for number in ("", "_2", "_3")]
    assert rotated[-1] == "jobs-20260101T000000Z_11.jsonl"
    assert story(path) == numbered(*range(1_200))


async def test_a_file_holds_the_lines_of_one_period(make: Make, path: Path) -> None:
    clock = ManualClock()
    log = make(clock, rotate_every=3_600.0)
    put(log, numbered(1))
    await clock.advance(3_599.0)
    put(log, numbered(2))
    await clock.advance(1.0)
    put(log, numbered(3))
    log.close()
    (rotated,) = rotated_files(path)
    assert rotated.path.name == "jobs-20260101T010000Z.jsonl"
    assert (content(rotated.path), content(path)) == (numbered(1, 2), numbered(3))


@pytest.mark.parametrize(("written", "rotations"), [(MIDNIGHT, 0), (MIDNIGHT - 1, 1), (MIDNIGHT - 90_000, 1)])
def test_the_period_of_a_file_is_known_after_a_restart(written: float, rotations: int, make: Make, path: Path) -> None:
    path.write_bytes(numbered(1))
    os.utime(path, (written, written))
    log = make(rotate_every=86_400.0)
    put(log, numbered(2))
    log.close()
    assert len(rotated_files(path)) == rotations


def test_a_file_that_a_link_leads_to_is_put_aside_and_the_link_stays(make: Make, path: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    path.symlink_to(tmp_path / "disk" / "real.jsonl")
    log = make(rotate_bytes=1_000)
    put(log, numbered(*range(150)))
    log.close()
    assert path.is_symlink()
    assert names(tmp_path / "disk" / "x") == ["real-20260101T000000Z.jsonl", "real.jsonl"]


async def test_a_rotation_that_fails_is_reported_and_tried_again_in_a_minute(
    make: Make, tmp_path: Path, said: list[str]
) -> None:
    path = tmp_path / ("n" * 240)  # there is no room for a date in its name
    clock = ManualClock()
    log = make(clock, at=path, rotate_bytes=1_000)
    put(log, numbered(*range(300)))
    assert content(path) == numbered(*range(300))
    assert len(said) == 1
    assert re.search(r"cannot be rotated \(.*File name too long", said[0])
    await clock.advance(60.0)
    put(log, numbered(1))
    put(log, numbered(2))
    log.close()
    assert len(said) == 2


def test_the_lock_of_another_process_is_waited_for(make: Make, path: Path) -> None:
    log = make()
    put(log, numbered(1))
    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError):
            log.write(numbered(2))
        fcntl.flock(other, fcntl.LOCK_UN)
        put(log, numbered(2))
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    log.close()
    assert path.read_bytes() == numbered(1, 2)


def test_two_that_use_one_file_rotate_it_once_and_lose_nothing(make: Make, path: Path) -> None:
    one, other = make(rotate_bytes=1_000, compression="gzip"), make(rotate_bytes=1_000, compression="gzip")
    for number in range(500):
        put((one, other)[number % 2], numbered(number))
        tidy((other, one)[number % 2])
    one.close()
    other.close()
    assert story(path) == numbered(*range(500))
    assert len(rotated_files(path)) == 4


PROCESS = """
import sys
from pathlib import Path
from relay.testing import ManualClock
from sinks._log_file import LogFile, LogFileOptions

path, first = Path(sys.argv[1]), int(sys.argv[2])
options = LogFileOptions(rotate_bytes=4_000, compression="gzip")
log = LogFile(path, options, is_ours=lambda start: True, clock=ManualClock(), notify=print)
sys.stdin.readline()
for number in range(first, first + 1_000):
    data = b"%09d\\n" % number
    while data:
        try:
            data = data[log.write(data):]
        except BlockingIOError:
            pass
    log.upkeep()
log.close()
"""


def test_two_processes_that_rotate_one_file_lose_and_tear_no_line(path: Path) -> None:
    command = [sys.executable, "-c", PROCESS, str(path)]
    with ThreadPoolExecutor(2) as pool:
        run = partial(subprocess.run, input="go\n", text=True, capture_output=True, check=True, timeout=60)
        printed = [done.stdout for done in pool.map(run, ([*command, "0"], [*command, "5000"]))]
    lines = [int(line) for line in story(path).splitlines()]
    assert [line for line in lines if line < 5_000] == list(range(1_000))
    assert [line for line in lines if line >= 5_000] == list(range(5_000, 6_000))
    assert printed == ["", ""], "nothing went wrong"
    assert len(rotated_files(path)) == 4


# Retention and compression


def aside(path: Path, number: int, size: int) -> Path:
    file = path.with_name(f"jobs-20250101T{number:06}Z.jsonl")
    file.write_bytes(numbered(*range(size // 10)))
    return file


def test_the_oldest_files_are_deleted_beyond_the_number_and_beyond_the_size(make: Make, path: Path) -> None:
    files = [aside(path, number, 1_000) for number in range(6)]
    log = make(keep_files=4)
    tidy(log)
    log.close()
    assert [file.exists() for file in files] == [False] * 2 + [True] * 4
    log = make(keep_bytes=2_500)
    tidy(log)
    log.close()
    assert [file.exists() for file in files] == [False] * 4 + [True] * 2


def test_nothing_else_is_deleted(make: Make, path: Path, tmp_path: Path) -> None:
    others = ["jobs-20250101T000000Z.json", "jobs-2025.jsonl", "jobs2-20250101T000000Z.jsonl", "other.jsonl"]
    for name in others:
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "jobs-20250101T000000Z.jsonl").mkdir()
    (tmp_path / "jobs-20250101T000001Z.jsonl").symlink_to(tmp_path / "other.jsonl")
    files = [aside(path, number, 100) for number in (2, 3)]
    log = make(keep_files=1)
    tidy(log)
    log.close()
    assert names(path) == sorted(
        [*others, "jobs-20250101T000000Z.jsonl", "jobs-20250101T000001Z.jsonl", files[1].name, path.name]
    )


def test_a_file_is_compressed_in_slices_between_the_lines(make: Make, path: Path) -> None:
    content = numbered(*range(100_000))
    log = make(rotate_bytes=len(content), compression="gzip")
    put(log, content)
    put(log, numbered(7))
    steps = 0
    while log.upkeep() == 0.0:
        put(log, numbered(8))
        steps += 1
    log.close()
    assert steps > 10
    (rotated,) = rotated_files(path)
    assert rotated.path.name == "jobs-20260101T000000Z.jsonl.gz"
    assert gzip.decompress(rotated.path.read_bytes()) == content
    assert stat.S_IMODE(rotated.path.stat().st_mode) == 0o600
    assert path.read_bytes() == numbered(7, *[8] * steps)


def test_a_compression_that_is_broken_off_costs_nothing_and_is_done_after_the_next_start(
    make: Make, path: Path
) -> None:
    content = numbered(*range(100_000))
    file = aside(path, 1, 10)
    file.write_bytes(content)
    log = make(compression="gzip")
    for _ in range(4):
        assert log.upkeep() == 0.0
    assert f"{file.name}.gz.tmp" in names(path)
    log.close()
    assert names(path) == [file.name, path.name]
    assert file.read_bytes() == content
    file.with_name(f"{file.name}.gz.tmp").write_bytes(b"of a process that was killed")
    log = make(compression="gzip")
    tidy(log)
    log.close()
    assert names(path) == [f"{file.name}.gz", path.name]
    assert story(path) == content


def test_a_file_that_another_process_compresses_is_left_to_it(make: Make, path: Path) -> None:
    file = aside(path, 1, 1_000)
    log = make(compression="gzip")
    with file.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        tidy(log)
    log.close()
    assert names(path) == [file.name, path.name]


def test_a_file_that_cannot_be_compressed_stays_as_it_is_and_is_reported(
    make: Make, path: Path, said: list[str]
) -> None:
    file = aside(path, 1, 1_000)
    file.with_name(f"{file.name}.gz.tmp").mkdir()
    log = make(compression="gzip")
    tidy(log)
    put(log, numbered(1))
    log.close()
    assert file.exists()
    assert len(said) == 1
    assert "cannot all be compressed" in said[0]


@pytest.mark.skipif(find_spec("compression") is None, reason="zstd is in the standard library since Python 3.14")
def test_zstandard_is_used_where_the_standard_library_has_it(make: Make, path: Path) -> None:
    from compression import zstd  # type: ignore[import-not-found]

    aside(path, 1, 1_000)
    log = make(compression="zstd")
    tidy(log)
    log.close()
    (rotated,) = rotated_files(path)
    assert rotated.path.name.endswith(".jsonl.zst")
    assert zstd.decompress(rotated.path.read_bytes()) == numbered(*range(100))


@pytest.mark.skipif(find_spec("compression") is not None, reason="this Python has zstd")
def test_zstandard_is_an_import_error_elsewhere() -> None:
    with pytest.raises(ImportError):
        compressor_for("zstd")


# fsync


async def test_what_was_written_is_synced_once_within_the_time(
    make: Make, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = noted_syncs(monkeypatch)
    clock = ManualClock()
    log = make(clock, sync=2.0)
    assert log.upkeep() is None, "nothing is written yet"
    put(log, numbered(1))
    await clock.advance(1.5)
    put(log, numbered(2))
    assert (log.upkeep(), synced) == (0.5, [])
    await clock.advance(0.5)
    assert (log.upkeep(), synced) == (None, [20])
    put(log, numbered(3))
    log.close()
    assert synced == [20, 30], "and at the end"


# A full disk


@needs_mounts
def test_a_full_disk_leaves_whole_lines_and_none_of_them_is_lost(make: Make, tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    with small_disk(folder, size=64 * 1024):
        path = folder / "jobs.jsonl"
        log = make(at=path)
        lines = numbered(*range(200), width=599)
        rest = lines[log.write(lines) :]
        with pytest.raises(OSError, match="No space left"):
            log.write(rest)
        written = path.read_bytes()
        assert written.endswith(b"\n")
        assert lines == written + rest
        with pytest.raises(OSError, match="No space left"):
            log.write(rest)
        assert path.read_bytes() == written
        # The file is moved away in the middle of this: what comes next is a whole line of another file.
        elsewhere = tmp_path / "jobs.1"
        shutil.move(path, elsewhere)
        put(log, rest[: 600 * 3])
        log.close()
        assert elsewhere.read_bytes() + path.read_bytes() == lines[: len(written) + 600 * 3]


@needs_mounts
def test_on_a_full_disk_the_part_of_a_line_is_cut_off_at_once(make: Make, tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    with small_disk(folder, size=64 * 1024) as disk:
        path = folder / "jobs.jsonl"
        log = make(at=path)
        put(log, numbered(1, width=136))
        disk.fill()
        # A page has 4096 bytes: the first lines fit in the one that is begun, and then a part of a line does.
        with pytest.raises(OSError, match="No space left"):
            put(log, numbered(*range(2, 20), width=599))
        assert (path.stat().st_size - 137) % 600 == 0
        assert path.stat().st_size > 137
        disk.free()
        put(log, numbered(7))
        log.close()
        assert path.read_bytes().endswith(b"\n" + numbered(7))
