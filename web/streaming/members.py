"""The members of a group of streams, and the write to each of them: the one loop that every delivery passes through."""

import os
from collections.abc import Iterator
from typing import Protocol

from relay import Position
from relay.notices import describe, notice

__all__ = ["Member", "Members"]


class Member(Protocol):
    """One stream that is up to date.

    *fd* is its bare descriptor, -1 for none; it is not closed before the member has left. *slow* is set if the kernel
    did not accept everything that was written; nothing more is written from then on.
    *reached* is set when the member leaves: the position of the last record that was written to it.
    """

    fd: int
    slow: bool
    reached: Position

    def write(self, data: bytes, /) -> None:
        """Write to the connection of a member without a descriptor, and never wait."""

    def keep(self, rest: memoryview) -> None:
        """Keep the *rest* of the data, which its descriptor did not accept, and become slow."""

    def wake(self) -> None:
        """Leave the group: there is work for this member alone."""
        ...

    def finish(self) -> None:
        """Leave the group: nothing more will ever be written."""
        ...


class Members:
    """The streams of a group: those on bare descriptors, which are written to directly, and the others."""

    __slots__ = ("_bare", "_others")

    def __init__(self) -> None:
        self._bare: dict[Member, int] = {}
        self._others: dict[Member, None] = {}

    def __iter__(self) -> Iterator[Member]:
        yield from self._bare
        yield from self._others

    def __len__(self) -> int:
        return len(self._bare) + len(self._others)

    def add(self, member: Member) -> None:
        """Write to *member* from now on."""
        if member.fd >= 0:
            self._bare[member] = member.fd
        else:
            self._others[member] = None

    def remove(self, member: Member) -> bool:
        """Write nothing more to *member*. Returns whether it was one."""
        if member in self._bare:
            del self._bare[member]
        elif member in self._others:
            del self._others[member]
        else:
            return False
        return True

    def write(self, data: bytes) -> list[Member]:
        """Write *data* to every member. Returns those that did not accept all of it; they are no members any more."""
        write, size = os.write, len(data)
        rests: list[tuple[Member, int]] = []
        for member, fd in self._bare.items():
            try:
                if (accepted := write(fd, data)) != size:
                    rests.append((member, accepted))
            except OSError:  # the descriptor is full, or the client has left, which the epoll will report
                rests.append((member, 0))
        if not (rests or self._others):
            return []
        for member, accepted in rests:
            member.keep(memoryview(data)[accepted:])
        behind = [member for member, _ in rests] + self._write_others(data)
        for member in behind:
            self.remove(member)
        return behind

    def _write_others(self, data: bytes) -> list[Member]:
        behind: list[Member] = []
        for member in self._others:
            try:
                member.write(data)
            except Exception as error:
                notice(f"a stream could not be written: {describe(error)}")
                behind.append(member)
            else:
                if member.slow:
                    behind.append(member)
        return behind
