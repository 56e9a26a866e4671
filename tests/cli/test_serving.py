"""Serving ends without noise, also on a machine that has no descriptor left."""

import asyncio
import logging

import pytest
from aiohttp.web import Application

from relay.cli.serving import serving


async def test_a_try_to_accept_that_comes_after_the_end_of_serving_is_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.ERROR)
    async with serving(Application(), "127.0.0.1", 0):
        pass
    # As asyncio reports it up to a second after there was no descriptor: its timer finds the listener closed.
    loop, late = asyncio.get_running_loop(), ValueError("Invalid file descriptor: -1")
    loop.call_exception_handler({"message": "Exception in callback Loop._start_serving()", "exception": late})
    assert caplog.records == []

    loop.call_exception_handler({"message": "anything else", "exception": late})
    assert [record.getMessage() for record in caplog.records] == ["anything else"]
