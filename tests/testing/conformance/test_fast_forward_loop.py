"""Where waiting costs nothing, work in a thread is waited for all the same."""

import asyncio
import threading
from typing import Any

from relay.testing.conformance.fast_forward_loop import HasteningLoop


class _Releasing(HasteningLoop):
    """Calls *release* once it waits for its threads."""

    def __init__(self, release: threading.Event) -> None:
        super().__init__()
        self._release = release

    async def shutdown_default_executor(self, *timeout: Any) -> None:
        self.call_soon(self.call_soon, self._release.set)
        await super().shutdown_default_executor(*timeout)


def test_a_thread_whose_call_was_cancelled_is_waited_for_at_the_end_and_no_limit_of_it_is_skipped() -> None:
    begun, release, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        release.wait()
        ended.set()

    async def main() -> None:
        call = asyncio.create_task(asyncio.to_thread(work))
        await asyncio.to_thread(begun.wait)
        call.cancel()

    with asyncio.Runner(loop_factory=lambda: _Releasing(release)) as runner:
        runner.run(main())
        loop = runner.get_loop()

    assert ended.is_set()
    assert isinstance(loop, HasteningLoop)
    assert loop.skipped < 300
