"""Models to a stand-in of the Hub and back, by the real client."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import artifacts
import hubs
import pytest
import soundfile
import yaml
from conftest import Result, Run
from families import speechlike
from hubs import Hub
from huggingface_hub import constants

import littlefoot
from littlefoot.artifact import Artifact, artifact, checksums, weights_file_bytes
from littlefoot.artifact import hub as ours

TRAINING = {"dev": {"wer": {"digits": 0.0222, "coffee": 0.19}, "cer": {}}}


@pytest.fixture(scope="module")
def made() -> Artifact:
    """A tiny random model that talks."""
    return artifacts.talkative(artifacts.tiny(), speechlike(1.0))


@pytest.fixture
def model(made: Artifact, tmp_path: Path) -> Path:
    return artifact.save(made, tmp_path / "model")


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with hubs.serve() as running:
        yield running


@pytest.fixture
def client(hub: Hub, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command line in this process, where huggingface_hub knows the stand-in and the writer's token."""
    known = {
        "ENDPOINT": hub.url,
        "HF_HUB_DISABLE_XET": True,  # the stand-in takes large files as git-lfs does
        "HF_HUB_CACHE": str(tmp_path / "hub"),
        "HF_TOKEN_PATH": str(tmp_path / "token"),
    }
    for name, value in known.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setenv("HF_TOKEN", hubs.WRITER)
    return run


def in_a_process(hub: Hub, home: Path, *arguments: str | Path, token: str = hubs.WRITER) -> Result:
    """The command line as users call it."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))},
        **{"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": token},
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command = [sys.executable, "-m", "littlefoot", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    return Result(result.returncode, result.stdout, result.stderr)


def with_notes(made: Artifact, card: str | None = None, **notes: object) -> Artifact:
    """With entries in its configuration's own section."""
    config = made.config.replace(littlefoot={**made.config.littlefoot.to_dict(), **notes})
    return replace(made, config=config, card=made.card if card is None else card)


# There and back


def test_what_is_pushed_can_be_loaded_and_says_the_same(
    hub: Hub, client: Run, model: Path, tmp_path: Path
) -> None:
    (model / "secret.txt").write_text("mine")
    push = ("push", model, "anna/tiny", "--license", "apache-2.0", "--language", "en")
    result = in_a_process(hub, tmp_path, *push)
    assert result == (0, f"{hub.url}/anna/tiny\n", result.err)
    repository = hub.repositories["anna/tiny"]
    commit, message, files = repository.branches["main"][-1]
    assert message == "tiny, by littlefoot"
    assert not repository.private
    assert sorted(files) == sorted([*artifact.FILES, checksums.NAME])
    for name in set(artifact.FILES) - {artifact.CARD}:
        assert files[name] == (model / name).read_bytes()
    assert f"PUT /objects/{hubs.oid(files[artifact.WEIGHTS], True)}" in hub.requests
    listed = checksums.listing({name: hashlib.sha256(files[name]).hexdigest() for name in artifact.FILES})
    assert files[checksums.NAME] == listed.encode()
    assert (model / artifact.CARD).read_text() == "# A card\n"

    soundfile.write(tmp_path / "a.wav", 0.1 * speechlike(1.0), 16_000)
    said = in_a_process(hub, tmp_path, "transcribe", "anna/tiny", tmp_path / "a.wav", token="")
    assert said.code == 0, said.err
    assert said.out == littlefoot.load(str(model)).transcribe(tmp_path / "a.wav").text + "\n"
    assert f"GET /anna/tiny/resolve/{commit}/{artifact.WEIGHTS}" in hub.requests

    assert client(*push).code == 0
    assert len(repository.branches["main"]) == 2  # nothing changed, no commit


@pytest.fixture
def commits(hub: Hub, client: Run, made: Artifact, tmp_path: Path) -> list[str]:
    """Of two models, one after the other, in a repository."""
    for number in range(2):
        model = replace(made, weights={**made.weights, "lm_head.bias": made.weights["lm_head.bias"] + number})
        assert client("push", artifact.save(model, tmp_path / str(number)), "anna/tiny").code == 0
    return [commit[0] for commit in hub.repositories["anna/tiny"].branches["main"][-2:]]


def test_a_revision_is_chosen(hub: Hub, commits: list[str], tmp_path: Path) -> None:
    for source, commit in ((f"anna/tiny@{commits[0]}", commits[0]), ("anna/tiny@main", commits[1])):
        shown = in_a_process(hub, tmp_path, "info", source, "--json", token="")
        assert json.loads(shown.out)["origin"] == {"repository": "anna/tiny", "commit": commit}
    refused = in_a_process(hub, tmp_path, "info", "anna/tiny@nowhere", token="")
    assert refused.code == 1
    assert "anna/tiny@nowhere: no such directory, and it cannot be downloaded from the Hub" in refused.err


