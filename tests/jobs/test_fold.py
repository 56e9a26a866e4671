"""The relay's fold of a job, held to the recorded table that the browser's fold is held to as well."""

import pytest

from relay.events import EVENTS
from tests.jobs.fold import Story, folded, read, recorded


@pytest.mark.parametrize("story", recorded(), ids=lambda story: story[0]["record"]["job"])
def test_a_job_becomes_with_each_record_what_the_table_says(story: Story) -> None:
    assert folded(read(story)) == story


def test_every_event_is_in_the_table() -> None:
    types = {row["record"]["type"] for story in recorded() for row in story}
    assert types == {kind.__struct_config__.tag for kind in EVENTS}


def test_the_text_of_a_job_is_that_of_its_newest_record_above_debug() -> None:
    """A stream of level `info` then shows the same text as one that has everything."""
    for story in recorded():
        text = ""
        for row in story:
            text = row["record"]["text"] if row["record"]["level"] != "debug" else text
            assert row["snapshot"]["text"] == text
