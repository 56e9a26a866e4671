"""The browser's fold of a job, held to the recorded table that the relay's fold is held to as well."""

import pytest

from tests.browser.house import open_house
from tests.browser.visit import Visit
from tests.jobs.fold import recorded

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

_FOLD = """
async (stories) => {
  const { evolve } = await import("/static/relay.js");
  return stories.map((story) => {
    let state = {};
    return story.map(({ record, snapshot }) => {
      state = evolve(state, record);
      return Object.fromEntries(Object.keys(snapshot).map((key) => [key, state[key]]));
    });
  });
}
"""


async def test_a_job_becomes_with_each_record_what_the_table_says(visitor: Visit) -> None:
    stories = recorded()
    async with open_house() as house:
        await visitor.open(house)
        snapshots = await visitor.page.evaluate(_FOLD, stories)
    assert snapshots == [[row["snapshot"] for row in story] for story in stories]
