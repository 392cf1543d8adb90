"""From a target to a model that meets it (``littlefoot.plan``)."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run, heed_interrupts
from tones import QUIET

from littlefoot import artifact as artifacts
from littlefoot.artifact import Artifact, weights_file_bytes
from littlefoot.audio import manifest
from littlefoot.cli import recipes
from littlefoot.compress import run as run_recipe
from littlefoot.compress.recipe import Recipe, make_step
from littlefoot.compress.recipe import load as read_recipe
from littlefoot.errors import ConfigError, TrainingError
from littlefoot.plan import build, trainings
from littlefoot.plan import planner as planning
from littlefoot.plan.build import Builder, speeds
from littlefoot.plan.candidates import TRAINED, Candidate, candidates, frames_of, written
from littlefoot.plan.judge import Errors, Judge, count_errors, some
from littlefoot.plan.outcome import Made, Plan, excess_of, verified
from littlefoot.plan.planner import Planner, SearchSettings, ranked
from littlefoot.plan.search import RUNGS, extrapolate, halve, wer_of
from littlefoot.plan.sizes import SLACK, rough_bytes
from littlefoot.plan.survey import Option, survey
from littlefoot.plan.target import Figures, Target, parse
from littlefoot.plan.trainings import RECIPE, Training, carry_out, run_all


class TestTarget:
    @pytest.mark.parametrize(
        ("text", "name", "value"),
        [
            ("25MB", "bytes", 25e6),
            ("<= 1.5 mb", "bytes", 1.5e6),
            ("300 kB", "bytes", 300e3),
            ("2MiB", "bytes", 2 * 2**20),
            ("wer+1.0", "wer_loss", 0.01),
            ("wer + 0.3", "wer_loss", 0.003),
            ("wer+10%", "wer_relative", 0.1),
            ("wer12.5", "wer", 0.125),
            ("WER<=8%", "wer", 0.08),
            ("50x", "speed", 50.0),
            (">=300x", "speed", 300.0),
            ("480ms", "latency_ms", 480.0),
            ("0.5s", "latency_ms", 500.0),
        ],
    )
    def test_each_form(self, text: str, name: str, value: float) -> None:
        assert getattr(parse(text), name) == pytest.approx(value)

    def test_all_together(self) -> None:
        target = parse("25MB, wer+1.0, 50x, 480ms")
        assert target == Target(25e6, None, 0.01, None, 50.0, 480.0, "25MB, wer+1.0, 50x, 480ms")

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("", "empty"),
            ("25", "not understood"),
            ("25 parsecs", "not understood"),
            ("wer-1", "not understood"),
            ("25MB, 30MB", "the same figure"),
            ("0x", "no model can meet this"),
            ("0MB", "no model can meet this"),
        ],
    )
    def test_what_is_no_target_is_refused_with_an_example(self, text: str, says: str) -> None:
        with pytest.raises(ConfigError, match=says):
            parse(text)

    def test_the_strictest_limit_of_errors_counts(self) -> None:
        target = parse("wer20, wer+5%, wer+2")
        assert target.wer_limit(0.10) == pytest.approx(0.105)
        assert target.wer_limit(0.19) == pytest.approx(0.1995)
        assert target.wer_limit(0.50) == pytest.approx(0.20)
        assert parse("5MB").wer_limit(0.1) is None

    def test_misses_name_what_is_missed(self) -> None:
        target = parse("25MB, wer+1.0, 50x, 480ms")
        assert target.misses(Figures(25_000_000, 50.0, 480.0, 0.11), 0.10) == []
        missed = target.misses(Figures(26_000_000, 49.0, None, 0.12), 0.10)
        assert len(missed) == 4
        assert "26.00 MB, not 25.00" in missed
        assert "does not stream, not 480 ms" in missed
        assert "12.00 % of words wrong, not 11.00" in missed


class TestCandidates:
    def test_every_recipe_is_valid_and_has_the_steps_that_were_asked_for(
        self, deep_teacher: Artifact
    ) -> None:
        found = candidates(deep_teacher.config)
        assert len({candidate.name for candidate in found}) == len(found)
        for candidate in found:
            recipe = written(candidate, deep_teacher.config, 1000, {"batch_seconds": 7}, final=True)
            steps = [make_step(*pair) for step in recipe["steps"] for pair in step.items()]
            trained = [step.config.train for step in steps if step.method in TRAINED]
            assert candidate.trained == bool(trained)
            if trained:
                assert sum(train.steps for train in trained) == pytest.approx(1000, abs=2)
                assert {train.batch_seconds for train in trained} == {7}

    def test_without_training_only_what_comes_after_it(self, teacher: Artifact) -> None:
        always = {
            "all of it, int8",
            "all of it, 4 bits",
            "all of it, 3 bits without training",
            "all of it, 2 bits without training",
        }
        means = {f"all of it, mixed bits, {bits} on average" for bits in ("6", "3.5", "2.5")}
        found = candidates(teacher.config, training=False)
        assert {candidate.name for candidate in found} == always | means
        assert not any(candidate.trained for candidate in found)

    def test_mixed_bits_fill_the_size_that_is_asked_for(self, deep_teacher: Artifact) -> None:
        config = deep_teacher.config
        size = 1.25 * rough_bytes(config, [("quantize", {"bits": 3})])
        (mixed,) = (c for c in candidates(config, training=False, size=size) if c.precision == "mixed bits")
        made = Builder(deep_teacher, None).build(mixed)
        assert 0.9 * size < weights_file_bytes(made) <= size
        assert made.config.littlefoot.quantization.bits not in (2, 3, 4, 8)  # a mean of several
        for impossible in (1.0, 1e12):
            found = candidates(config, training=False, size=impossible)
            assert not any(c.precision == "mixed bits" for c in found)

    def test_more_than_half_of_the_layers_are_spread(self, deep_teacher: Artifact) -> None:
        students = {
            c.shape: c.steps[0][1]["student"]
            for c in candidates(deep_teacher.config.replace(num_hidden_layers=12))
            if c.shape.endswith("layers")
        }
        assert students["9 of 12 layers"] == {"layers": 9, "initialisation": "spread"}
        assert students["6 of 12 layers"] == {"layers": 6, "initialisation": "every_k"}

    def test_a_latency_makes_all_of_them_stream(self, teacher: Artifact) -> None:
        for candidate in candidates(teacher.config, 500.0):
            assert "stream" in [method for method, _ in candidate.steps]
        with pytest.raises(ConfigError, match="--data"):
            candidates(teacher.config, 500.0, training=False)

    def test_chunks_are_as_long_as_the_latency_allows(self, teacher: Artifact) -> None:
        for latency in (60.0, 240.0, 480.0, 1000.0):
            chunk, ahead = frames_of(teacher.config, latency)
            assert ahead <= chunk

            def milliseconds(chunk: int, ahead: int = ahead) -> float:
                frames = {"chunk_frames": chunk, "left_context_frames": 1, "right_context_frames": ahead}
                return teacher.config.replace(**frames).algorithmic_latency / 16

            assert milliseconds(chunk) <= latency < milliseconds(chunk + 1)
        assert ahead
        with pytest.raises(ConfigError, match="shortest latency"):
            frames_of(teacher.config, 20.0)

    def test_chunks_of_a_model_with_strides_are_multiples_of_them(self, teacher: Artifact) -> None:
        config = teacher.config.replace(add_adapter=True, num_adapter_layers=2)
        for latency in range(82, 400, 7):
            chunk, ahead = frames_of(config, latency)
            frames = {"chunk_frames": chunk, "left_context_frames": 4, "right_context_frames": ahead}
            assert config.replace(**frames).algorithmic_latency / 16 <= latency


class TestBuild:
    def test_sizes_are_those_of_what_training_makes(
        self, deep_teacher: Artifact, tones: Path, tmp_path: Path
    ) -> None:
        """A few steps of real training, for each method that has a say in the size."""
        corpus = manifest.index(tones)
        builder = Builder(deep_teacher, corpus)
        wanted = {
            "2 of 4 layers, int8",
            "layers shared by 4, 2 bits",
            "all of it, 1 bit",
            "2 of 4 layers, float32",
        }
        chosen = [c for c in candidates(deep_teacher.config) if c.name in wanted]
        assert len(chosen) == len(wanted)
        for number, candidate in enumerate(chosen):
            content = written(candidate, deep_teacher.config, 6, QUIET | {"steps": 3}, final=False)
            recipe = Recipe(tuple(make_step(*pair) for step in content["steps"] for pair in step.items()))
            made = run_recipe(deep_teacher, recipe, corpus, tmp_path / str(number), "teacher")
            built = builder.build(candidate)
            if candidate.precision == "int8":  # which layers are smoothed depends on what they hear
                assert weights_file_bytes(built) == pytest.approx(weights_file_bytes(made), rel=0.01)
            else:
                assert {name: w.nbytes for name, w in built.weights.items()} == {
                    name: w.nbytes for name, w in made.weights.items()
                }

    def test_rough_sizes_are_close(self, deep_teacher: Artifact, tones: Path) -> None:
        builder = Builder(deep_teacher, manifest.index(tones))
        for candidate in candidates(deep_teacher.config)[:40:4]:
            exact = weights_file_bytes(builder.build(candidate))
            rough = rough_bytes(builder.shape(candidate).config, candidate.steps)
            assert rough == pytest.approx(exact, rel=2 * SLACK)

    def test_speeds_of_models_and_of_streams(self, teacher: Artifact, tones: Path) -> None:
        builder = Builder(teacher, manifest.index(tones))
        live = next(c for c in candidates(teacher.config, 500.0) if not c.precision)
        assert all(speed > 1 for speed in speeds([teacher, builder.build(live)], 1, False))
        assert speeds([builder.build(live)], 1, True)[0] > 1

    def test_what_else_the_machine_does_is_taken_out_of_speeds(
        self, teacher: Artifact, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        measured = iter([[100.0, 300.0], [50.0, 200.0], [104.0, 104.0]])
        monkeypatch.setattr(build, "speeds_in_turn", lambda runs: next(measured))
        stopwatch = build.Stopwatch(teacher, 1, False)
        assert stopwatch.speed(teacher) == 300
        assert stopwatch.speed(teacher) == 4 * 75  # half of the processor was busy with something else
        assert stopwatch.speed(teacher) == 100


class TestSearch:
    def test_the_better_ones_are_tried_for_longer(self) -> None:
        count = RUNGS[0][1] + 3
        asked: list[tuple[list[int], int]] = []

        def divergence(items: Any, steps: int) -> list[float]:
            asked.append((list(items), steps))
            return [1 / (1 + item) for item in items]  # higher numbers are better

        results = halve(list(range(count)), ["one kind"] * count, 4000, divergence)
        assert [(len(items), steps) for items, steps in asked] == [
            (number, round(4000 * share)) for share, number in RUNGS
        ]
        assert asked[0][0] == list(range(RUNGS[0][1]))
        best = RUNGS[0][1] - 1
        assert set(asked[-1][0]) == {best, best - 1}
        assert set(results[best]) == {round(4000 * share) for share, _ in RUNGS}
        assert set(results[0]) == {round(4000 * RUNGS[0][0])}

    def test_the_best_of_each_kind_stays_as_long_as_there_is_room(self) -> None:
        kinds = ["slow", "slow", "fast", "fast", "fast", "fast", "fast"]
        asked: list[list[int]] = []

        def divergence(items: Any, steps: int) -> list[float]:
            asked.append(list(items))
            return [1 + item / 10 if kinds[item] == "slow" else 0.1 + item / 100 for item in items]

        halve(list(range(7)), kinds, 4000, divergence)
        assert asked[0] == [0, 2, 1, 3, 4, 5]
        assert [kinds[item] for item in asked[1]].count("slow") >= 1
        assert {0, 2} == set(asked[2])

    def test_what_cannot_be_trained_is_not_tried_again(self) -> None:
        asked: list[list[int]] = []

        def divergence(items: Any, steps: int) -> list[float]:
            asked.append(list(items))
            return [float("inf") if item == 0 else 1.0 for item in items]

        results = halve([0, 1], ["a", "b"], 1000, divergence)
        assert asked[1:] == [[1], [1]]
        assert len(results[0]) == 1

    def test_a_power_law_is_found_again(self) -> None:
        divergences = {steps: 3 * steps**-0.5 for steps in (100, 200, 400)}
        assert extrapolate(divergences, 4000) == pytest.approx(3 * 4000**-0.5)

    def test_extrapolation_does_not_run_away(self) -> None:
        assert extrapolate({100: 0.9, 200: 0.1}, 4000) >= 0.1 * 200 / 4000
        assert extrapolate({100: 0.5, 200: 0.6}, 4000) < 0.6
        assert extrapolate({100: 0.0}, 4000) == 0.0
        assert 0 < extrapolate({100: 0.5}, 4000) < 0.5

    def test_errors_by_harm_are_fitted_to_those_that_are_known(self) -> None:
        known = [(divergence, 0.2 + 0.5 * divergence**1.1) for divergence in (0.05, 0.1, 0.3, 0.6)]
        assert wer_of(0.2, known, 0.2) == pytest.approx(0.2 + 0.5 * 0.2**1.1, rel=1e-3)
        deaf = [(2.0, 1.0), (1.5, 0.99)]
        assert wer_of(0.2, [*known, *deaf], 0.2) == pytest.approx(wer_of(0.2, known, 0.2))
        assert 0.2 < wer_of(0.1, deaf, 0.2) < wer_of(0.3, deaf, 0.2) < 1
        assert wer_of(50.0, known, 0.2) == 1.0


class TestJudge:
    def test_the_first_model_harms_nothing(self, teacher: Artifact, tones: Path) -> None:
        utterances = some(manifest.index(tones), "dev", 100)
        assert len(utterances) == 4
        judge = Judge(teacher, utterances, 1)
        assert len(judge) == 4
        assert judge.first.wer < 0.3
        assert judge.first.divergence == 0.0
        weights = {
            n: w + 0.05 * np.random.default_rng(0).standard_normal(w.shape).astype(w.dtype)
            for n, w in teacher.weights.items()
        }
        hurt = judge.score(replace(teacher, weights=weights))
        assert hurt.divergence > 0.0

    def test_errors_and_their_difference(self, teacher: Artifact, tones: Path) -> None:
        heard = count_errors(teacher, some(manifest.index(tones), "dev", 100))
        assert heard.wer < 0.3
        deaf = replace(heard, errors=heard.words.copy())
        difference, low, high = deaf.more_than(heard)
        assert difference == pytest.approx(1 - heard.wer)
        assert low <= difference <= high

    def test_unreadable_recordings_are_left_out_for_both(self) -> None:
        words = np.array([4, 4, 4])
        speakers = np.arange(3)
        first = Errors(np.array([1, -1, 0]), words, speakers)
        second = Errors(np.array([2, 4, -1]), words, speakers)
        assert first.wer == pytest.approx(1 / 8)
        assert second.more_than(first)[0] == pytest.approx(1 / 4)

    def test_texts_are_needed(self, teacher: Artifact) -> None:
        with pytest.raises(ConfigError, match="transcripts"):
            Judge(teacher, [], 1)


class TestChoice:
    """Plans are chosen on the dev split; the test split is measured once and chooses nothing."""

    @staticmethod
    def plan(name: str, target: Target, bytes_: int, wer: float | None, floor: float = 0.1) -> Plan:
        predicted = Figures(bytes_, 100.0, None, wer)
        option = Option(Candidate("", name, ()), predicted)
        misses = tuple(target.misses(predicted, floor))
        return Plan(option, predicted, misses, target.shortfall(predicted, floor), 1.0)

    def planner(self, teacher: Artifact, target: Target, tmp_path: Path) -> Planner:
        return Planner(
            teacher, "x", replace(target, wer=None), None, [], tmp_path / "plan", SearchSettings(), print
        )

    def test_the_nearest_is_that_which_misses_least(self) -> None:
        target = parse("1.5MB")
        large = self.plan("large", target, 9_000_000, 0.11)
        near = self.plan("near", target, 1_600_000, 0.3)
        fits = self.plan("fits", target, 1_400_000, 0.5)
        assert [p.option.candidate.precision for p in ranked([large, near, fits], target)] == [
            "fits",
            "near",
            "large",
        ]
        assert target.shortfall(fits.predicted) == 0.0
        slow = parse("100x")
        assert slow.shortfall(Figures(1, 50.0)) == pytest.approx(parse("1MB").shortfall(Figures(2_000_000)))
        assert parse("480ms").shortfall(Figures(1)) == float("inf")

    def test_plans_are_tried_until_one_meets_the_target_on_dev(
        self, teacher: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        target = parse("wer+1")
        planner = self.planner(teacher, parse("10MB"), tmp_path)
        plans = [self.plan(name, target, 1000, None) for name in ("first", "second", "third")]
        dev = {"first": 0.2, "second": 0.105, "third": 0.1}
        carried: list[str] = []
        measured: list[str] = []

        def carry_out(plan: Plan) -> Made:
            name = plan.option.candidate.precision
            carried.append(name)
            figures = Figures(1000, 100.0, None, dev[name])
            misses = tuple(target.misses(figures, 0.1))
            shortfall = target.shortfall(figures, 0.1)
            return Made(plan, teacher, figures, Figures(2000, 50.0, None, 0.1), misses, shortfall)

        monkeypatch.setattr(planner, "carry_out", carry_out)
        monkeypatch.setattr(
            planning, "verified", lambda made, *rest: measured.append(made.plan.option.candidate.precision)
        )
        planner.best(plans)
        assert carried == ["first", "second"]  # whatever the test split says of the second
        assert measured == ["second"]
        dev.update(second=0.15, third=0.13)
        planner.best(plans)
        assert measured == ["second", "third"]  # all miss: the nearest

    def test_the_test_split_is_measured_once(
        self, teacher: Artifact, tones: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        corpus = manifest.index(tones)
        target = parse("wer+50")
        figures = Figures(1000, 100.0, None, 0.5)
        made = Made(self.plan("x", target, 1000, 0.5), teacher, figures, figures, (), 0.0)
        outcome = verified(made, teacher, corpus, target, 1, lambda message: None)
        assert outcome.split == ("test" if some(corpus, "test", 9) else "dev")
        assert outcome.dev_wer == 0.5
        assert outcome.measured.wer == outcome.first.wer
        assert outcome.excess == pytest.approx((-0.5, -0.5, -0.5))
        assert "is met: on" in str(outcome.verdict)

    @pytest.mark.parametrize(
        ("margin", "says"),
        [
            (0.3, "is met by the estimate only"),
            (-0.3, "is missed by the estimate only"),
            (20.0, "is met: on 40 test utterances the errors are -20.00 points from it"),
            (-12.0, "is missed: on 40 test utterances the errors are +12.00 points from it"),
        ],
    )
    def test_the_interval_says_what_the_estimate_is_worth(
        self, teacher: Artifact, margin: float, says: str
    ) -> None:
        generator = np.random.default_rng(0)
        words = np.full(40, 10)
        theirs = generator.binomial(words, 0.3)
        mine = np.minimum(theirs + generator.integers(0, 4, 40), words)
        more = 100 * float((mine - theirs).sum() / words.sum())
        errors = [Errors(counts, words, np.arange(40)) for counts in (mine, theirs)]
        text = f"wer+{more + margin:.4f}"
        target = parse(text)
        figures = Figures(1000, 100.0, None, errors[0].wer)
        outcome = planning.Outcome(
            self.plan("x", target, 1000, 0.5),
            teacher,
            figures,
            None,
            Figures(1000, 100.0, None, errors[1].wer),
            errors[0].more_than(errors[1]),
            excess_of(*errors, target),
            "test",
            40,
            (),
        )
        assert says in str(outcome.verdict)
        assert replace(outcome, excess=None).verdict is None

    def test_recognisers_texts_are_no_truth_to_choose_by(self, tones: Path) -> None:
        corpus = manifest.index(tones)
        rows = [corpus.of_split("dev")[place] for place in range(4)]
        guessed = [replace(row, confidence=0.9) for row in rows[:3]]

        def chosen(utterances: list[Any]) -> list[Any]:
            class Rows:
                def of_split(self, split: str) -> list[Any]:
                    return utterances

            return some(Rows(), "dev", 10)  # type: ignore[arg-type]

        assert chosen([*guessed, rows[3]]) == [rows[3]]
        assert len(chosen(guessed)) == 3


class TestSurvey:
    def test_all_that_is_left_meets_the_target(self, deep_teacher: Artifact, tones: Path) -> None:
        target = parse("80kB, 5x")
        told: list[str] = []
        builder = Builder(deep_teacher, manifest.index(tones))
        wanted = {"all of it, 2 bits", "2 of 4 layers, 1 bit"}
        wanted |= {f"{layers} of 4 layers, int8" for layers in (1, 2, 3)}  # one family
        few = [c for c in candidates(deep_teacher.config) if c.name in wanted]
        options = survey(builder, few, target, 1, told.append)
        sizes = [option.figures.bytes for option in options]
        assert sizes == sorted(sizes, reverse=True)
        assert max(sizes) <= 80e3
        assert all(option.figures.speed is not None and option.figures.speed >= 5 for option in options)
        families = [option.candidate.family for option in options]
        assert len(set(families)) == len(families)  # of each the mildest

    def test_where_the_mildest_of_a_family_is_too_slow_the_next_is_taken(
        self, deep_teacher: Artifact, tones: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def measured(stopwatch: build.Stopwatch, artifact: Artifact) -> float:
            return 95.0 if artifact.config.num_hidden_layers == 3 else 105.0

        monkeypatch.setattr(build.Stopwatch, "speed", measured)
        wanted = {"3 of 4 layers, int8", "2 of 4 layers, int8", "1 of 4 layers, int8"}
        few = [c for c in candidates(deep_teacher.config) if c.name in wanted]
        builder = Builder(deep_teacher, manifest.index(tones))
        options = survey(builder, few, parse("100x"), 1, lambda message: None)
        assert [option.candidate.name for option in options] == ["2 of 4 layers, int8"]

    @pytest.mark.parametrize(("text", "says"), [("1kB", "smallest candidate"), ("1000000x", "fastest")])
    def test_what_cannot_be_reached_says_how_far_it_goes(
        self, teacher: Artifact, tones: Path, text: str, says: str
    ) -> None:
        builder = Builder(teacher, manifest.index(tones))
        few = [c for c in candidates(teacher.config) if c.shape in ("", "1 of 2 layers")]
        with pytest.raises(ConfigError, match=says):
            survey(builder, few, parse(text), 1, lambda message: None)

    def test_what_cannot_be_reached_names_the_nearest(
        self, deep_teacher: Artifact, tones: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        builder = Builder(deep_teacher, manifest.index(tones))
        few = [
            c for c in candidates(deep_teacher.config) if c.name in ("all of it, int8", "all of it, 1 bit")
        ]
        smallest = weights_file_bytes(builder.build(next(c for c in few if c.precision == "1 bit")))
        target = parse(f"{smallest - 10}B")
        with pytest.raises(ConfigError, match="the nearest, all of it, 1 bit, has"):
            survey(builder, few, target, 1, lambda message: None)


class TestTrainings:
    def test_a_failing_one_says_why(self, tmp_path: Path) -> None:
        (tmp_path / RECIPE).write_text("steps: [distil]\n", encoding="utf-8")
        (error,) = run_all([Training(tmp_path, "nothing", (), 1, 1)], 1)
        assert "there is no method 'distil'" in str(error)

    @pytest.mark.slow
    def test_on_ray_too(self, teacher: Artifact, tmp_path: Path) -> None:
        pytest.importorskip("ray")
        artifacts.save(teacher, tmp_path / "model")
        folders = [tmp_path / name for name in ("good", "bad")]
        for folder, step in zip(folders, ("quantize", "quantise"), strict=True):
            folder.mkdir()
            (folder / RECIPE).write_text(f"steps: [{step}]\n", encoding="utf-8")
        trainings = [Training(folder, str(tmp_path / "model"), (), 1, 1) for folder in folders]
        good, bad = run_all(trainings, 1, ray="local")
        assert good is None
        assert trainings[0].done
        assert "quantise" in str(bad)

    def test_what_a_killed_search_left_running_is_ended_first(self, tmp_path: Path) -> None:
        (tmp_path / RECIPE).write_text("steps: [nothing]\n", encoding="utf-8")
        sleep = "import time; print(flush=True); time.sleep(60)"
        command = [sys.executable, "-c", sleep, str(tmp_path / "model")]
        orphan = subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE)
        assert orphan.stdout is not None
        assert orphan.stdout.read(1)  # it runs
        orphan.stdout.close()
        (tmp_path / "pid.txt").write_text(str(orphan.pid))
        with pytest.raises(TrainingError):
            carry_out(Training(tmp_path, "littlefoot-en", (), 1, 1))
        assert orphan.wait(10) == -signal.SIGKILL
        bystander = subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True
        )
        (tmp_path / "pid.txt").write_text(str(bystander.pid))  # another process has the number by now
        with pytest.raises(TrainingError):
            carry_out(Training(tmp_path, "littlefoot-en", (), 1, 1))
        assert bystander.poll() is None
        bystander.kill()
        bystander.wait()

    def test_it_can_be_stopped(self, tmp_path: Path) -> None:
        (tmp_path / RECIPE).write_text("steps: [quantize]\n", encoding="utf-8")
        training = Training(tmp_path, "littlefoot-en", (), 1, 1)
        carry_out(training, lambda: True)
        assert not training.done
        assert training.seconds >= 0

    def test_one_that_is_done_is_not_done_again(
        self, teacher: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        artifacts.save(teacher, tmp_path / "model")
        monkeypatch.setattr(trainings, "carry_out", lambda *_: pytest.fail("it was carried out"))
        run_all([Training(tmp_path, "nothing", (), 1, 1)], 1)


@pytest.fixture
def saved(deep_teacher: Artifact, tmp_path: Path) -> Path:
    return artifacts.save(deep_teacher, tmp_path / "teacher")


@pytest.fixture
def enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tones count as enough speech."""
    monkeypatch.setattr(planning, "ENOUGH_SECONDS", 1.0)


