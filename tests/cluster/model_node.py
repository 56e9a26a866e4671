"""A node of the model: the loop of `Membership` and the polls of its shards, one step at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from relay.cluster._rhythm import Rhythm
from relay.cluster.leases import Leases
from relay.cluster.membership import ANSWER_WITHIN
from relay.journal.shared import Fence

if TYPE_CHECKING:
    from tests.cluster.model import Message, World

__all__ = ["LEASE", "POLL_EVERY", "POLL_TAKES", "SHARDS", "ModelNode"]

LEASE: Final = 50.0
SHARDS: Final = 4
POLL_EVERY: Final = 3
POLL_TAKES: Final = 2


class _Poll:
    """The polls of one shard. A poll is decided in one step and sent in the next: a node may be stopped in between."""

    def __init__(self) -> None:
        self.decided = False
        self.ends_at: float | None = None
        self.under_way_until = 0
        self.next_at = 0.0

    @property
    def at_rest(self) -> bool:
        return not self.decided and self.ends_at is None


class ModelNode:
    """A node whose clock goes at *rate*; its wall clock is *wall* ahead of it, and jumps.

    *stopped*: the process stands still, its clock goes on. *suspended*: the machine does, and its clock as well.
    """

    def __init__(self, world: World, name: str, rate: float, wall: float) -> None:
        self.name = name
        self.leases = Leases(name, SHARDS, LEASE)
        self.inbox: list[Message] = []
        self.rate = rate
        self.wall = wall
        self.first_saw: int | None = None
        """The epoch of the first look that was answered."""
        self.stopped = self.suspended = self.was_suspended = False
        self.requests_held = self.replies_held = False
        self.leaving = False
        self._world = world
        self._stood_still = 0
        self._stood_still_at = -1
        self._rhythm = Rhythm(LEASE, self.clock())
        self._waiting: tuple[Message, float] | None = None
        self._claims: list[tuple[Any, ...]] = []
        self._to_release: dict[int, int] = {}
        self._handing: set[int] = set()
        self._polls = {shard: _Poll() for shard in range(SHARDS)}

    def __repr__(self) -> str:
        return self.name

    def clock(self) -> float:
        return (self._world.now - self._stood_still) * self.rate

    def challengers_clock(self) -> float:
        """The clock by which it says for how long a lease was the same."""
        return self.clock()

    def renewal_began(self, asked: float) -> float:
        """When a renewal began that was sent at *asked* and is answered now."""
        return asked

    @property
    def works(self) -> bool:
        return not (self.stopped or self.suspended or self.requests_held or self.replies_held or self.leaving)

    def fence(self, shard: int) -> Fence | None:
        return self.leases.fence(shard, self.clock())

    def is_polling(self, shard: int) -> bool:
        """Whether the upstream still has a request of this node, which may have been stopped meanwhile."""
        return self._polls[shard].under_way_until > self._world.now

    def has_renewed_unawares(self) -> bool:
        """Whether the engine has carried out a renewal whose reply is still under way."""
        return self._waiting is not None and self._waiting[0].what[0] == "beat" and self._waiting[0].answered

    def step(self) -> None:
        if self.suspended:
            self._stood_still += 1
            self._stood_still_at = self._world.now
            return
        if self.stopped:
            return
        self._read()
        for shard, poll in self._polls.items():
            self._poll(shard, poll)
        self._hand_over()
        if self._waiting is None:
            self._send()

    def _read(self) -> None:
        for message in self.inbox:
            if self._waiting is not None and self._waiting[0] is message:
                asked, self._waiting = self._waiting[1], None
                if message.what[0] == "view" and self.first_saw is None:
                    self.first_saw = message.epoch
                if message.what[0] in ("beat", "view") and message.sent_at > self._stood_still_at:
                    self.was_suspended = False
                self._answered(message.what, message.reply, asked)
        self.inbox.clear()
        if self._waiting is not None and self.clock() - self._waiting[1] >= ANSWER_WITHIN * LEASE:
            self._unanswered(self._waiting[0].what)
            self._waiting = None

    def _answered(self, what: tuple[Any, ...], reply: Any, asked: float) -> None:
        match what:
            case ("beat", held):
                renewed = {shard: token for shard, token in held.items() if shard not in reply}
                self.leases.renewed(renewed, self.renewal_began(asked))
                self._rhythm.renewed(asked)
                if reply:
                    self._rhythm.look_soon()
                for shard in reply:
                    if self.leases.held.get(shard) == held[shard]:
                        self.leases.let_go(shard)
            case ("view",):
                self._rhythm.looked()
                behind = self.challengers_clock() - self.clock()
                for shard in self.leases.look(reply, asked + behind, self.clock() + behind):
                    self.leases.let_go(shard)
                if self.leases.sightings.rewound:
                    self._rhythm.renew_soon()
                self._decide()
            case ("claim", shard, seen, _) if reply is not None:
                self.leases.claimed(shard, reply, seen, self.renewal_began(asked))
                if shard == self.leases.layout:
                    self._rhythm.look_soon()
            case _:
                pass

    def _unanswered(self, what: tuple[Any, ...]) -> None:
        match what:
            case ("beat", _):
                self._rhythm.renewal_failed()
            case ("release", held):
                self._to_release = held | self._to_release
            case _:
                pass

    def _decide(self) -> None:
        if self.leaving:
            return
        known = max([0, *self.leases.held.values()])
        self._claims = [("claim", shard, seen, known) for shard, seen in self.leases.to_claim()]
        self._to_release.update(self.leases.to_release())
        for shard in self.leases.to_hand_over():
            self.leases.hand_over(shard)
            self._handing.add(shard)

    def _send(self) -> None:
        now = self.clock()
        if self._rhythm.renewal_is_due(now):
            self._ask("beat", dict(self.leases.held))
        elif self._to_release:
            self._ask("release", self._to_release)
            self._to_release = {}
        elif self._claims:
            self._ask(*self._claims.pop(0))
        elif self.leaving and not self.leases.held:
            self._ask("leave")
            self._world.nodes.remove(self)
        elif self._rhythm.look_is_due(now):
            self._rhythm.looks(now)
            self._ask("view")

    def _ask(self, *what: Any) -> None:
        self._waiting = self._world.send(self, *what), self.clock()

    def leave(self) -> None:
        self.leaving = True
        self._claims = []

    def _hand_over(self) -> None:
        if self.leaving and (self._waiting is None or self._waiting[0].what[0] != "claim"):
            for shard in self.leases.owned:
                self.leases.hand_over(shard)
                self._handing.add(shard)
        for shard in list(self._handing):
            if self._polls[shard].at_rest:
                self._handing.discard(shard)
                if (token := self.leases.handed_over(shard)) is not None:
                    self._to_release[shard] = token

        if self.leaving and not self._handing and not self.leases.owned:
            layout = self.leases.held.get(self.leases.layout)
            if layout is not None and self.leases.let_go(self.leases.layout):
                self._to_release[self.leases.layout] = layout

    def _poll(self, shard: int, poll: _Poll) -> None:
        now = self.clock()
        if poll.decided:
            poll.decided = False
            poll.ends_at = now + POLL_TAKES
            poll.under_way_until = self._world.now + POLL_TAKES
            self._world.poll_begins(self, shard)
        elif poll.ends_at is not None:
            if now >= poll.ends_at:
                poll.ends_at = None
                poll.next_at = now + POLL_EVERY
                if (fence := self.fence(shard)) is not None:
                    self._world.send(self, "append", self.epoch, shard, fence.token)
        elif now >= poll.next_at and shard not in self._handing and self.fence(shard) is not None:
            poll.decided = True

    @property
    def epoch(self) -> int:
        """The epoch that its appends name: that of its last claim would do, since a lease belongs to one epoch."""
        return self._world.engine.epoch
