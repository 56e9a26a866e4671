"""What start-up made is not gone through again and again while the relay serves."""

import gc

from aiohttp.web import Application

from relay.cli.gc_tuning import THRESHOLDS
from relay.cli.serving import serving


async def test_while_a_command_serves_what_was_loaded_is_frozen_and_afterwards_all_is_as_it_was() -> None:
    before = gc.get_threshold()
    async with serving(Application(), "127.0.0.1", 0):
        assert gc.get_freeze_count() > 10_000
        assert gc.get_threshold()[:2] == THRESHOLDS[:2]

    assert (gc.get_freeze_count(), gc.get_threshold()) == (0, before)
