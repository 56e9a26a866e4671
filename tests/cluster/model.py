"""A model of lease and fence: an engine, nodes with their own clocks, and the messages between them, in small steps.

The nodes decide by the relay's own `Leases`; the model plays what is around it: the loop of `Membership`, polls,
appends, and a network that holds, loses and delivers late. It checks what has to hold at each step, and raises
`ViolationError`. One time unit is a fiftieth of a lease.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from relay.journal.shared import Claimed, ClusterView, Lease
from tests.cluster.model_node import LEASE, SHARDS, ModelNode

__all__ = ["Engine", "Message", "ViolationError", "World"]


class ViolationError(AssertionError):
    """Something that must never be."""


@dataclass(eq=False)
class Message:
    """A request on its way to the engine, then its reply on the way back."""

    sender: ModelNode
    what: tuple[Any, ...]
    sent_at: int
    answered: bool = False
    epoch: int = 0
    reply: Any = None


@dataclass
class Engine:
    """The scripts, each one step. *log* has all claims and appends of the present epoch: shard, token, kind."""

    fenced: bool = True
    up: bool = True
    epoch: int = 0
    token: int = 0
    leases: dict[int, Lease] = field(default_factory=dict[int, Lease])
    nodes: dict[str, int] = field(default_factory=dict[str, int])
    log: list[tuple[int, int, str]] = field(default_factory=list[tuple[int, int, str]])

    def flush(self) -> None:
        self.epoch += 1
        self.token = 0
        self.leases, self.nodes, self.log = {}, {}, []

    def holds(self, node: str, shard: int, token: int) -> bool:
        lease = self.leases.get(shard)
        return lease is not None and (lease.owner, lease.token) == (node, token)

    def view(self, _: str) -> ClusterView:
        return ClusterView(dict(self.leases), dict(self.nodes))

    def beat(self, node: str, held: Mapping[int, int]) -> frozenset[int]:
        self.nodes[node] = self.nodes.get(node, 0) + 1
        lost = frozenset(shard for shard, token in held.items() if not self.holds(node, shard, token))
        for shard in held.keys() - lost:
            self.leases[shard] = self.leases[shard]._replace(beat=self.leases[shard].beat + 1)
        return lost

    def claim(self, node: str, shard: int, seen: Lease | None, known: int) -> Claimed | None:
        if self.leases.get(shard) != seen:
            return None
        self.token = max(self.token, known) + 1
        self.leases[shard] = Lease(node, self.token, 1)
        self.log.append((shard, self.token, "claim"))
        return Claimed(self.token, len(self.log))

    def release(self, node: str, held: Mapping[int, int]) -> bool:
        for shard, token in held.items():
            if self.holds(node, shard, token):
                self.leases[shard] = Lease("", token, self.leases[shard].beat + 1)
        return True

    def leave(self, node: str) -> bool:
        self.nodes.pop(node, None)
        return True

    def append(self, node: str, epoch: int, shard: int, token: int) -> bool:
        if epoch != self.epoch or (self.fenced and not self.holds(node, shard, token)):
            return False
        self.log.append((shard, token, "append"))
        return True


class World:
    """Everything, and the time. *node_type* and *fenced* are for models of what would be wrong."""

    def __init__(self, *, node_type: type[ModelNode] = ModelNode, fenced: bool = True) -> None:
        self.now = 0
        self.engine = Engine(fenced=fenced)
        self.nodes: list[ModelNode] = []
        self.calm_since = 0
        self.takeovers = 0
        self._node_type = node_type
        self._names = (f"node-{number}" for number in count())
        self._messages: list[Message] = []
        self._served = dict.fromkeys(range(SHARDS), 0)
        self._newest: dict[int, int] = {}
        self._read = 0
        self._epoch = 0
        self._late: dict[int, int] = {}
        """Polls of a shard by earlier owners that were under way at the claim of the present one, or began later."""

    # What happens.

    def start(self, rate: float, wall: float) -> ModelNode:
        self.nodes.append(node := self._node_type(self, next(self._names), rate, wall))
        return node

    def disturb(self) -> None:
        """Something is wrong from now on; a takeover has its time once all is right again."""
        self.calm_since = self.now

    def flush(self) -> None:
        self.engine.flush()
        self.disturb()

    def lose(self, node: ModelNode) -> None:
        """Drop the requests and replies of *node* that are under way."""
        self._messages = [message for message in self._messages if message.sender is not node]

    def send(self, sender: ModelNode, *what: Any) -> Message:
        self._messages.append(message := Message(sender, what, self.now))
        return message

    def poll_begins(self, node: ModelNode, shard: int) -> None:
        """*node* sends a poll. A machine whose clock stood still does not know better, and is left out."""
        lease = self.engine.leases.get(shard)
        if lease is not None and lease.owner not in ("", node.name) and not node.was_suspended:
            self._count_late(shard, 1)

    def step(self) -> None:
        """Let one unit of time pass: messages arrive, nodes act, and all that must hold is checked."""
        self.now += 1
        for message in list(self._messages):
            self._carry(message)
        for node in list(self.nodes):
            node.step()
        self._check_log()
        self._check_takeovers()

    def _carry(self, message: Message) -> None:
        node = message.sender
        if not message.answered and self.engine.up and not node.requests_held:
            before = self.engine.leases.copy()
            name, *given = message.what
            message.reply = getattr(self.engine, name)(node.name, *given)
            message.answered, message.epoch = True, self.engine.epoch
            if name == "claim" and message.reply is not None and given[0] >= 0:
                self._claimed(given[0], before.get(given[0]), node)
        elif message.answered and not node.replies_held:
            self._messages.remove(message)
            node.inbox.append(message)

    # What has to hold.

    def _claimed(self, shard: int, before: Lease | None, owner: ModelNode) -> None:
        if before is not None and before.owner not in ("", owner.name):
            self.takeovers += 1
        under_way = [node for node in self.nodes if node is not owner and not node.was_suspended]
        # A node that looked first behind a FLUSHALL cannot know that a shard without a lease had an owner.
        self._late[shard] = -1000 if before is None and owner.first_saw == self.engine.epoch else 0
        self._count_late(shard, sum(node.is_polling(shard) for node in under_way))

    def _count_late(self, shard: int, polls: int) -> None:
        self._late[shard] = self._late.get(shard, 0) + polls
        if self._late[shard] > 1:
            raise ViolationError(
                f"shard {shard}: {self._late[shard]} polls of earlier owners beside those of the new one"
            )

    def _check_log(self) -> None:
        if self._epoch != self.engine.epoch:
            self._epoch, self._read, self._newest = self.engine.epoch, 0, {}
        for shard, token, kind in self.engine.log[self._read :]:
            if token < self._newest.get(shard, 0):
                raise ViolationError(f"shard {shard}: an {kind} with token {token} behind the claim of a newer one")
            self._newest[shard] = token
        self._read = len(self.engine.log)
        for shard in range(SHARDS):
            if len(list(self._may_append(shard))) > 1:
                raise ViolationError(f"shard {shard}: two nodes may append")

    def _may_append(self, shard: int) -> Iterator[str]:
        for node in self.nodes:
            token = node.leases.held.get(shard)
            if token is not None and (not self.engine.fenced or self.engine.holds(node.name, shard, token)):
                yield node.name

    def _check_takeovers(self) -> None:
        working = [node for node in self.nodes if node.works]
        if not working or not self.engine.up:
            self.disturb()
        for shard in range(SHARDS):
            if any(node.fence(shard) is not None for node in working):
                self._served[shard] = self.now
            silent = self.now - max(self._served[shard], self.calm_since)
            if silent > 2 * LEASE:
                raise ViolationError(f"shard {shard}: polled by nobody for {silent / LEASE:.1f} leases")
