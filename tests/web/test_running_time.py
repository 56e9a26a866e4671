"""The time in which a process was running."""

from web.running_time import RunningTime


def test_time_between_looks_counts_up_to_the_most_and_no_further() -> None:
    running = RunningTime(most=2.0)
    looks = [running.at(now) for now in (100.0, 101.0, 103.0, 3_603.0, 3_603.5)]

    assert looks == [0.0, 1.0, 3.0, 5.0, 5.5]


def test_looks_count_nothing_twice() -> None:
    running = RunningTime(most=2.0)

    assert [running.at(5.0), running.at(5.0), running.at(6.0), running.at(6.0)] == [0.0, 0.0, 1.0, 1.0]
