"""The objects of the start are gone through neither while it is made nor again and again while the relay serves."""

import gc
from collections.abc import Generator
from contextlib import contextmanager

from aiohttp.web import Application

from relay.cli import main
from relay.cli.gc_tuning import THRESHOLDS, thawed, uncollected
from relay.cli.serving import serving


@contextmanager
def counted() -> Generator[list[str]]:
    """The collections, as they begin."""
    begun: list[str] = []

    def note(phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            begun.append(phase)

    gc.callbacks.append(note)
    try:
        yield begun
    finally:
        gc.callbacks.remove(note)


def test_nothing_is_collected_while_a_command_is_imported_and_its_modules_are_left_out_afterwards() -> None:
    with thawed():
        with counted() as collections, uncollected():
            kept = [[number] for number in range(10 * gc.get_threshold()[0])]
        assert (collections, gc.isenabled()) == ([], True)
        assert gc.get_freeze_count() >= len(kept)

    assert gc.get_freeze_count() == 0


def test_a_program_that_has_switched_the_collector_off_keeps_it_off() -> None:
    gc.disable()
    try:
        with thawed(), uncollected():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_after_a_command_the_collector_of_the_program_that_called_it_is_as_it_was() -> None:
    before = gc.get_threshold()

    assert main(["schema"]) == 0

    assert (gc.isenabled(), gc.get_freeze_count(), gc.get_threshold()) == (True, 0, before)


async def test_while_a_command_serves_what_was_loaded_is_frozen_and_afterwards_all_is_as_it_was() -> None:
    before = gc.get_threshold()
    async with serving(Application(), "127.0.0.1", 0):
        assert gc.get_freeze_count() > 10_000
        assert gc.get_threshold()[:2] == THRESHOLDS[:2]

    assert (gc.get_freeze_count(), gc.get_threshold()) == (0, before)
