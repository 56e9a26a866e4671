"""Documentation, docstrings, comments and messages are in the words of the field, and every clause has a subject."""

from pathlib import Path

import pytest

from tests.architecture.words import ROOMS, Finding, findings, findings_in


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_written_in_the_words_of_the_field(room: str) -> None:
    assert "\n".join(map(str, findings(room))) == ""


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("A poll is sent once.\n\nWho polls twice is refused.\n", 3),
        ("Whoever reads this\n", 1),
        ("A seat is kept; who is slow loses it.\n", 1),
        ("It answers 204 to who has that.\n", 1),
        ("| key | |\n| --- | --- |\n| `a` | what is over any of these goes |\n", 3),
        ("- What is read is kept.\n", 1),
        ("The operator is\ntold once.\n", 2),
        ("the how-manieth record\n", 1),
    ],
)
def test_a_text_in_other_words_is_found_where_it_stands(text: str, line: int, tmp_path: Path) -> None:
    assert [finding.line for finding in _found(tmp_path / "page.md", text)][:1] == [line]


@pytest.mark.parametrize(
    "text",
    [
        "A client that is slow loses it.\n",
        "Who may do that? An operator.\n",
        "## What is a gap?\n",
        "See `told` and `relay.Said`.\n",
        "```python\n# told\n```\n",
        "An account whose token is refused waits.\n",
    ],
)
def test_plain_sentences_questions_and_code_are_left_alone(text: str, tmp_path: Path) -> None:
    assert _found(tmp_path / "page.md", text) == []


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ('"""What is read."""\n', 1),
        ('def told():\n    """Nothing."""\n    # Whoever calls\n', 3),
        ('raise ValueError(f"the relay was told {1} thing")\n', 1),
    ],
)
def test_docstrings_comments_and_messages_are_read_and_names_are_not(source: str, line: int, tmp_path: Path) -> None:
    assert {finding.line for finding in _found(tmp_path / "module.py", source)} == {line}


def _found(path: Path, text: str) -> list[Finding]:
    path.write_text(text, encoding="utf-8")
    return list(findings_in(path))
