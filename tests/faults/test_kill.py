"""The promise of the journal: a relay that is killed costs nobody a record, a repetition or a second submission."""

from pathlib import Path

import pytest

from tests.faults.rounds import run_rounds


@pytest.mark.parametrize("seed", [20261123])
async def test_after_every_kill_each_client_is_told_the_whole_story_once(tmp_path: Path, seed: int) -> None:
    verdict = await run_rounds(tmp_path, 3, seed)

    assert verdict.faults == {}
    assert verdict.deliveries == 5 * verdict.records
    assert verdict.connections >= 4 * 10
