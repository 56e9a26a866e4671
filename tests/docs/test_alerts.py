"""The alert rules that come with the relay: they parse, and read metrics and labels that `/metrics` has."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import promql_parser
import pytest
import yaml

from web.metric_table import METRICS

ROOT: Final = Path(__file__).parents[2]
FILE: Final = ROOT / "docs/examples/alerts.yml"
FIGURES: Final = ROOT / "tests/docs/alerts_test.yml"
HOW_TO: Final = (ROOT / "docs/how-to/set-alerts.md").read_text("utf-8")
RULES: Final[list[dict[str, Any]]] = [
    rule for group in yaml.safe_load(FILE.read_text("utf-8"))["groups"] for rule in group["rules"]
]
NAMES: Final = [str(rule["alert"]) for rule in RULES]

METRIC: Final = re.compile(r"\b(?:relay|process)_\w+")
SELECTED: Final = re.compile(r"\b(relay_\w+)(?:\{([^}]*)\})?")
TEMPLATE: Final = re.compile(r"\{\{(.*?)\}\}")
WORDS_OF_A_TEMPLATE: Final = re.compile(
    r"\s*\$(?:value|labels\.\w+)(?:\s*\|\s*(?:humanize|humanizeDuration|humanizePercentage))?\s*"
)

SAMPLES: Final = {
    name: spec
    for spec in METRICS.values()
    for name in (
        [spec.sample()] if spec.kind != "histogram" else [spec.name + end for end in ("_bucket", "_sum", "_count")]
    )
}
PROCESS: Final = {"process_open_fds", "process_max_fds"}


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_a_rule_is_an_expression_that_prometheus_accepts(rule: dict[str, Any]) -> None:
    assert promql_parser.parse(rule["expr"]) is not None
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert set(rule["annotations"]) == {"summary", "description"}


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_a_rule_reads_metrics_that_there_are_by_labels_that_they_have(rule: dict[str, Any]) -> None:
    assert {name for name in METRIC.findall(rule["expr"]) if name not in SAMPLES.keys() | PROCESS} == set()
    for name, matchers in SELECTED.findall(rule["expr"]):
        wanted = set(re.findall(r"(\w+)(?:=|!)", matchers))
        assert wanted <= {*SAMPLES[name].labels, "le"}, name


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_the_words_of_an_alert_use_labels_that_its_expression_leaves(rule: dict[str, Any]) -> None:
    kept = {label for name in METRIC.findall(rule["expr"]) if name in SAMPLES for label in SAMPLES[name].labels}
    for text in rule["annotations"].values():
        for template in TEMPLATE.findall(text):
            assert WORDS_OF_A_TEMPLATE.fullmatch(template), template
            assert set(re.findall(r"\$labels\.(\w+)", template)) <= kept | {"instance"}


def test_every_rule_is_explained_and_no_other() -> None:
    assert re.findall(r"^\| `(\w+)` \|", HOW_TO, re.MULTILINE) == NAMES


def test_the_graphs_of_the_how_to_read_metrics_that_there_are() -> None:
    block = HOW_TO.partition("```text\n")[2].partition("```")[0].splitlines()

    assert block
    for expression in block:
        assert promql_parser.parse(expression) is not None
        assert set(METRIC.findall(expression)) <= SAMPLES.keys()


WITHOUT_PROMTOOL: Final = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)"
)


def promtool(*arguments: str) -> str:
    checked = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    return checked.stdout


@WITHOUT_PROMTOOL
def test_promtool_accepts_the_rules_and_their_templates() -> None:
    assert f"{len(RULES)} rules found" in promtool("check", "rules", str(FILE))


@WITHOUT_PROMTOOL
def test_the_rules_fire_on_figures_of_trouble_and_on_no_others() -> None:
    assert "SUCCESS" in promtool("test", "rules", str(FIGURES))


def test_the_figures_of_trouble_are_of_metrics_that_there_are() -> None:
    tests = yaml.safe_load(FIGURES.read_text("utf-8"))["tests"]
    series = {one["series"].partition("{")[0] for test in tests for one in test["input_series"]}

    assert series <= SAMPLES.keys()
    assert {one["alertname"] for test in tests for one in test["alert_rule_test"]} <= set(NAMES)
