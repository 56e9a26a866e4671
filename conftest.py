"""The code blocks of the documentation are tests."""

from sybil import Sybil

from tests.docs.blocks import PARSERS, close_workbench, open_workbench

pytest_collect_file = Sybil(
    parsers=PARSERS,
    patterns=["README.md", "docs/**/*.md"],
    excludes=["docs/_build/**"],
    setup=open_workbench,
    teardown=close_workbench,
).pytest()
