"""Make the bundled models from littlefoot-en by their recipes, and measure them (``make family``).

    python scripts/family.py                     # all of them, into runs/family
    python scripts/family.py --only live tiny
    python scripts/family.py --rehearse 10       # trainings of ten steps: does each recipe run to its end?
    python scripts/family.py --install           # what was made replaces what is bundled, with its results

The models are made one after the other; each training runs in ``--processes`` processes. An interrupted
command continues where it was. A model that begins with the steps of another takes that one's results. After
each model a line shows its bytes and its errors on speakers outside the training data, beside the teacher's.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from littlefoot.artifact import checkpoint, sizes
from littlefoot.compress import load_recipe
from littlefoot.compress.recipe import Recipe
from littlefoot.system import machine
from results import Scores

ROOT = Path(__file__).resolve().parents[1]
FAMILY = {
    "bigfoot": "half of the operations by low-rank factors, 4 bits ([docs/factorize.md](docs/factorize.md))",
    "live": "half of the operations, 8 bits, streaming",
    "light": "one block for all layers, 8 bits",
    "2bit": "2 bits",
    "1bit": "1 bit",
    "tiny": "pruned, 1 bit",
}
"""The models, in the order in which they are made, and their descriptions in README.md."""


def main() -> None:
    """Make, measure and, if it is asked for, install the models."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=FAMILY, default=list(FAMILY))
    parser.add_argument("--teacher", default="littlefoot-en", help="a model that the recipes begin with")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "family")
    parser.add_argument("--processes", type=int, default=machine.threads())
    parser.add_argument("--rehearse", type=int, metavar="STEPS", help="steps of each training")
    parser.add_argument("--install", action="store_true")
    options = parser.parse_args()
    if options.install and options.rehearse:
        sys.exit("a rehearsal makes no models worth installing: leave out --rehearse or --install")
    options.out.mkdir(parents=True, exist_ok=True)
    recipes = {name: load_recipe(f"littlefoot-en-{name}") for name in options.only}
    for name, recipe in recipes.items():
        print(
            f"{name}: {seconds(recipe, options.rehearse) / 3600:.1f} hours of speech to train on", flush=True
        )
    teacher = measure(options.teacher, "teacher", options)
    for name, recipe in recipes.items():
        make(name, recipe, options)
        scores = measure(str(options.out / name), name, options)
        print(line(name, scores, teacher, options.out), flush=True)
        if options.install:
            install(name, options.out)


def seconds(recipe: Recipe, rehearse: int | None) -> float:
    """Seconds of speech that all trainings of a recipe process."""
    trainings = [step.config.train for step in recipe.steps if hasattr(step.config, "train")]
    return float(sum((rehearse or train.steps) * train.batch_seconds for train in trainings))


def make(name: str, recipe: Recipe, options: argparse.Namespace) -> None:
    """Carry out a recipe, or what is left of it."""
    out = options.out / name
    if out.exists():
        return
    begin_with_others(name, recipe, options.out)
    command = [*launcher(options.processes), "shrink", options.teacher, "-o", str(out), "--resume"]
    command += ["--recipe", f"littlefoot-en-{name}", "--data", str(options.data)]
    for number, step in enumerate(recipe.steps, 1):
        for setting in ("train.steps", "descent_steps") if options.rehearse else ():
            if hasattr(step.config, setting.partition(".")[0]):
                command += ["--set", f"{number}.{setting}={options.rehearse}"]
    run(command)


def launcher(processes: int) -> list[str]:
    """Return the command that starts littlefoot, in processes that train together if there are several."""
    together = ["torch.distributed.run", "--nproc_per_node", str(processes), "-m"] if processes > 1 else []
    return [sys.executable, "-m", *together, "littlefoot"]


def begin_with_others(name: str, recipe: Recipe, out: Path) -> None:
    """Copy the results of the first steps from a model whose recipe begins with the same ones."""
    steps = Path(f"{out / name}-steps")
    if steps.exists():
        return
    for other in FAMILY:
        theirs = load_recipe(f"littlefoot-en-{other}").steps
        for number, (mine, their) in enumerate(zip(recipe.steps, theirs, strict=False), 1):
            folder = Path(f"{out / other}-steps") / f"{number}-{their.method}"
            if other == name or mine.written() != their.written() or not (folder / "model").is_dir():
                break
            shutil.copytree(folder / "model", steps / folder.name / "model")
        if steps.exists():
            return


def measure(model: str, name: str, options: argparse.Namespace) -> Scores:
    """Recognise the test splits, once."""
    scores: Path = options.out / f"{name}.json"
    if not scores.exists():
        command = [sys.executable, "-m", "littlefoot", "eval", model, str(options.data), "--json"]
        printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        scores.write_text(printed, encoding="utf-8")
    return Scores.model_validate_json(scores.read_text(encoding="utf-8"))


def line(name: str, scores: Scores, teacher: Scores, out: Path) -> str:
    """Describe a model's size and its errors beside its teacher's."""
    errors = [
        f"{each} {100 * score.wer:.1f} ({100 * (score.wer - teacher.per_set[each].wer):+.1f})"
        for each, score in scores.per_set.items()
    ]
    return f"{name}: {sizes.megabytes(out / name):.2f} MB; WER %: {', '.join(errors)}"


def install(name: str, out: Path) -> None:
    """Put a model in the place of the bundled one, and its scores into results/."""
    bundled = checkpoint.BUNDLED / f"littlefoot-en-{name}"
    shutil.rmtree(bundled, ignore_errors=True)
    shutil.copytree(out / name, bundled)
    command = "littlefoot eval MODEL ../shared/data --json"
    adding = [sys.executable, "scripts/results.py", "add", f"littlefoot-en-{name}", str(out / f"{name}.json")]
    run([*adding, "--made-by", FAMILY[name], "--command", command])


def run(command: list[str]) -> None:
    """Run a command in the project's folder. Raises CalledProcessError if it fails."""
    subprocess.run(command, check=True, cwd=ROOT)


if __name__ == "__main__":
    main()