def only(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Leave these of the candidates."""

    def left(*arguments: Any) -> list[Candidate]:
        return [candidate for candidate in candidates(*arguments) if candidate.name in names]

    monkeypatch.setattr(planning, "candidates", left)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """One candidate that needs no training, and one that does."""
    only(monkeypatch, "all of it, int8", "2 of 4 layers, int8")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipes are carried out in this process, which has imported PyTorch already."""

    def run_here(training: Training, stopped: Callable[[], bool]) -> None:
        chain, model = read_recipe(training.folder / RECIPE), artifacts.load(training.model)
        out = training.folder / trainings.MODEL
        recipes.carry_out(chain, model, training.model, out, training.data, resume=False, overwrite=False)

    monkeypatch.setattr(trainings, "carry_out", run_here)


class TestCommand:
    @pytest.mark.usefixtures("few")
    def test_a_target_without_training(self, run: Run, saved: Path, tones: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        result = run("shrink", saved, "-o", out, "--target", "300kB", "--data", tones, "--yes", "--json")
        assert result.code == 0, result.err
        record = json.loads(result.out)
        assert record["met"]
        assert "too little to train on" in result.err
        made = artifacts.load(out)
        assert weights_file_bytes(made) == record["measured"]["bytes"] <= 300e3
        assert made.config.littlefoot.plan.to_dict() == record
        assert "## Made for 300kB" in made.card

    @pytest.mark.usefixtures("few", "here")
    def test_it_needs_no_speech_where_errors_are_no_matter(
        self, run: Run, saved: Path, tmp_path: Path
    ) -> None:
        result = run("shrink", saved, "-o", tmp_path / "out", "--target", "300kB", "--yes")
        assert result.code == 0, result.err
        refused = run("shrink", saved, "-o", tmp_path / "other", "--target", "wer+1", "--yes")
        assert refused.code == 2
        assert "--data" in refused.err

    @pytest.mark.usefixtures("enough", "few", "here")
    def test_nothing_is_trained_where_what_needs_no_training_is_as_good(
        self, run: Run, saved: Path, tones: Path, tmp_path: Path
    ) -> None:
        result = run("shrink", saved, "-o", tmp_path / "out", "--target", "300kB", "--data", tones, "--yes")
        assert result.code == 0, result.err
        assert "of words wrong" in result.err
        assert "trials" not in result.err

    @pytest.mark.usefixtures("enough", "few", "here")
    def test_without_pytorch_only_what_needs_no_training(
        self, run: Run, saved: Path, tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(planning, "find_spec", lambda name: None)
        result = run("shrink", saved, "-o", tmp_path / "out", "--target", "300kB", "--data", tones, "--yes")
        assert result.code == 0, result.err
        assert "littlefoot[train]" in result.err

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["--target", "300kB", "--recipe", "bigfoot"], "give either --recipe or --target"),
            ([], "give either --recipe or --target"),
            (["--target", "12 furlongs"], "not understood"),
            (["--target", "1kB"], "cannot be reached"),
            (
                ["--target", "300kB", "--set", "distill.train.lr=1"],
                "the recipe has no step 'distill', but 1 (train)",
            ),
            (["--target", "300kB"], "--yes"),
        ],
    )
    def test_bad_input(self, run: Run, saved: Path, tmp_path: Path, arguments: list[str], says: str) -> None:
        result = run("shrink", saved, "-o", tmp_path / "out", *arguments)
        assert result.code == 2
        assert says in result.err
        assert not (tmp_path / "out").exists()
        if says != "--yes":  # plans are ready to be carried out
            assert not (tmp_path / "out-plan").exists()

    @pytest.mark.slow
    @pytest.mark.usefixtures("enough")
    def test_a_search_from_beginning_to_end(self, run: Run, saved: Path, tones: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        command = ["shrink", saved, "-o", out, "--target", "60kB", "--data", tones, "--steps", "200", "--yes"]
        for name, value in QUIET.items():
            if name not in ("threads", "eval_every", "warmup_steps"):
                command += ["--set", f"train.{name}={json.dumps(value)}"]
        first = run(*command, "--json")
        assert first.code == 0, first.err
        record = json.loads(first.out)
        assert record["measured"]["bytes"] <= 60e3
        assert record["predicted"]["bytes"] == pytest.approx(record["measured"]["bytes"], rel=0.1)  # pruned?
        assert record["dev_wer"] < 0.5
        shutil.rmtree(out)
        again = run(*command, "--json", "--resume")  # everything is known by now
        assert again.code == 0, again.err
        assert "trials" in again.err
        assert json.loads(again.out)["dev_wer"] == record["dev_wer"]
        other = run(*command[:5], "50kB", *command[6:], "--resume", "--overwrite")
        assert other.code == 2
        assert "search with another target" in other.err

    @pytest.mark.slow
    @pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
    def test_an_interrupted_search_goes_on(
        self, saved: Path, tones: Path, tmp_path: Path, how: signal.Signals
    ) -> None:
        """Killed while a trial trains; nothing that was finished is done again."""
        code = (
            "from littlefoot.plan import planner as p; p.ENOUGH_SECONDS = 1.0; from littlefoot import cli; "
        )
        code += "cli.main()"
        command = [sys.executable, "-c", code, "shrink", saved, "-o", tmp_path / "out", "--target", "30kB"]
        command += ["--data", tones, "--steps", "60", "--yes"]
        for name, value in QUIET.items():
            if name not in ("threads", "eval_every", "warmup_steps"):
                command += ["--set", f"train.{name}={json.dumps(value)}"]
        process = subprocess.Popen(
            list(map(str, command)), stderr=subprocess.DEVNULL, preexec_fn=heed_interrupts
        )
        trials = tmp_path / "out-plan" / "trials"
        end = time.monotonic() + 300
        while not (models := list(trials.glob("*/*/model/config.json"))):
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.1)
        process.send_signal(how)
        assert process.wait(30) != 0
        done = {path: path.stat().st_mtime_ns for path in models}
        again = subprocess.run([*map(str, command), "--resume"], capture_output=True, text=True, check=False)
        assert again.returncode == 0, again.stderr
        assert artifacts.is_artifact(tmp_path / "out")
        assert {path: path.stat().st_mtime_ns for path in models} == done

    @pytest.mark.usefixtures("enough")
    def test_a_full_disk_is_noticed_before(
        self, teacher: Artifact, tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        only(monkeypatch, "1 of 2 layers, int8")
        usage = shutil.disk_usage(tmp_path)
        monkeypatch.setattr(planning.shutil, "disk_usage", lambda path: usage._replace(free=1000))
        planner = Planner(
            teacher,
            "x",
            parse("80kB"),
            manifest.index(tones),
            [tones],
            tmp_path / "plan",
            SearchSettings(),
            print,
        )
        with pytest.raises(ConfigError, match="make room"):
            planner.plans()
