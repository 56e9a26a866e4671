"""A signal ends what runs on a loop, whenever it comes and whichever thread the system gives it to."""

import asyncio
import signal
import threading

import pytest

from relay.cli.loops import LoopName
from relay.cli.running import run


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_signal_that_another_thread_receives_wakes_the_loop(loop: LoopName) -> None:
    waits = threading.Event()

    def receive() -> None:
        waits.wait()
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

    async def work(stop: asyncio.Event) -> int:
        thread = threading.Thread(target=receive)
        thread.start()
        asyncio.get_running_loop().call_soon(waits.set)
        await stop.wait()
        thread.join()
        return 7

    before = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(before)

    assert run(work, loop) == 7
    assert signal.set_wakeup_fd(before) == before
