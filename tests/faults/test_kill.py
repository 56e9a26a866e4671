"""The promise of the journal: whatever befalls a relay costs nobody a record, a repetition or a second submission."""

from pathlib import Path

import pytest

from tests.faults.disk import needs_mounts, small_disk
from tests.faults.rounds import run_rounds


@pytest.mark.parametrize("seed", [20261123])
async def test_after_every_kill_each_client_is_told_the_whole_story_once(tmp_path: Path, seed: int) -> None:
    verdict = await run_rounds(tmp_path, ["kill", "kill", "kill"], seed)

    assert verdict.faults == {}
    assert verdict.deliveries == 5 * verdict.records
    assert verdict.connections >= 4 * 10
    assert verdict.replays == 1


async def test_a_relay_that_stood_still_for_longer_than_a_deadline_asks_before_it_gives_a_job_up(
    tmp_path: Path,
) -> None:
    verdict = await run_rounds(tmp_path, ["freeze"], 20261128)

    assert verdict.faults == {}
    assert verdict.deliveries == 5 * verdict.records


@needs_mounts
@pytest.mark.parametrize("seed", [1, 2])
async def test_a_disk_without_room_costs_nobody_anything(tmp_path: Path, seed: int) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    with small_disk(folder, 4 * 1024 * 1024) as disk:
        verdict = await run_rounds(tmp_path, ["full", "full"], seed, disk=disk)

    assert verdict.faults == {}
    assert verdict.deliveries == 5 * verdict.records
    assert verdict.requests_put_off >= 2
