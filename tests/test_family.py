"""The recipes of the bundled models, and the script that carries them out (``scripts/family.py``)."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

import pytest

from littlefoot.artifact import checkpoint
from littlefoot.compress import load_recipe
from littlefoot.compress.chain import infer_shape

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
import family  # noqa: E402


def test_every_bundled_model_is_made_by_it() -> None:
    made = {f"littlefoot-en-{name}" for name in family.FAMILY}
    assert "littlefoot-en" in checkpoint.bundled()
    assert set(checkpoint.bundled()) <= {"littlefoot-en", *made}


@pytest.mark.parametrize("name", family.FAMILY)
def test_its_recipe_works_on_the_teacher(name: str) -> None:
    recipe = load_recipe(f"littlefoot-en-{name}")
    teacher = checkpoint.load("littlefoot-en")
    assert infer_shape(teacher.config, recipe).hidden_size == teacher.config.hidden_size
    assert recipe.card.startswith(f"# littlefoot-en-{name}\n")
    assert family.seconds(recipe, rehearse=2) < family.seconds(recipe, rehearse=None)


def test_a_model_takes_the_first_steps_of_another(tmp_path: Path) -> None:
    for step in ("1-factorize", "2-distill", "3-quantize"):
        model = tmp_path / "bigfoot-steps" / step / "model"
        model.mkdir(parents=True)
        (model / "config.json").write_text(step, encoding="utf-8")
    family.begin_with_others("live", load_recipe("littlefoot-en-live"), tmp_path)
    assert sorted(path.name for path in (tmp_path / "live-steps").iterdir()) == ["1-factorize", "2-distill"]
    family.begin_with_others("light", load_recipe("littlefoot-en-light"), tmp_path)
    assert not (tmp_path / "light-steps").exists()


def test_a_rehearsal_shortens_every_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(family, "run", commands.append)
    options = Namespace(out=tmp_path, teacher="littlefoot-en", data=Path("data"), processes=2, rehearse=3)
    family.make("live", load_recipe("littlefoot-en-live"), options)
    (command,) = commands
    assert command[command.index("--nproc_per_node") + 1] == "2"
    assert [value for value in command if value.endswith("train.steps=3")] == [
        "2.train.steps=3", "3.train.steps=3",
    ]  # fmt: skip
    family.make("1bit", load_recipe("littlefoot-en-1bit"), options)
    assert {"1.train.steps=3", "1.descent_steps=3"} < set(commands.pop())
    (tmp_path / "live").mkdir()
    family.make("live", load_recipe("littlefoot-en-live"), options)
    assert len(commands) == 1
