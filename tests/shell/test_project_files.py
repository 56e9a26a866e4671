"""The files that a forge, an editor and a package index read hold what the project holds."""

import os
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from relay.journal._tables import FORMAT
from relay.wire.record_json import SCHEMA_VERSION

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
PYTHONS = [name.rpartition(" ")[2] for name in PROJECT["classifiers"] if re.fullmatch(r".*Python :: 3\.\d+", name)]
WORKFLOWS = sorted((GITHUB / "workflows").iterdir())
PINNED = re.compile(r"uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
MAY_WRITE = {
    ("release.yml", "attest"): {"id-token", "attestations"},
    ("release.yml", "publish"): {"id-token"},
    ("release.yml", "announce"): {"contents"},
}
"""The jobs that may write, and where."""


def read(path: Path) -> dict[Any, Any]:
    content = yaml.safe_load(path.read_text("utf-8"))
    assert isinstance(content, dict)
    return content


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_is_pinned_by_the_full_hash_of_a_commit(path: Path) -> None:
    used = [line.strip().removeprefix("- ") for line in path.read_text("utf-8").splitlines() if "uses:" in line]
    foreign = [line for line in used if not line.startswith("uses: $/.github/workflows/")]
    assert used
    assert [line for line in foreign if not PINNED.fullmatch(line)] == []


def test_an_action_is_pinned_to_one_commit_in_all_workflows() -> None:
    pins = {
        tuple(line.split("uses: ")[1].split("@"))
        for path in WORKFLOWS
        for line in path.read_text("utf-8").splitlines()
        if PINNED.search(line)
    }
    assert len(pins) == len({name for name, _ in pins})


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_job_may_write_only_where_its_work_is_to_write(path: Path) -> None:
    workflow = read(path)
    assert workflow["permissions"] == {}
    for name, job in workflow["jobs"].items():
        writes = {scope for scope, access in job["permissions"].items() if access != "read"}
        assert writes == MAY_WRITE.get((path.name, name), set()), name


def test_the_wheel_is_tested_on_every_python_that_the_project_names() -> None:
    assert read(GITHUB / "workflows" / "wheel.yml")["jobs"]["test"]["strategy"]["matrix"]["python"] == PYTHONS
    assert PROJECT["requires-python"] == f">={PYTHONS[0]}"


def test_all_tests_run_on_the_oldest_python_and_on_those_that_are_recommended() -> None:
    pythons = read(GITHUB / "workflows" / "ci.yml")["jobs"]["tests"]["strategy"]["matrix"]["python"]

    assert pythons == [PYTHONS[0], *PYTHONS[-2:]]
    installing = (ROOT / "docs" / "how-to" / "install.md").read_text("utf-8")
    assert f"Python {' or '.join(PYTHONS[-2:])} is recommended" in installing


def test_nothing_is_published_before_the_tag_is_checked_and_the_wheel_tested_and_attested() -> None:
    jobs = read(GITHUB / "workflows" / "release.yml")["jobs"]
    order = ["announce"]
    while needs := jobs[order[-1]].get("needs"):
        order.append(needs)
    assert order[::-1] == ["version", "wheel", "bill-of-materials", "attest", "publish", "announce"]
    assert sorted(order) == sorted(jobs)
    assert any('check_release.py "$GITHUB_REF_NAME"' in step.get("run", "") for step in jobs["version"]["steps"])


def test_every_script_and_target_that_a_workflow_runs_is_there() -> None:
    runs = [
        line
        for path in WORKFLOWS
        for job in read(path)["jobs"].values()
        for step in job.get("steps", [])
        for line in step.get("run", "").splitlines()
    ]
    scripts = {script for line in runs for script in re.findall(r"\bscripts/[\w.-]+", line)}
    assert {"scripts/test-wheel", "scripts/check_release.py", "scripts/bill-of-materials"} <= scripts
    assert [script for script in scripts if not os.access(ROOT / script, os.X_OK)] == []
    targets = {line.removeprefix("make ") for line in runs if line.startswith("make ")}
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert targets >= {"check", "docs", "oldest", "test"}
    assert [target for target in targets if f"\n{target}: " not in makefile] == []


def test_every_folder_with_pinned_packages_is_kept_up_to_date() -> None:
    updates = {
        (update["package-ecosystem"], update["directory"]) for update in read(GITHUB / "dependabot.yml")["updates"]
    }
    locks = {("npm", f"/{path.parent.relative_to(ROOT)}") for path in ROOT.glob("tests/*/package-lock.json")}
    assert updates == {("github-actions", "/"), ("uv", "/requirements"), *locks}


@pytest.mark.parametrize("name", ["bug.yml", "idea.yml"])
def test_an_issue_form_is_one(name: str) -> None:
    form = read(GITHUB / "ISSUE_TEMPLATE" / name)
    assert set(form) == {"name", "description", "labels", "body"}
    asked = [field for field in form["body"] if field["type"] != "markdown"]
    assert {field["type"] for field in asked} <= {"textarea", "dropdown", "checkboxes", "input"}
    assert all(field["attributes"]["label"] for field in asked)
    assert len({field["id"] for field in asked}) == len(asked)


def test_the_citation_names_the_project_and_repeats_no_version() -> None:
    citation = read(ROOT / "CITATION.cff")
    assert {key: citation[key] for key in ("cff-version", "title", "type", "license", "repository-code")} == {
        "cff-version": "1.2.0",
        "title": PROJECT["name"],
        "type": "software",
        "license": PROJECT["license"],
        "repository-code": PROJECT["urls"]["Source"],
    }
    assert citation["abstract"] == PROJECT["description"]
    assert citation["authors"]
    assert set(citation["keywords"]) <= set(PROJECT["keywords"])
    assert "version" not in citation


def test_a_hook_runs_a_tool_of_the_environment_whose_version_is_pinned() -> None:
    (repository,) = read(ROOT / ".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    pinned = (ROOT / "requirements" / "dev.txt").read_text("utf-8")
    for hook in repository["hooks"]:
        assert hook["language"] == "system"
        tool = re.match(r"\.venv/bin/(\w+)", hook["entry"])
        assert tool, hook["id"]
        assert tool[1] == "python" or f"\n{tool[1]}==" in pinned, hook["id"]


def test_the_compatibility_page_has_the_versions_of_this_release() -> None:
    page = (ROOT / "docs" / "reference" / "compatibility.md").read_text("utf-8")
    (schema,) = re.findall(r"^\| `v`, the schema version of a record \| (\d+) \|", page, re.MULTILINE)
    (journal,) = re.findall(r"raise the format \(now (\d+)\)", page)
    (pythons,) = re.findall(r"^\| Python and dependencies \| (.*?) \|", page, re.MULTILINE)
    assert (int(schema), int(journal)) == (SCHEMA_VERSION, FORMAT)
    assert pythons == f"{PYTHONS[0]} to {PYTHONS[-1]}"
