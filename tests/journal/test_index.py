"""Where records are in the file: what is held of it in memory."""

from relay.journal._index import CUT_AT, Offsets


def test_offsets_of_dropped_records_are_released_once_they_are_more_than_those_that_are_kept() -> None:
    offsets = Offsets()
    most = 0
    for offset in range(1, 10_000):
        offsets.add(offset, 0)
        offsets.drop(offset - 10)
        most = max(most, len(offsets._offsets))

    assert most <= 20
    assert list(offsets.behind(0, 0))[-10:] == list(range(9_990, 10_000))


def test_as_many_offsets_are_released_at_a_time_as_a_move_of_many_is_worth() -> None:
    offsets = Offsets()
    for offset in range(1, 20_001):
        offsets.add(offset, 0)
    offsets.drop(CUT_AT - 1)
    before = len(offsets._offsets)
    offsets.drop(CUT_AT)

    assert (before, len(offsets._offsets)) == (20_000, 20_000 - CUT_AT)
