"""A pattern that is compiled late finds what it would have found, and a start compiles none of them."""

import re
import subprocess
import sys

import pytest

from relay.text import late_pattern

FORM = r"(?P<name>[a-z]+)=(\d+)"
TEXT = "Width=20, height=10"


@pytest.mark.parametrize("flags", [0, re.IGNORECASE])
def test_it_finds_what_the_pattern_finds(flags: int) -> None:
    late, compiled = late_pattern(FORM, flags), re.compile(FORM, flags)
    for _ in range(2):
        assert late.findall(TEXT) == compiled.findall(TEXT)
        assert [match.span() for match in late.finditer(TEXT)] == [match.span() for match in compiled.finditer(TEXT)]
        assert late.sub(r"\2", TEXT) == compiled.sub(r"\2", TEXT)
        assert late.split(TEXT) == compiled.split(TEXT)
        for method in ("search", "match", "fullmatch"):
            ours, theirs = getattr(late, method)(TEXT), getattr(compiled, method)(TEXT)
            assert (ours and ours.groupdict()) == (theirs and theirs.groupdict())


def test_it_is_compiled_once_and_not_before(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []
    compile_now = re.compile

    def note(pattern: str, flags: int = 0) -> re.Pattern[str]:
        compiled.append(pattern)
        return compile_now(pattern, flags)

    monkeypatch.setattr(re, "compile", note)
    late = late_pattern(FORM)
    assert compiled == []
    assert late.search(TEXT)
    assert late.match("a=1")
    assert compiled == [FORM]


def test_it_has_no_other_attributes() -> None:
    with pytest.raises(AttributeError, match="groups"):
        _ = late_pattern(FORM).groups


def test_a_command_is_imported_without_compiling_one() -> None:
    script = """
import relay.text, sys
made, make = [], relay.text.late_pattern
relay.text.late_pattern = lambda *form: made.append(make(*form)) or made[-1]
import relay.cli.serve
print(len(made) > 10, [late for late in made if "search" in vars(late)])
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["True", "[]"]
