"""A cluster keeps its promises through faults of its nodes, its links and its engine: the short run of `make soak`."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.faults.cluster.chapter import Plan, run_chapter

pytestmark = [pytest.mark.server, pytest.mark.redis, pytest.mark.timeout(400)]

SMALL = Plan(seed=17, faults=20, jobs=25, readers=9, lease=0.6, shards=8, lasts=(2.0, 5.0), longest_stop=1.5)


async def test_twenty_faults_cost_no_client_a_record_a_repetition_or_a_second_submission(tmp_path: Path) -> None:
    outcome = await run_chapter(tmp_path, SMALL)

    assert outcome.violations == []
    assert (outcome.epochs, outcome.gaps) == (1, 0)
    assert outcome.faults.total() >= 20


async def test_a_server_that_loses_all_or_has_older_data_is_a_gap_for_every_client_and_no_silent_hole(
    tmp_path: Path,
) -> None:
    plan = replace(SMALL, seed=18, engine="valkey", faults=4, kinds=("kill", "reset"), losses=("flush", "restore"))
    outcome = await run_chapter(tmp_path, plan)

    assert outcome.violations == []
    # The second loss may come before any node has begun an epoch after the first one.
    assert outcome.epochs in (2, 3)
    assert outcome.gaps > 0