@pytest.mark.slow
def test_what_is_made_of_a_revision_records_its_commit(hub: Hub, commits: list[str], tmp_path: Path) -> None:
    pinned, origin = f"anna/tiny@{commits[0]}", {"repository": "anna/tiny", "commit": commits[0]}
    soundfile.write(tmp_path / "a.wav", 0.1 * speechlike(1.0), 16_000)
    (tmp_path / "manifest.tsv").write_text(
        "id\tpath\tseconds\tspeaker\tsplit\ttext\na\ta.wav\t\t\ttrain\tA\n"
    )
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("steps:\n- quantize: {mode: dynamic, max_disagreement: 1.0}\n")
    for command in (
        ("quantize", pinned, "-o", tmp_path / "eight", "--mode", "dynamic"),
        ("shrink", pinned, "-o", tmp_path / "made", "--recipe", recipe),
        ("label", pinned, tmp_path / "manifest.tsv", "-o", tmp_path / "labels", "--workers", "1"),
    ):
        done = in_a_process(hub, tmp_path, *command, token="")
        assert done.code == 0, done.err
    assert artifact.load(tmp_path / "eight").config.littlefoot.origin.to_dict() == origin
    shrunk = artifact.load(tmp_path / "made")
    assert shrunk.config.littlefoot.teacher.origin.to_dict() == origin
    assert f"commit `{commits[0]}` of anna/tiny" in shrunk.card
    for record in ("job.json", "summary.json"):
        assert json.loads((tmp_path / "labels" / record).read_text())["model_origin"] == origin


def test_a_private_repository_and_a_branch(hub: Hub, client: Run, model: Path) -> None:
    for _ in range(2):  # the second time both are there
        result = client("push", model, "anna/hidden", "--private", "--revision", "v2", "--message", "Second")
        assert result == (0, f"{hub.url}/anna/hidden/tree/v2\n", result.err)
    repository = hub.repositories["anna/hidden"]
    assert repository.private
    assert repository.branches["v2"][-1][1] == "Second"
    assert not repository.branches["main"][-1][2]
    (model / artifact.CARD).write_text("# Another card\n")
    assert client("push", model, "anna/hidden").code == 0
    assert b"# Another card" in repository.branches["main"][-1][2][artifact.CARD]


def test_the_base_model_is_named_where_it_is_on_the_hub(
    hub: Hub, client: Run, made: Artifact, tmp_path: Path
) -> None:
    hub.repositories["facebook/base"] = hubs.Repository(False, {"main": [("1" * 40, "", {})]})
    for teacher, expected in (
        ("facebook/base", "facebook/base"),
        ("models/mine", None),
        ("facebook/base@1", "facebook/base"),
    ):
        student = artifact.save(with_notes(made, teacher={"name": teacher}), tmp_path / teacher)
        assert client("push", student, "anna/student").code == 0
        card = hub.repositories["anna/student"].branches["main"][-1][2][artifact.CARD].decode()
        assert front_matter(card).get("base_model") == expected


# The card


def front_matter(card: str) -> dict[str, object]:
    _, values, _ = card.split("---\n", 2)
    return yaml.safe_load(values)


def test_the_card_gets_what_the_hub_shows(made: Artifact) -> None:
    noted = with_notes(made, training=TRAINING)
    card = ours.with_metadata(noted.card, ours.metadata(noted, "tiny", "mit", ["en", "de"], "a/b"))
    assert card.endswith("---\n\n# A card\n")
    values = front_matter(card)
    (entry,) = values.pop("model-index")
    assert values == {
        **{"license": "mit", "language": ["en", "de"], "library_name": "littlefoot", "base_model": "a/b"},
        **{"pipeline_tag": "automatic-speech-recognition", "tags": ["speech", "ctc", "wav2vec2"]},
    }
    assert entry["name"] == "tiny"
    measured = {}
    for result in entry["results"]:
        (metric,) = result["metrics"]
        measured[result["dataset"]["name"]] = (result["dataset"]["split"], metric["type"], metric["value"])
    assert measured == {"digits": ("dev", "wer", 2.22), "coffee": ("dev", "wer", 19.0)}


def test_word_errors_from_before_rounding_are_not_claimed(made: Artifact) -> None:
    eight = with_notes(made, training=TRAINING, quantization={"bits": 8})
    values = ours.metadata(eight, "tiny")
    assert "model-index" not in values
    assert "8-bit" in values["tags"]
    assert not {"license", "language", "base_model"} & set(values)
    trained = with_notes(made, training=TRAINING, quantization={"bits": 2, "trained": True})
    assert len(ours.metadata(trained, "tiny")["model-index"][0]["results"]) == 2


