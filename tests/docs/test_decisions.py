"""Decisions are numbered records of one form; the index lists each, and each dependency has one."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INDEX = ROOT / "docs" / "explanation" / "decisions.md"
RECORDS = sorted(INDEX.with_suffix("").glob("*.md"))

TITLE = re.compile(r"\A# (\d+)\. (.+)\n")
FIELD = re.compile(r"^- (\w+): (.+)$", re.MULTILINE)
PARTS = ["Context", "Decision", "Consequences"]


def fields(record: Path) -> dict[str, str]:
    """The fields of the head of a record, by name."""
    head, _, _ = record.read_text(encoding="utf-8").partition("\n## ")
    return dict(FIELD.findall(head))


def title(record: Path) -> tuple[int, str]:
    found = TITLE.match(record.read_text(encoding="utf-8"))
    assert found is not None, f"{record.name} does not begin with its number and title"
    return int(found[1]), found[2]


def test_records_are_numbered_in_the_order_of_their_dates_without_a_hole() -> None:
    assert [record.name[:4] for record in RECORDS] == [f"{number:04}" for number in range(1, len(RECORDS) + 1)]
    assert [title(record)[0] for record in RECORDS] == list(range(1, len(RECORDS) + 1))
    dates = [fields(record)["Date"] for record in RECORDS]
    assert dates == sorted(dates)


@pytest.mark.parametrize("record", RECORDS, ids=lambda path: path.name[:4])
def test_a_record_has_a_date_a_status_and_its_parts_in_order(record: Path) -> None:
    found = fields(record)
    parts = re.findall(r"^## (.+)$", record.read_text(encoding="utf-8"), re.MULTILINE)

    assert set(found) <= {"Date", "Status", "Dependencies"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", found["Date"])
    assert re.fullmatch(r"accepted|superseded by \[\d+\]\(\d{4}-[\w-]+\.md\)", found["Status"])
    assert parts in (PARTS, [*PARTS, "Alternatives"])


def test_the_index_lists_every_record_once_with_its_title_and_date() -> None:
    listed = re.findall(r"^\| (\d+) \| \[(.+)\]\(decisions/(.+)\) \| (.+) \|$", INDEX.read_text("utf-8"), re.MULTILINE)

    assert sorted(listed, key=lambda row: int(row[0])) == [
        (str(number), words, record.name, fields(record)["Date"])
        for record in RECORDS
        for number, words in [title(record)]
    ]


def test_every_dependency_has_a_record() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = [wanted for extra in project.get("optional-dependencies", {}).values() for wanted in extra]
    needed = {re.split(r"[^\w.-]", wanted)[0] for wanted in [*project["dependencies"], *extras]}

    recorded = {name for record in RECORDS for name in fields(record).get("Dependencies", "").split(", ") if name}
    assert recorded == needed
