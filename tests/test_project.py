"""The files around the code: citation, workflows, hooks and metadata agree with what there is."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import yaml

import littlefoot

ROOT = Path(__file__).parents[1]


def read(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def test_the_citation_has_this_version_and_the_four_papers() -> None:
    citation = read("CITATION.cff")
    assert citation["version"] == littlefoot.__version__
    assert citation["license"] == "Apache-2.0"
    assert [(paper["authors"][0]["family-names"], paper["year"]) for paper in citation["references"]] == [
        ("Peng", 2021),
        ("Kim", 2022),
        ("Fu", 2023),
        ("Yeh", 2022),
    ]
    papers = (ROOT / "docs" / "papers.md").read_text(encoding="utf-8")
    for paper in citation["references"]:
        assert paper["title"].lower() in papers.lower()


def test_workflows_run_the_tests_on_three_systems_and_build_the_documentation() -> None:
    workflow = read(".github/workflows/test.yml")
    test, docs = workflow["jobs"]["test"], workflow["jobs"]["docs"]
    assert {name.partition("-")[0] for name in test["strategy"]["matrix"]["os"]} == {
        *("ubuntu", "macos", "windows")
    }
    assert any("make test" in step.get("run", "") for step in test["steps"])
    assert any("make docs" in step.get("run", "") for step in docs["steps"])


def test_hooks_run_what_make_lint_runs() -> None:
    lint = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\nlint:")[2].partition("\n\n")[0]
    hooks = [hook for repository in read(".pre-commit-config.yaml")["repos"] for hook in repository["hooks"]]
    for tool in ("ruff check", "ruff format", "mypy", "python scripts/lint_words.py"):
        assert tool in lint
        assert any(hook["entry"].startswith(f".venv/bin/{tool}") for hook in hooks), tool


def test_issue_forms_have_what_github_needs() -> None:
    forms = [path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config"]
    assert len(forms) == 2
    for path in forms:
        form = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert {"name", "description", "body"} <= set(form)
        assert all({"id", "type", "attributes"} <= set(field) for field in form["body"])


def test_every_pin_is_a_dependency_or_one_of_these() -> None:
    """A pin that nothing needs would stay for ever."""
    indirect = {"starlette", "mkdocs", "mkdocstrings"}  # whose versions matter, through other packages
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [name for extra in project["optional-dependencies"].values() for name in extra]
    named = {canonical(line) for line in [*project["dependencies"], *extras]}
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = {canonical(line) for line in lines if line and not line.startswith("#")}
    assert pins - named == indirect


def canonical(requirement: str) -> str:
    """The name of a package, as the index writes it."""
    name = requirement.partition("=")[0].partition(">")[0].partition("<")[0].partition("[")[0]
    return name.strip().lower().replace("_", "-")
