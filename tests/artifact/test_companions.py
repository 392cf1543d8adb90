"""Language models beside checkpoints are found, weighed as they say, and named where they are not used."""

from __future__ import annotations

import math
from pathlib import Path

import huggingface_hub
import pytest
from checkpoints import write, write_json
from families import make

from littlefoot import artifact
from littlefoot.artifact import checkpoint
from littlefoot.artifact.companions import Companion, locate
from littlefoot.decode.arpa import write_arpa
from littlefoot.decode.beam import BeamConfig
from littlefoot.decode.from_files import weighed
from littlefoot.decode.ngram import estimate
from littlefoot.errors import ConfigError, LittlefootError
from littlefoot.runtime.recognizer import Recognizer


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A checkpoint with a language model in lower case, as Wav2Vec2ProcessorWithLM saves it."""
    made = write(make("wav2vec2-base"), tmp_path / "model")
    folder = made / "language_model"
    folder.mkdir()
    write_arpa(estimate([["tea", "neat"], ["a", "tea"]], 2), folder / "2gram.arpa")
    write_json(
        folder / "attrs.json", {"alpha": 0.5, "beta": 1.5, "unk_score_offset": -10.0, "score_boundary": True}
    )
    (folder / "unigrams.txt").write_text("tea\nneat\na\n")
    return made


def test_all_of_it_is_read(directory: Path) -> None:
    folder = directory / "language_model"
    unknown = -5 * math.log(10)
    expected = Companion(folder / "2gram.arpa", 0.5, 1.5, unknown, folder / "unigrams.txt")
    assert locate(directory) == locate(folder) == expected
    assert locate(folder / "2gram.arpa") == Companion(folder / "2gram.arpa")


def test_its_weights_are_used_but_where_others_are_given(directory: Path) -> None:
    found = locate(directory)
    own = {"alpha": 0.5, "beta": 1.5, "unknown": -5 * math.log(10), "unknown_letter": 0.0}
    assert weighed(BeamConfig(), found) == BeamConfig(**own)
    assert weighed(BeamConfig(8, 0.1, -1.0), found).beta == -1.0
    assert weighed(BeamConfig(), Companion(Path("x.arpa"))) == BeamConfig()


def test_a_recogniser_decodes_with_the_directory(directory: Path) -> None:
    loaded = checkpoint.load(directory)
    assert loaded.companion == directory
    recognizer = Recognizer(loaded, engine=None)  # type: ignore[arg-type]
    decoder = recognizer.decoder(lm=directory)
    assert decoder.config.alpha == 0.5
    assert decoder.fusion is not None
    assert "TEA" in decoder.fusion.lm


def test_a_checkpoint_without_one_names_none(directory: Path, tmp_path: Path) -> None:
    saved = artifact.save(checkpoint.load(directory), tmp_path / "artifact")
    assert checkpoint.load(saved).companion is None
    with pytest.raises(ConfigError, match="holds no language models: name an ARPA or KenLM file"):
        locate(saved)


def test_several_are_named(directory: Path) -> None:
    (directory / "language_model" / "other.arpa").write_text("")
    with pytest.raises(ConfigError, match=r"several \(2gram\.arpa, other\.arpa\)"):
        locate(directory)


def test_a_hub_id_is_downloaded(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(repository: str, allow_patterns: list[str]) -> str:
        assert (repository, allow_patterns) == ("someone/some-model", ["language_model/*"])
        return str(directory)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert locate("someone/some-model").alpha == 0.5
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *a, **k: 1 / 0)
    with pytest.raises(LittlefootError, match=r"someone/some-model: .*no language model can be downloaded"):
        locate("someone/some-model")