def test_what_a_target_was_checked_with_is_told_of_that_model_only(made: Artifact) -> None:
    size = weights_file_bytes(made)
    for size_then, expected in ((size, [("7 utterances", "test", 12.35)]), (size + 1, [])):
        measured = {"bytes": size_then, "wer": 0.12345}
        values = ours.metadata(
            with_notes(made, plan={"measured": measured, "split": "test", "utterances": 7}), "tiny"
        )
        results = values["model-index"][0]["results"] if expected else []
        told = [
            (each["dataset"]["name"], each["dataset"]["split"], each["metrics"][0]["value"])
            for each in results
        ]
        assert told == expected
        assert ("model-index" in values) == bool(expected)


@pytest.mark.parametrize("head", ["---\nlicense: mit\n---\n", "---\r\nlicense: mit\r\n---\r\n", "---\n---\n"])
def test_metadata_of_ones_own_stays(made: Artifact, head: str) -> None:
    card = f"{head}# Mine\n"
    assert ours.with_metadata(card, ours.metadata(made, "tiny", "apache-2.0")) == card
    assert ours.with_metadata("# A\n---\nb\n---\n", {"a": 1}) == "---\na: 1\n---\n\n# A\n---\nb\n---\n"


# What is refused


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("littlefoot-en", "littlefoot-en: comes with littlefoot: push"),
        ("nowhere", "nowhere: no such directory"),
        ("empty", "empty: is not a littlefoot artifact"),
        ("checkpoint", "checkpoint: is not a littlefoot artifact"),
        ("damaged", "damaged tensors"),
    ],
)
def test_what_is_no_sound_artifact_is_not_pushed(
    run: Run, made: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("checkpoint").mkdir()
    (Path("checkpoint") / "config.json").write_text('{"model_type": "wav2vec2"}')
    weights = artifact.save(made, Path("damaged")) / artifact.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-4] + b"abcd")
    result = run("push", source, "anna/x")
    assert (result.code, result.out) == (1, "")
    assert message in result.err


@pytest.mark.parametrize("name", ["tiny", "a/b/c", "/tiny", "anna/", "anna/ti ny"])
def test_a_name_that_is_none_is_wrong_usage(run: Run, model: Path, name: str) -> None:
    result = run("push", model, name)
    assert (result.code, result.out) == (2, "")
    assert "give USER/NAME" in result.err


def test_options_do_not_overwrite_a_cards_own_metadata(run: Run, made: Artifact, tmp_path: Path) -> None:
    model = artifact.save(with_notes(made, card="---\nlicense: mit\n---\n# Mine\n"), tmp_path / "model")
    result = run("push", model, "anna/x", "--license", "apache-2.0")
    assert result.code == 2
    assert "has metadata of its own, which is not overwritten" in result.err


@pytest.mark.parametrize(
    ("repository", "token", "message"),
    [
        ("anna/x", "", "there is no token for the Hub: make one with write access at https://"),
        ("anna/x", "hf_wrong", "401: Invalid username or password.): the token is not valid"),
        ("anna/x", hubs.READER, "the token may not write there"),
        ("ben/x", hubs.WRITER, "the token may not write there"),
        ("anna/x..y", hubs.WRITER, "is not a name for a repository"),
    ],
)
def test_what_the_hub_refuses_comes_with_a_remedy(
    hub: Hub,
    client: Run,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    repository: str,
    token: str,
    message: str,
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    refused(client("push", model, repository), message)
    assert repository not in hub.repositories


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("HF_HUB_OFFLINE", True, "as HF_HUB_OFFLINE is set: unset it"),
        ("ENDPOINT", "http://127.0.0.1:9", "the Hub cannot be reached (ConnectError"),
    ],
)
def test_a_hub_that_cannot_be_reached(
    client: Run, model: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: object, message: str
) -> None:
    monkeypatch.setattr(constants, name, value)
    refused(client("push", model, "anna/x"), message)


def refused(result: Result, message: str) -> None:
    """With one line that holds a message."""
    assert (result.code, result.out) == (1, "")
    assert message in result.err
    assert len(result.err.splitlines()) == 1, result.err


def test_a_licence_that_the_hub_does_not_know(hub: Hub, client: Run, model: Path) -> None:
    result = client("push", model, "anna/unlicensed", "--license", "mine")
    assert (result.code, result.out) == (1, "")
    assert '"license" must be one of' in result.err
    assert not hub.repositories["anna/unlicensed"].branches["main"][-1][2]
