"""Lines reach the output whole and in order, and an output that stands still or fails stops nobody."""

import asyncio
import errno
import io
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sinks._writer import BYTES_LIMIT, LineWriter
from tests.sinks.outputs import PATIENCE, Gate, a_pipe


def numbered(count: int, width: int = 6) -> list[bytes]:
    return [b"%0*d\n" % (width, number) for number in range(1, count + 1)]


def running() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "line-writer"]


def test_every_line_arrives_whole_and_in_order() -> None:
    lines = numbered(20_000)
    with a_pipe() as pipe:
        writer = LineWriter(pipe.out, capacity=len(lines))
        for line in lines:
            writer.write(line)
        arrived = pipe.read_lines("020000")
        writer.close()
    assert arrived == b"".join(lines).decode().splitlines()
    assert writer.missed == 0


def test_lines_of_several_threads_are_all_there_and_each_threads_own_in_order() -> None:
    out = io.BytesIO()
    writer = LineWriter(out, capacity=10_000)

    def write(name: bytes) -> None:
        for n in range(1_000):
            writer.write(b"%s %d\n" % (name, n))

    threads = [threading.Thread(target=write, args=[name]) for name in (b"a", b"b", b"c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    writer.close()
    lines = out.getvalue().decode().splitlines()
    assert {name: [line for line in lines if line.startswith(name)] for name in "abc"} == {
        name: [f"{name} {n}" for n in range(1_000)] for name in "abc"
    }


async def test_lines_of_one_turn_of_the_loop_call_the_thread_behind_it() -> None:
    written: list[str] = []
    done = asyncio.Event()
    loop = asyncio.get_running_loop()

    class Out(io.StringIO):
        def write(self, text: str) -> int:
            written.append(text)
            if text.endswith("000050\n"):
                loop.call_soon_threadsafe(done.set)
            return len(text)

    writer = LineWriter(Out())
    for line in numbered(50):
        writer.write(line)
    assert writer._news.empty(), "the loop is not free yet"
    assert not writer._called
    await done.wait()
    writer.close()
    assert "".join(written) == b"".join(numbered(50)).decode()


async def test_lines_that_come_one_after_the_other_are_each_written() -> None:
    written = asyncio.Queue[str]()
    loop = asyncio.get_running_loop()

    class Out(io.StringIO):
        def write(self, text: str) -> int:
            loop.call_soon_threadsafe(written.put_nowait, text)
            return len(text)

    writer = LineWriter(Out())
    for line in numbered(5):
        writer.write(line)
        assert await asyncio.wait_for(written.get(), PATIENCE) == line.decode()
    writer.close()


async def test_a_long_burst_does_not_wait_for_the_end_of_its_turn() -> None:
    lines = numbered(5_000)
    with a_pipe() as pipe:
        writer = LineWriter(pipe.out)
        for line in lines:
            writer.write(line)
        data = b""
        while b"001000\n" not in data:  # the loop has no turn meanwhile
            data += os.read(pipe.reader, 1 << 16)
        writer.close()


def test_lines_of_a_loop_that_has_ended_are_written_with_those_of_the_next() -> None:
    async def write(line: bytes) -> None:
        writer.write(line)

    async def write_and_read(line: bytes) -> list[str]:
        writer.write(line)
        return await asyncio.to_thread(pipe.read_lines, line.decode().strip())

    with a_pipe() as pipe:
        writer = LineWriter(pipe.out)
        # The thread takes the line with which it begins without being called.
        writer.write(b"begin\n")
        assert pipe.read_lines("begin") == ["begin"]
        asyncio.run(write(b"of the first\n"))
        assert asyncio.run(write_and_read(b"of the second\n")) == ["of the first", "of the second"]
        writer.close()


async def test_a_line_of_a_thread_without_a_loop_does_not_wait_for_the_loop_of_another() -> None:
    with a_pipe() as pipe:
        writer = LineWriter(pipe.out)
        writer.write(b"begin\n")
        assert pipe.read_lines("begin") == ["begin"]
        writer.write(b"of the loop\n")
        other = threading.Thread(target=writer.write, args=[b"of the thread\n"])
        other.start()
        assert pipe.read_lines("of the thread") == ["of the loop", "of the thread"], "the loop has no turn meanwhile"
        other.join()
        writer.close()


@pytest.mark.parametrize("capacity", [1, 2, 500])
async def test_an_output_that_stands_still_is_not_called_for_each_line(capacity: int) -> None:
    with a_pipe() as pipe:
        writer = LineWriter(pipe.out, capacity=capacity)
        for line in numbered(20_000, width=100):
            writer.write(line)
        # Once a batch, until the pipe is full with two or three of them.
        assert writer._news.qsize() < 10
        pipe.read_lines("020000")
        writer.close()


def test_what_was_printed_before_comes_before() -> None:
    with a_pipe() as pipe:
        pipe.out.write("before\n")
        writer = LineWriter(pipe.out)
        writer.write(b"after\n")
        assert pipe.read_lines("after") == ["before", "after"]
        writer.close()


def test_beyond_the_bound_the_oldest_give_way_and_one_line_in_their_place_says_how_many() -> None:
    out = Gate()
    writer = LineWriter(out, capacity=3)
    writer.write(b"1\n")
    assert out.reached.wait(PATIENCE)
    for number in range(2, 10):
        writer.write(b"%d\n" % number)
    assert writer.missed == 5
    out.open()
    writer.close()
    assert out.getvalue() == '1\n{"type":"skipped","missed":5}\n7\n8\n9\n'


def test_how_many_lines_wait_can_be_asked_for_who_can_wait_as_well() -> None:
    out = Gate()
    writer = LineWriter(out)
    assert writer.waiting == 0
    writer.write(b"1\n")
    assert out.reached.wait(PATIENCE)
    writer.write(b"2\n")
    writer.write(b"3\n")
    assert writer.waiting == 3
    out.open()
    writer.close()
    assert writer.waiting == 0


def test_bytes_are_bounded_as_well_as_lines() -> None:
    out = Gate()
    writer = LineWriter(out)
    writer.write(b"1\n")
    assert out.reached.wait(PATIENCE)
    large = b"x" * (BYTES_LIMIT // 2) + b"\n"
    writer.write(large)
    writer.write(large)
    writer.write(b"last\n")
    assert writer.missed == 1
    out.open()
    writer.close()
    assert out.getvalue() == '1\n{"type":"skipped","missed":1}\n' + large.decode() + "last\n"


def test_a_pipe_that_nobody_reads_blocks_nobody_and_every_line_is_printed_or_counted() -> None:
    lines = numbered(5_000, width=100)
    with a_pipe() as pipe:
        writer = LineWriter(pipe.out, capacity=10, lost=b"lost %d\n".__mod__)
        for line in lines:
            writer.write(line)
        missed = writer.missed
        assert missed > 0
        arrived = pipe.read_lines(lines[-1].decode().strip())
        writer.close()
    kept = [line for line in arrived if not line.startswith("lost")]
    assert sum(int(line.removeprefix("lost ")) for line in arrived if line.startswith("lost")) == missed
    assert len(kept) + missed == len(lines)
    assert kept == sorted(set(kept))


def test_a_descriptor_that_does_not_block_gets_every_byte_once() -> None:
    lines = numbered(5_000, width=100)
    with a_pipe() as pipe:
        os.set_blocking(pipe.out.fileno(), False)
        writer = LineWriter(pipe.out)
        for line in lines:
            writer.write(line)
        assert pipe.read_lines(lines[-1].decode().strip()) == b"".join(lines).decode().splitlines()
        writer.close()


def test_closing_does_not_wait_for_an_output_that_stands_still() -> None:
    lines = numbered(2_000, width=100)
    with a_pipe() as pipe:
        writer = LineWriter(pipe.out)
        for line in lines:
            writer.write(line)
        writer.close(timeout=0.01)
        assert pipe.read_lines(lines[-1].decode().strip()) == b"".join(lines).decode().splitlines()


def test_closing_waits_for_an_output_that_moves() -> None:
    lines = numbered(2_000, width=100)
    with a_pipe() as pipe:
        os.set_blocking(pipe.out.fileno(), False)
        writer = LineWriter(pipe.out)
        for line in lines:
            writer.write(line)
        closing = threading.Thread(target=writer.close, args=[PATIENCE])
        closing.start()
        arrived = pipe.read_lines(lines[-1].decode().strip())
        closing.join(PATIENCE)
    assert arrived == b"".join(lines).decode().splitlines()
    assert running() == []


def test_once_closed_it_holds_the_output_no_more() -> None:
    with a_pipe() as pipe:
        writer = LineWriter(pipe.out)
        writer.write(b"1\n")
        writer.close()
        pipe.out.close()
        assert pipe.read_lines("1") == ["1"]
        assert os.read(pipe.reader, 1) == b"", "the end of the pipe"


def test_after_closing_the_next_line_goes_on_where_the_last_one_was_cut() -> None:
    lines = numbered(2_000, width=100)
    with a_pipe() as pipe:
        os.set_blocking(pipe.out.fileno(), False)
        writer = LineWriter(pipe.out)
        for line in lines:
            writer.write(line)
        writer.close(timeout=0)
        for thread in running():
            thread.join(PATIENCE)
        assert running() == []
        writer.write(b"last\n")
        assert pipe.read_lines("last") == [*b"".join(lines).decode().splitlines(), "last"]
        writer.close()


def test_a_pipe_whose_reader_has_gone_raises_nothing_and_keeps_no_thread() -> None:
    with a_pipe() as pipe:
        pipe.stop_reading()
        writer = LineWriter(pipe.out, capacity=10)
        for line in numbered(100):
            writer.write(line)
        writer.close()
        assert running() == []
        assert writer.missed > 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full to stand for a full disk")
def test_a_full_disk_raises_nothing_and_keeps_no_thread() -> None:
    with open("/dev/full", "w") as out:
        writer = LineWriter(out)
        writer.write(b"1\n")
        writer.close()
    assert running() == []


def test_an_output_that_fails_is_tried_again_and_then_gets_everything() -> None:
    class Flaky(io.StringIO):
        failed = threading.Event()

        def write(self, text: str) -> int:
            if not self.failed.is_set():
                self.failed.set()
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(text)

    out = Flaky()
    writer = LineWriter(out)
    writer.write(b"1\n")
    assert out.failed.wait(PATIENCE)
    writer.write(b"2\n")
    writer.close()
    assert out.getvalue() == "1\n2\n"


def test_an_output_that_fails_is_tried_again_without_anybodys_doing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Flaky(io.StringIO):
        tries = 0
        written = threading.Event()

        def write(self, text: str) -> int:
            self.tries += 1
            if self.tries < 3:
                raise OSError(errno.ENOSPC, "No space left on device")
            self.written.set()
            return super().write(text)

    monkeypatch.setattr("sinks._writer.RETRY_AFTER", 0.001)
    out = Flaky()
    writer = LineWriter(out)
    writer.write(b"1\n")
    assert out.written.wait(PATIENCE)
    writer.close()
    assert out.getvalue() == "1\n"


def test_where_no_thread_can_be_started_lines_wait_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    out = io.BytesIO()
    writer = LineWriter(out)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        writer.write(b"1\n")
    writer.write(b"2\n")
    writer.close()
    assert out.getvalue() == b"1\n2\n"


def test_a_line_after_closing_is_written_too() -> None:
    out = io.BytesIO()
    writer = LineWriter(out)
    for line in numbered(3):
        writer.write(line)
        writer.close()
    assert out.getvalue() == b"".join(numbered(3))


def test_an_output_closed_under_the_writer_raises_nothing_and_no_other_file_gets_its_lines(tmp_path: Path) -> None:
    with a_pipe() as pipe:
        writer = LineWriter(pipe.out)
        writer.write(b"1\n")
        assert pipe.read_lines("1") == ["1"]
        number = pipe.out.fileno()
        pipe.out.close()
        with open(tmp_path / "other", "w") as other:
            assert other.fileno() == number
            writer.write(b"2\n")
            assert pipe.read_lines("2") == ["2"]
            writer.close()
        assert (tmp_path / "other").read_text() == ""


def test_an_output_that_was_closed_before_raises_nothing() -> None:
    with a_pipe() as pipe:
        pipe.out.close()
        writer = LineWriter(pipe.out)
        writer.write(b"1\n")
        writer.close()
    assert running() == []


def test_without_an_output_lines_go_nowhere() -> None:
    writer = LineWriter(None)
    writer.write(b"1\n")
    assert running() == []
    writer.close()


def start(program: str, stdout: int) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-W", "error", "-c", f"import sys\nfrom sinks._writer import LineWriter\n{program}"]
    return subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE)


def test_what_is_waiting_when_the_program_ends_is_still_written() -> None:
    program = start(
        "w = LineWriter(sys.stdout)\nfor n in range(5000): w.write(b'%d\\n' % n)",
        stdout=subprocess.PIPE,
    )
    out, err = program.communicate(timeout=PATIENCE)
    assert (program.returncode, err) == (0, b"")
    assert out.decode().splitlines() == [str(n) for n in range(5000)]


def test_a_program_ends_in_order_while_its_output_stands_still() -> None:
    with a_pipe() as pipe:
        program = start(
            "w = LineWriter(sys.stdout)\nfor n in range(5000): w.write(b'x' * 99 + b'\\n')\nw.close(0.01)",
            stdout=pipe.out.fileno(),
        )
        _, err = program.communicate(timeout=PATIENCE)
    assert (program.returncode, err) == (0, b"")
