"""Texts spelled with the phones of a pronunciation lexicon."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from conftest import Run
from tones import LETTERS, write_recipe

from littlefoot.artifact import load
from littlefoot.artifact.vocabulary import Vocabulary
from littlefoot.audio import manifest, reading
from littlefoot.decode.graph import compose, ctc_graph, linear
from littlefoot.errors import LittlefootError, ManifestError
from littlefoot.training.forward_backward import numerator_score
from littlefoot.training.lfmmi import make_denominator
from littlefoot.training.module import CTCModel
from littlefoot.training.pronunciations import Pronunciations, read_pronunciations
from littlefoot.training.train_config import TrainConfig
from littlefoot.training.validation import merged

PHONES = Vocabulary(("<pad>", "|", "ah", "b", "t", "oo"))
CMU = """;;; a comment
TO  t oo
TO(2)  t ah
BAT\tb ah t
tab  t ah b
"""


@pytest.fixture
def lexicon(tmp_path: Path) -> Path:
    path = tmp_path / "lexicon.txt"
    path.write_text(CMU, encoding="utf-8")
    return path


def test_texts_become_first_pronunciations(lexicon: Path) -> None:
    spoken = read_pronunciations(str(lexicon), PHONES)
    assert spoken.encode("to Bat") == [4, 5, 1, 3, 2, 4]
    assert spoken.encode("") == []
    assert spoken.unknown("a TAB to") == {"a"}
    with pytest.raises(ManifestError, match="words without a pronunciation in 'to sea': sea: add them"):
        spoken.encode("to sea")
    without = Pronunciations(
        {"to": [[3, 4]]}, Vocabulary(("<pad>", "ah", "b", "t", "oo"), word_delimiter=" ")
    )
    assert without.encode("to to") == [3, 4, 3, 4]


def test_a_graph_holds_every_way_to_speak_a_text(lexicon: Path) -> None:
    """Its score is that of the sum of all, each weighted by the n-gram."""
    spoken = read_pronunciations(str(lexicon), PHONES)
    rows = [
        manifest.Utterance(str(i), Path("x"), 1.0, "", "train", t) for i, t in enumerate(("to bat", "tab"))
    ]
    denominator = make_denominator(rows, PHONES, TrainConfig(lexicon=str(lexicon)))
    log_probs = torch.randn(1, 12, 6, generator=torch.Generator().manual_seed(0)).double().log_softmax(-1)

    def score(graph: object) -> torch.Tensor:
        alignments = ctc_graph(compose(graph, denominator.model), PHONES.blank)  # type: ignore[arg-type]
        return numerator_score(log_probs, torch.tensor([12]), [alignments])

    first, second = [4, 5], [4, 2]
    ways = [[*a, 1, 3, 2, 4, 1, *b] for a in (first, second) for b in (first, second)]
    expected = torch.logsumexp(torch.cat([score(linear(way)) for way in ways]), 0)
    torch.testing.assert_close(score(spoken.graph("to bat to"))[0], expected)
    assert len(spoken.graph("").source) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("to t oo\nbat", "line 2: 'bat' has no phones: write them after the word"),
        ("to t oo\nbat B ae t", r"line 2: 'B', 'ae' of 'bat' are not among the model's tokens, .* ah b t oo"),
        ("a <pad>", "line 1: '<pad>' of 'a' are not among"),
        (";;; nothing", "holds no words"),
        ("", "is empty"),
    ],
)
def test_a_lexicon_that_cannot_be_used_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "lexicon.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(LittlefootError, match=message):
        read_pronunciations(str(path), PHONES)
    with pytest.raises(LittlefootError, match="cannot be read"):
        read_pronunciations(str(tmp_path / "none.txt"), PHONES)


@pytest.mark.parametrize("loss", ["ctc", "lfmmi"])
def test_a_model_of_phones_is_trained_on_words(loss: str, run: Run, tones: Path, tmp_path: Path) -> None:
    """LF-MMI learns which pronunciation is spoken, even where it is not the first."""
    tokens = ["<pad>", "|", *(2 * letter.lower() for letter in LETTERS)]
    words = {word for row in manifest.read(tones, "train") for word in row.text.split()}
    spoken = {word: " ".join(2 * letter.lower() for letter in word) for word in sorted(words)}
    entries = [f"{word} {phones}" for word, phones in spoken.items()]
    if loss == "lfmmi":
        for place in range(0, len(entries), 4):  # such as nobody speaks it
            word = entries[place].split()[0]
            entries[place] = f"{word} aa aa aa\n{entries[place]}"
    lexicon = tmp_path / "lexicon.txt"
    lexicon.write_text("\n".join(entries), encoding="utf-8")
    quiet = {"speeds": [1.0], "time_mask_fraction": 0.0, "feature_mask_fraction": 0.0}
    recipe = write_recipe(tmp_path, tones, steps=250, ema_decay=0.9, loss=loss, lexicon=str(lexicon), **quiet)
    values = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    recipe.write_text(yaml.safe_dump({**values, "vocabulary": tokens}), encoding="utf-8")
    result = run("train", recipe, "-o", tmp_path / "out", "--set", f"train.loss={loss}")
    assert result.code == 0, result.err
    model = load(tmp_path / "out")
    assert list(model.vocabulary.tokens) == tokens
    module, right, rows = CTCModel.from_artifact(model).eval(), 0, manifest.read(tones, "train")
    for row in rows:
        waveform = reading.normalize(reading.read(row.path))
        best = module.encode(torch.from_numpy(waveform)[None]).logits[0].argmax(-1).numpy()
        expected = " | ".join(spoken[word] for word in row.text.split())
        right += " ".join(tokens[token] for token in merged(best, 0)) == expected
    assert right >= 0.75 * len(rows)


def test_words_outside_the_lexicon_are_left_out_and_named(run: Run, tones: Path, tmp_path: Path) -> None:
    lexicon = tmp_path / "lexicon.txt"
    first = manifest.read(tones, "train")[1].text
    lexicon.write_text("\n".join(f"{word} A B" for word in first.split()), encoding="utf-8")
    recipe = write_recipe(tmp_path, tones, steps=1, lexicon=str(lexicon))
    result = run("train", recipe, "-o", tmp_path / "out")
    assert result.code == 0
    assert "text outside the lexicon" in result.err
    lexicon.write_text("nobody A B", encoding="utf-8")
    result = run("train", recipe, "-o", tmp_path / "other")
    assert result.code == 1
    assert "nothing to train on" in result.err
    assert "outside the lexicon" in result.err


def test_unknown_phones_end_training_before_it_starts(run: Run, tones: Path, tmp_path: Path) -> None:
    lexicon = tmp_path / "lexicon.txt"
    lexicon.write_text("word W ER D", encoding="utf-8")
    result = run(
        "train", write_recipe(tmp_path, tones, steps=1, lexicon=str(lexicon)), "-o", tmp_path / "out"
    )
    assert result.code == 2
    assert "'W', 'ER' of 'word' are not among" in result.err
    assert not (tmp_path / "out").exists()


def test_a_model_of_pieces_has_no_pronunciations(lexicon: Path) -> None:
    with pytest.raises(LittlefootError, match="tokens are pieces of words: leave it out"):
        read_pronunciations(str(lexicon), Vocabulary(("<pad>", "▁t", "oo"), merges=()))
