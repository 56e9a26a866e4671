"""How a request that waits for a job follows its changes."""

from collections.abc import Callable, Generator
from contextlib import contextmanager

from relay import Bus, Job, Record

__all__ = ["each_change"]


@contextmanager
def each_change(bus: Bus, job: Job, look: Callable[[], None]) -> Generator[None]:
    """Call *look* at each record of *job*, and where its state may have changed without one: in another epoch."""

    def receive(_: Record) -> None:
        look()

    leave = bus.when_begun_anew(look)
    try:
        with bus.subscribe(receive, [job]):
            yield
    finally:
        leave()
