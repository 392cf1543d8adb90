"""The documents' tables are what the files in results/ give (``scripts/results.py``)."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
import results  # noqa: E402

EVAL = {
    "wer": 0.5,
    "per_set": {
        "librispeech20": {"wer": 0.25, "wer_interval": [0.2, 0.3], "words": 9, "interval_over": "speakers"},
        "coffee": {"wer": 0.1, "wer_interval": [0.0, 0.2], "words": 9, "pseudo_labelled": True},
    },
}
SOURCE: dict[str, Any] = {
    "command": "littlefoot eval x",
    "commit": "abc1234",
    "date": "2026-11-28",
    "machine": "any",
}


def test_the_documents_are_what_the_files_give() -> None:
    for path, text in results.documents().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run make results"


def test_the_results_are_short() -> None:
    assert len((ROOT / "RESULTS.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_every_bundled_model_has_its_results_and_no_other() -> None:
    bundled = {path.parent.name for path in (ROOT / "littlefoot" / "bundled").glob("*/model.safetensors")}
    assert set(results.read_models(results.FOLDER)) == bundled


def test_a_megabyte_is_a_million_bytes_of_the_files_on_the_disk() -> None:
    folder = ROOT / "littlefoot" / "bundled" / "littlefoot-en"
    found = sum(path.stat().st_size for path in folder.iterdir())
    assert results.megabytes("littlefoot-en") == pytest.approx(found / 1e6)
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    row = next(line for line in lines if line.startswith("| `littlefoot-en` "))
    assert row.split("|")[2].strip() == f"{found / 1e6:.2f}"


def page(tables: dict[str, Any]) -> results.Page:
    model = results.Model.model_validate({**SOURCE, "made_by": "hand", "eval": EVAL})
    sets = results.Sets(unseen=["librispeech20", "commonvoice"], known=["digits"], overview=[])
    made = {name: results.Table.model_validate(table) for name, table in tables.items()}
    return results.Page({"littlefoot-en": model}, sets, made, {"any": "whatever"}, "results")


def test_cells_are_texts_numbers_intervals_or_nothing() -> None:
    columns = [{"title": "what"}, {"title": "WER %", "digits": 1}, {"title": "MB", "digits": 2}]
    rows = [["a", [50.04, 47.55, 54.2], 3], ["b", None, 2.345]]
    filled = page({"t": {**SOURCE, "seeds": [1, 2], "columns": columns, "rows": rows}}).fill(
        "{{ t }}\n\n{{ sources }}\n\n{{ machines }}"
    )
    assert filled.splitlines() == [
        "| what | WER % | MB |",
        "| --- | --- | --- |",
        "| a | 50.0 (47.5 - 54.2) | 3.00 |",
        "| b | - | 2.35 |",
        "",
        "- [t](results/t.json): `littlefoot eval x`; commit abc1234, 2026-11-28, machine *any*, seeds 1, 2.",
        "",
        "- *any*: whatever",
    ]


def test_models_are_shown_by_set_with_unseen_speakers_first_and_no_mean() -> None:
    head, _, row = page({}).fill("{{ models }}").splitlines()
    titles = ["WER %", "MB", "**librispeech20**", "**commonvoice**", "coffee \\*"]
    assert [cell.strip() for cell in head.strip("|").split("|")] == titles
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == [
        "littlefoot-en",
        f"{results.megabytes('littlefoot-en'):.2f}",
        "25.0 (20.0 - 30.0)",
        "-",
        "10.0 (0.0 - 20.0)",
    ]


@pytest.mark.parametrize(
    ("template", "says"),
    [("{{ other }}", "no results/other.json"), ("{{ t }}{{ machines }}", "machines.json")],
)
def test_what_is_missing_is_named(template: str, says: str) -> None:
    table = {**SOURCE, "machine": "mine", "columns": [], "rows": []}
    with pytest.raises(SystemExit, match=says):
        page({"t": table}).fill(template)


def test_a_files_mistakes_are_refused(tmp_path: Path) -> None:
    for wrong in ({"comit": "x"}, {"rows": [["a", [1, 2]]]}):
        with pytest.raises(ValueError, match="validation error"):
            results.Table.model_validate({**SOURCE, "columns": [], "rows": [], **wrong})
    for file in ("sets.json", "machines.json", "RESULTS.template.md", "measurements.template.md"):
        (tmp_path / file).write_text((results.FOLDER / file).read_text())
    (tmp_path / "models").mkdir()
    for name in ("RESULTS.template.md", "measurements.template.md"):
        (tmp_path / name).write_text("{{ models }}\n")
    (tmp_path / "lost.json").write_text(json.dumps({**SOURCE, "columns": [], "rows": []}))
    with pytest.raises(SystemExit, match=r"results/lost\.json is in no template"):
        results.documents(tmp_path)


def test_a_models_scores_are_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "eval.json").write_text(json.dumps({**EVAL, "failed": 0, "failures": []}))
    command = [
        "results",
        "add",
        "littlefoot-en",
        str(tmp_path / "eval.json"),
        "--made-by",
        "hand",
        "--command",
        "eval MODEL",
    ]
    monkeypatch.setattr(sys, "argv", command)
    monkeypatch.setattr(results, "documents", dict)
    monkeypatch.setattr(results, "checked_out", lambda: "abc1234")
    results.main()
    (made,) = results.read_models(tmp_path).values()
    assert made.eval.per_set["librispeech20"].wer == 0.25
    assert (made.commit, made.made_by) == ("abc1234", "hand")
