"""MMS models are loaded for the language that a request names."""

from __future__ import annotations

from pathlib import Path

import pytest
from checkpoints import TOKENS, tensors, write, write_json
from families import make, speechlike
from safetensors.torch import save_file
from servers import encoded, serving

from littlefoot.runtime import recognizer
from littlefoot.server.errors import ApiError
from littlefoot.server.models import Models

CLIP = speechlike(1.0)
LANGUAGES = ("eng", "deu", "fra", "ita", "nld", "swe")


@pytest.fixture(scope="module")
def mms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with an adapter for each language; the alphabets are turned."""
    directory = write(make("mms"), tmp_path_factory.mktemp("models") / "mms")
    adapter = {name: tensor for name, tensor in tensors(directory).items() if "adapter_layer" in name}
    adapter |= {name: tensors(directory)[name] for name in ("lm_head.weight", "lm_head.bias")}
    alphabets = {}
    for number, language in enumerate(LANGUAGES):
        save_file(adapter, directory / f"adapter.{language}.safetensors")
        letters = TOKENS[5:]
        turned = [*TOKENS[:5], *letters[number:], *letters[:number]]
        alphabets[language] = {token: index for index, token in enumerate(turned)}
    write_json(directory / "vocab.json", alphabets)
    return directory


def test_a_request_names_the_language(mms: Path) -> None:
    texts = {}
    with serving([mms]) as running:
        for language in ("deu", "fra"):
            answer = running.transcribe(encoded(CLIP), [("language", language)])
            texts[language] = answer.json["text"]
            assert texts[language] == recognizer.load(mms, language=language).transcribe(encoded(CLIP)).text
        wrong = running.transcribe(encoded(CLIP), [("language", "../eng")])
    assert texts["deu"] != texts["fra"]
    assert (wrong.status, wrong.error["param"]) == (400, "language")


def test_few_languages_stay_loaded(mms: Path) -> None:
    models = Models([str(mms)], recognizer.load)
    first, *others = [models.find("mms", language) for language in LANGUAGES[:4]]
    first.users += 1
    fifth = models.find("mms", "nld")
    assert models.find("mms", "eng") is first  # in use
    assert models.find("mms", "nld") is fifth
    assert others[0] not in models.in_languages.values()
    for model in models.in_languages.values():
        model.users += 1
    with pytest.raises(ApiError) as refused:
        models.find("mms", "swe")
    assert refused.value.code == "too_many_languages"
    models.close()
