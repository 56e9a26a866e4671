"""A journal that is read while a relay writes it: whole, in order, and never called damaged."""

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from relay.errors import JournalError
from relay.events import Record
from relay.journal import Retention, SqliteJournal, _reading
from relay.journal.sqlite import stored_records
from tests.journal.telling import Teller

ROOT = Path(__file__).parents[2]

WRITES_AND_STARTS_AGAIN = """
import sys
from relay.journal import Retention, SqliteJournal
from tests.journal.telling import Teller
written = 0
while True:
    journal = SqliteJournal(sys.argv[1], Retention(records=1_500))
    teller = Teller(journal)
    for turn in range(200):
        teller.tell("abcdefg")
        if turn % 50 == 0:
            journal._file._beside.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        if turn == 100:
            written += 1
            print(written, flush=True)
            if written % 3 == 0:
                sys.stdin.readline()
    journal.close()
"""

WRITES_ON_COMMAND = """
import sys
from relay.journal import Retention, SqliteJournal
from tests.journal.telling import Teller
journal = teller = None
for line in sys.stdin:
    match line.split():
        case ["start", keep]:
            journal = SqliteJournal(sys.argv[1], Retention(records=int(keep)))
            teller = Teller(journal)
        case ["write", count]:
            for _ in range(int(count)):
                teller.tell("abc")
            journal._file._beside.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        case ["stop"]:
            journal.close()
    print("ok", flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "relay.db"


class Process:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, line: str = "") -> str:
        """Send it *line*, and return what it answers."""
        assert self._process.stdin is not None
        if line:
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()
        return self.next()

    def next(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def go_on(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()


@contextmanager
def running(program: str, path: Path) -> Generator[Process]:
    command = [sys.executable, "-c", program, str(path)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        try:
            yield Process(process)
        finally:
            process.kill()


def offsets(records: Iterator[Record]) -> list[int]:
    return [record.position.offset for record in records]


def test_beside_a_relay_that_writes_trims_checkpoints_and_starts_again_what_is_read_is_in_order_and_whole(
    path: Path,
) -> None:
    with running(WRITES_AND_STARTS_AGAIN, path) as relay:
        for turn in range(1, 10):
            assert relay.next() == str(turn)
            for _ in range(4):
                notices: list[str] = []
                seen = offsets(stored_records(path, notify=notices.append))
                holes = [(a + 1, b - 1) for a, b in itertools.pairwise(seen) if b != a + 1]
                assert seen == sorted(set(seen))
                assert notices == [
                    f"the relay has dropped the records of {path} from offset {start} to {end} meanwhile"
                    for start, end in holes
                ]
            if turn % 3 == 0:
                relay.go_on()


def test_a_relay_that_starts_writes_and_stops_between_two_pages_is_read_on(path: Path) -> None:
    with closing(SqliteJournal(path)) as journal:
        Teller(journal).tell("a" * 1_000)
    with running(WRITES_ON_COMMAND, path) as relay:
        reader = stored_records(path)
        seen = [next(reader).position.offset]
        for commands in (
            ["start 100000", "write 200"],
            ["write 200"],
            ["stop"],
            ["start 100000"],
            ["write 200", "stop"],
        ):
            assert [relay.ask(command) for command in commands] == ["ok"] * len(commands)
            seen += [next(reader).position.offset for _ in range(400)]
        seen += offsets(reader)
    assert seen == list(range(1, 2_801))


def test_what_a_relay_drops_before_its_turn_is_said(path: Path) -> None:
    notices: list[str] = []
    with closing(SqliteJournal(path)) as journal:
        Teller(journal).tell("abc" * 1_000)
    with running(WRITES_ON_COMMAND, path) as relay:
        reader = stored_records(path, notify=notices.append)
        seen = [next(reader).position.offset]
        assert [relay.ask(command) for command in ("start 1000", "write 100")] == ["ok"] * 2
        seen += offsets(reader)
    assert seen == [*range(1, _reading.PAGE + 1), *range(2_301, 3_301)]
    assert notices == [f"the relay has dropped the records of {path} from offset {_reading.PAGE + 1} to 2300 meanwhile"]


def test_reading_leaves_a_journal_that_is_closed_as_it_is_and_one_that_was_killed_with_its_log(
    path: Path, tmp_path: Path
) -> None:
    killed = tmp_path / "killed"
    killed.mkdir()
    with closing(SqliteJournal(path)) as journal:
        Teller(journal).tell("abc")
        for ending in ("", "-wal"):
            shutil.copy(f"{path}{ending}", killed / f"relay.db{ending}")
    for place in (path, killed / "relay.db"):
        before = {file.name: file.read_bytes() for file in place.parent.iterdir() if file.is_file()}
        assert offsets(stored_records(place)) == [1, 2, 3]
        after = {file.name: file.read_bytes() for file in place.parent.iterdir() if file.is_file()}
        assert {name: after[name] for name in before} == before


def test_a_relay_starts_while_somebody_reads(path: Path) -> None:
    with closing(SqliteJournal(path)) as journal:
        Teller(journal).tell("a" * 1_000)
    for _ in range(20):
        reader = stored_records(path)
        next(reader)
        with closing(SqliteJournal(path, Retention(records=1_000))) as journal:
            Teller(journal).tell("a")
        reader.close()


# Read-only places


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """The folder of the test once more, on a mount that is read-only."""
    place = tmp_path / "read-only"
    place.mkdir()
    if os.geteuid() != 0:
        pytest.skip("a read-only mount takes root")
    for options in (["--bind", str(tmp_path)], ["-o", "remount,bind,ro"]):
        if subprocess.run(["mount", *options, str(place)], capture_output=True, check=False).returncode:
            pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


READS = """
import sys
from pathlib import Path
from relay.journal.sqlite import stored_records
print(*(record.position.offset for record in stored_records(Path(sys.argv[1]))))
"""


def read_elsewhere(path: Path) -> list[int]:
    """Read in a process of its own: one process has the same locks by whatever name it knows a file."""
    done = subprocess.run(
        [sys.executable, "-c", READS, str(path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return [int(word) for word in done.stdout.split()]


def test_on_a_read_only_mount_a_journal_is_read_whether_a_relay_writes_it_was_killed_or_has_ended(
    path: Path, tmp_path: Path, read_only: Path
) -> None:
    wanted = list(range(1, 301))
    with running(WRITES_ON_COMMAND, path) as relay:
        assert [relay.ask(command) for command in ("start 1000", "write 99")] == ["ok"] * 2
        assert read_elsewhere(read_only / "relay.db") == wanted[:297]
    with running(WRITES_ON_COMMAND, path) as relay:
        assert relay.ask("start 1000") == "ok"
        Path(f"{path}-shm").unlink()
    assert read_elsewhere(read_only / "relay.db") == wanted[:297]
    with closing(SqliteJournal(path)) as journal:
        Teller(journal).tell("abc")
    assert read_elsewhere(read_only / "relay.db") == wanted
    assert sorted(file.name for file in tmp_path.iterdir() if file.is_file()) == ["relay.db", "relay.db-lock"]


def test_a_place_that_cannot_be_read_without_locks_while_it_is_written_is_no_damaged_journal(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(SqliteJournal(path)) as journal:
        Teller(journal).tell("a")

    def no_locks(path: Path) -> None:
        raise _reading._NoLocksError

    monkeypatch.setattr(_reading, "_opened", no_locks)
    assert offsets(stored_records(path)) == [1]
    changing = iter(range(100))
    monkeypatch.setattr(_reading, "_state", lambda _: (0, 0, next(changing)))
    with pytest.raises(JournalError) as caught:
        list(stored_records(path))
    assert str(caught.value) == (
        f"the journal {path} is being written and cannot be read from here: the place is read-only; read it where the"
        " relay runs, or when it is stopped"
    )
