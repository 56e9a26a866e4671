"""No event of a closed descriptor reaches the stream that has its number next, and no descriptor is left at the end."""

import asyncio
import os
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from web.request_failures import RequestFailures
from web.streaming.patience import ClientWaits
from web.streaming.reactor import Reactor


class Stream:
    """A stream that counts its events, and may do something at each."""

    def __init__(self, reactor: Reactor, then: Callable[[], None] = lambda: None) -> None:
        self.fd, self.chunked, self.slow = -1, False, False
        self.events: list[int] = []
        self.left = self.cuts = self.ends = 0
        self._reactor, self._then = reactor, then

    async def serve(self) -> bool:
        raise NotImplementedError

    def leave_group(self) -> None:
        self.left += 1

    def forget_connection(self) -> None: ...

    def end(self) -> None:
        self.ends += 1

    def cut(self) -> None:
        self.cuts += 1
        self._reactor.release(self)

    def happened(self, events: int) -> None:
        self.events.append(events)
        self._then()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
async def reactor(stack: ExitStack) -> Reactor:
    reactor = Reactor(RequestFailures(), ClientWaits(10.0))
    stack.callback(reactor.close)
    return reactor


def pair(stack: ExitStack) -> tuple[int, socket.socket]:
    near, far = socket.socketpair()
    near.setblocking(False)
    return near.detach(), stack.enter_context(far)


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_an_event_of_the_same_turn_does_not_reach_a_stream_with_the_number_of_one_that_was_closed(
    reactor: Reactor, stack: ExitStack
) -> None:
    successors: list[Stream] = []

    def replace_the_other() -> None:
        """The first that is handled closes the other one, and a new stream gets that one's number."""
        (other,) = [stream for stream in both if not stream.events]
        number = other.fd
        other.cut()
        fd, _ = pair(stack)
        assert fd == number
        successors.append(Stream(reactor))
        assert reactor.adopt(fd, successors[0])

    both = [Stream(reactor, replace_the_other) for _ in range(2)]
    fars = []
    for stream in both:
        fd, far = pair(stack)
        assert reactor.adopt(fd, stream)
        fars.append(far)
    for far in fars:
        far.send(b"x")
    while not successors:  # noqa: ASYNC110
        await asyncio.sleep(0)

    assert sum(len(stream.events) for stream in both) == 1
    assert successors[0].events == []


async def test_a_connection_that_is_still_open_elsewhere_is_reported_to_nobody_once_its_descriptor_is_closed(
    reactor: Reactor, stack: ExitStack
) -> None:
    """As in the transport that it was taken from, or in a process that was forked."""
    fd, far = pair(stack)
    elsewhere = stack.enter_context(socket.socket(fileno=os.dup(fd)))
    first, second = Stream(reactor), Stream(reactor)
    assert reactor.adopt(fd, first)
    reactor.release(first)
    successor, _ = pair(stack)
    assert successor == fd
    assert reactor.adopt(successor, second)
    far.send(b"to the first")
    await turns()

    assert (first.events, second.events, first.left) == ([], [], 1)
    assert elsewhere.recv(100) == b"to the first"


async def test_a_stream_that_fails_is_cut_and_the_others_have_their_events(reactor: Reactor, stack: ExitStack) -> None:
    def fail() -> None:
        raise ValueError("it cannot be handled")

    broken, sound = Stream(reactor, fail), Stream(reactor)
    for stream in (broken, sound):
        fd, far = pair(stack)
        assert reactor.adopt(fd, stream)
        far.send(b"x")
    while not (sound.events and broken.events):  # noqa: ASYNC110
        await asyncio.sleep(0)

    assert (broken.cuts, broken.fd, sound.cuts) == (1, -1, 0)
    assert reactor.failures.counts["failed"] == 1


async def test_closing_it_cuts_what_is_left_and_leaves_no_descriptor(stack: ExitStack) -> None:
    before = set(os.listdir("/proc/self/fd"))
    reactor, streams = Reactor(RequestFailures(), ClientWaits(10.0)), list[Stream]()
    fars = [pair(stack) for _ in range(3)]
    for fd, _ in fars:
        streams.append(Stream(reactor))
        assert reactor.adopt(fd, streams[-1])
    assert len(reactor) == 3
    reactor.close()
    reactor.close()
    assert ([stream.cuts for stream in streams], len(reactor)) == ([1, 1, 1], 0)
    fd, _ = pair(stack)
    assert not reactor.adopt(fd, Stream(reactor)), "it is closed"
    os.close(fd)
    stack.close()
    assert set(os.listdir("/proc/self/fd")) == before


async def test_nothing_is_adopted_where_there_is_no_epoll(monkeypatch: pytest.MonkeyPatch, stack: ExitStack) -> None:
    monkeypatch.delattr(select, "epoll")
    fd, _ = pair(stack)
    assert not Reactor(RequestFailures(), ClientWaits(10.0)).adopt(
        fd, Stream(Reactor(RequestFailures(), ClientWaits(1)))
    )
    os.close(fd)


async def test_nothing_is_adopted_by_a_loop_that_watches_no_descriptors(
    monkeypatch: pytest.MonkeyPatch, reactor: Reactor, stack: ExitStack
) -> None:
    class Loop:
        def add_reader(self, *_: object) -> None:
            raise NotImplementedError

    fd, _ = pair(stack)
    descriptors = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(asyncio, "get_running_loop", Loop)
    adopted = [reactor.adopt(fd, Stream(reactor)) for _ in range(2)]
    monkeypatch.undo()
    assert (adopted, len(os.listdir("/proc/self/fd"))) == ([False, False], descriptors)
    os.close(fd)


async def test_what_is_no_connection_remains_the_callers(reactor: Reactor, stack: ExitStack) -> None:
    """An epoll watches no plain file."""
    with open(__file__, "rb") as file:  # noqa: ASYNC230
        stream = Stream(reactor)
        assert not reactor.adopt(file.fileno(), stream)
        assert (stream.fd, len(reactor)) == (-1, 0)
        assert file.read(3) == b'"""'
