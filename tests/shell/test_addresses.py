"""Where the project lives is decided in one place, `[project.urls]`, and every other address agrees with it."""

import re
import tomllib
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
SOURCE: str = PROJECT["urls"]["Source"]
OWN = re.compile(r"https?://[\w.-]+/[\w.-]+/progress-relay\b")
LINK = re.compile(r"\]\(([^()\s]+)\)")
SPEAKS_OF_THE_PROJECT = ("*.md", "*.cff", "*.toml", ".github/**/*.*", "docs/**/*.md", "relay/**/*.py", "web/**/*.py")


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    """What an index reads of the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def test_every_address_of_the_project_is_below_its_source() -> None:
    assert {name: url for name, url in PROJECT["urls"].items() if not url.startswith(SOURCE)} == {}


def test_an_address_of_the_project_in_another_file_is_the_one_of_pyproject() -> None:
    found = {
        (str(path.relative_to(ROOT)), address)
        for pattern in SPEAKS_OF_THE_PROJECT
        for path in ROOT.glob(pattern)
        for address in OWN.findall(path.read_text("utf-8"))
    }
    assert {address for path, address in found if path == "pyproject.toml"} == {SOURCE}
    assert {(path, address) for path, address in found if address != SOURCE} == set()


def test_a_command_that_names_the_repository_names_the_one_of_pyproject() -> None:
    commands = re.findall(r"--repo (\S+)", (ROOT / "SECURITY.md").read_text("utf-8"))
    assert [f"https://github.com/{name}" for name in commands] == [SOURCE]


def test_every_link_of_the_readme_works_on_an_index_page(metadata: Message) -> None:
    text = metadata.get_payload()
    assert isinstance(text, str)
    tag = f"v{metadata['Version']}"
    kinds = {f"{SOURCE}/blob/{tag}/": "a page", f"{SOURCE}/raw/{tag}/": "an image"}

    links = LINK.findall(text)
    assert len(links) == len(LINK.findall((ROOT / "README.md").read_text("utf-8"))) > 10
    for link in links:
        place = next((place for place in kinds if link.startswith(place)), None)
        assert place or link.startswith("https://"), f"{link} leads nowhere outside a checkout"
        if place:
            path = link.removeprefix(place).partition("#")[0]
            assert (ROOT / path).exists(), link
            assert (Path(path).suffix in {".png", ".svg"}) == (kinds[place] == "an image"), link


def test_an_index_page_shows_the_readme_of_this_checkout(metadata: Message) -> None:
    text = metadata.get_payload()
    assert isinstance(text, str)
    assert LINK.sub("", text) == LINK.sub("", (ROOT / "README.md").read_text("utf-8"))
    assert metadata["Description-Content-Type"] == "text/markdown"
