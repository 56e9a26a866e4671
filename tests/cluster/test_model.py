"""Lease and fence keep what they promise whatever happens: a model, and mutants of it that the same rules catch.

`MODEL_EXAMPLES=2000 make test ARGS="tests/cluster/test_model.py"` looks further, with other seeds each time.
"""

import os
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from tests.cluster.model import ViolationError, World
from tests.cluster.model_node import LEASE, ModelNode

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "0"))
MOST_NODES = 4

rates = st.sampled_from([0.95, 1.0, 1.05])
walls = st.sampled_from([-1000.0, 0.0, 1000.0])


class Cluster(RuleBasedStateMachine):
    """Two or three nodes, whose processes stop, whose clocks are set, and whose links hold and lose what they carry."""

    node_type = ModelNode
    fenced = True

    def __init__(self) -> None:
        super().__init__()
        self.world = World(node_type=self.node_type, fenced=self.fenced)

    def node(self, data: st.DataObject) -> ModelNode:
        return data.draw(st.sampled_from(self.world.nodes))

    @initialize(clocks=st.lists(st.tuples(rates, walls), min_size=2, max_size=3))
    def begin(self, clocks: list[tuple[float, float]]) -> None:
        for rate, wall in clocks:
            self.world.start(rate, wall)

    @rule(steps=st.integers(1, 30))
    def time_passes(self, steps: int) -> None:
        for _ in range(steps):
            self.world.step()

    @rule(leases=st.sampled_from([0.5, 1.0, 2.5]))
    def much_time_passes(self, leases: float) -> None:
        for _ in range(round(leases * LEASE)):
            self.world.step()

    @precondition(lambda self: self.world.nodes)
    @rule(data=st.data())
    def a_process_is_stopped_or_goes_on(self, data: st.DataObject) -> None:
        node = self.node(data)
        node.stopped = not node.stopped
        self.world.disturb()

    @precondition(lambda self: self.world.nodes)
    @rule(data=st.data(), requests=st.booleans(), replies=st.booleans())
    def a_link_holds_what_it_carries(self, data: st.DataObject, requests: bool, replies: bool) -> None:
        node = self.node(data)
        node.requests_held, node.replies_held = requests, replies
        self.world.disturb()

    @precondition(lambda self: self.world.nodes)
    @rule(data=st.data())
    def a_link_loses_what_it_carries(self, data: st.DataObject) -> None:
        self.world.lose(self.node(data))
        self.world.disturb()

    @precondition(lambda self: self.world.nodes)
    @rule(data=st.data(), wall=walls)
    def a_wall_clock_is_set(self, data: st.DataObject, wall: float) -> None:
        self.node(data).wall = wall


class Everything(Cluster):
    """Nodes come and go as well, machines are suspended, and the engine stops, and loses its data."""

    @precondition(lambda self: len(self.world.nodes) < MOST_NODES)
    @rule(rate=rates, wall=walls)
    def a_node_starts(self, rate: float, wall: float) -> None:
        self.world.start(rate, wall)

    @precondition(lambda self: self.world.nodes)
    @rule(data=st.data())
    def a_node_is_killed(self, data: st.DataObject) -> None:
        self.world.nodes.remove(self.node(data))
        self.world.disturb()

    @precondition(lambda self: self.world.nodes)
    @rule(data=st.data())
    def a_node_leaves(self, data: st.DataObject) -> None:
        self.node(data).leave()
        self.world.disturb()

    @precondition(lambda self: self.world.nodes)
    @rule(data=st.data())
    def a_machine_is_suspended_or_goes_on(self, data: st.DataObject) -> None:
        node = self.node(data)
        node.suspended = not node.suspended
        node.was_suspended = True
        self.world.disturb()

    @rule()
    def the_engine_stops_or_starts(self) -> None:
        self.world.engine.up = not self.world.engine.up
        self.world.disturb()

    @rule()
    def the_engine_is_flushed(self) -> None:
        self.world.flush()


def run(machine: type[Cluster], examples: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES or examples,
            stateful_step_count=40,
            derandomize=EXAMPLES == 0,
            database=None,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
            phases=[Phase.generate, Phase.shrink] if EXAMPLES else [Phase.generate],
        ),
    )


@pytest.mark.timeout(0 if EXAMPLES else 120)
def test_lease_and_fence_keep_what_they_promise() -> None:
    run(Everything, 100)


# Mutants: what would be wrong. A search finds each of them too, given time; a story is quicker.


class CountsFromTheReply(ModelNode):
    def renewal_began(self, asked: float) -> float:
        return self.clock()


class TrustsAWallClock(ModelNode):
    def challengers_clock(self) -> float:
        return self.clock() + self.wall


class WithoutAFence(Cluster):
    fenced = False


def steps(world: World, leases: float) -> None:
    for _ in range(round(leases * LEASE)):
        world.step()


def two_nodes(node_type: type[ModelNode]) -> tuple[World, ModelNode, ModelNode]:
    """Two nodes that have shared out the shards. The first has just sent a renewal, and the engine has answered."""
    world = World(node_type=node_type)
    first, second = world.start(0.95, 0.0), world.start(1.05, 0.0)
    steps(world, 3.0)
    assert first.leases.held
    while not first.has_renewed_unawares():
        world.step()
    return world, first, second


def a_reply_waits_for_a_process_that_is_stopped(node_type: type[ModelNode]) -> None:
    world, first, _ = two_nodes(node_type)
    first.stopped = True
    steps(world, 0.9)
    first.requests_held, first.stopped = True, False
    steps(world, 1.0)


def a_wall_clock_is_put_forward_bit_by_bit(node_type: type[ModelNode]) -> None:
    world, first, second = two_nodes(node_type)
    steps(world, 0.1)
    first.requests_held = True
    for _ in range(40):
        second.wall += 2
        world.step()


def a_wall_clock_is_put_back(node_type: type[ModelNode]) -> None:
    world, first, second = two_nodes(node_type)
    steps(world, 0.2)
    world.nodes.remove(first)
    world.disturb()
    steps(world, 0.2)
    second.wall = -1000.0
    steps(world, 2.0)


@pytest.mark.parametrize(
    ("story", "mutant", "found"),
    [
        (a_reply_waits_for_a_process_that_is_stopped, CountsFromTheReply, "polls of earlier owners"),
        (a_wall_clock_is_put_forward_bit_by_bit, TrustsAWallClock, "polls of earlier owners"),
        (a_wall_clock_is_put_back, TrustsAWallClock, "polled by nobody"),
    ],
)
def test_a_story_is_harmless_and_the_rules_catch_a_mutant_with_it(
    story: Callable[[type[ModelNode]], None], mutant: type[ModelNode], found: str
) -> None:
    story(ModelNode)
    with pytest.raises(ViolationError, match=found):
        story(mutant)


def test_the_rules_find_an_engine_without_a_fence() -> None:
    with pytest.raises(ViolationError, match=r"behind the claim of a newer one|two nodes may append"):
        run(WithoutAFence, 1000)
