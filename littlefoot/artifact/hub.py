"""Push artifacts to the Hugging Face Hub, with metadata at the head of the card."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from littlefoot.artifact import artifact, checkpoint, checksums, side_files
from littlefoot.artifact.artifact import Artifact, weights_file_bytes
from littlefoot.errors import CheckpointError, ConfigError, LittlefootError
from littlefoot.network.provenance import Plan, Teacher
from littlefoot.system.extras import imported

TASK = "automatic-speech-recognition"
_FRONT_MATTER = re.compile(r"\s*---[ \t]*\r?\n(.*?\n)?---[ \t]*(\r?\n|$)", re.DOTALL)
_GET_TOKEN = (
    "make one with write access at https://huggingface.co/settings/tokens and give it to 'hf auth login', or"
    " set HF_TOKEN"
)
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def push(
    model: str | Path,
    repository: str,
    *,
    private: bool = False,
    revision: str | None = None,
    message: str | None = None,
    licence: str | None = None,
    languages: Sequence[str] = (),
) -> str:
    """Push an artifact to the Hub; create the repository and the branch if they do not exist.

    The artifact is loaded first, and every tensor verified. Its card gets the Hub's metadata (``metadata``)
    if it has none; the directory itself does not change.

    Args:
        model: the artifact's directory.
        repository: ``USER/NAME``.
        private: create a private repository.
        revision: the branch; None: ``main``.
        message: message of the commit.
        licence: the Hub's name of a licence, such as ``apache-2.0``.
        languages: ISO 639 codes, such as ``en``.

    Returns the address of the repository, or of its branch.

    Raises LittlefootError if there is nothing to push, the artifact is damaged, the card has metadata
    although ``licence`` or ``languages`` are given, or the Hub refuses it; the message states the remedy.
    """
    directory = _directory(model)
    loaded = artifact.load(directory)
    if _REPOSITORY.fullmatch(repository) is None:
        raise ConfigError(f"{repository}: is not a repository of the Hub: give USER/NAME")
    if _FRONT_MATTER.match(loaded.card) and (licence or languages):
        raise ConfigError(
            f"{directory / artifact.CARD} has metadata of its own, which is not overwritten: write"
            " licence and language there"
        )
    huggingface_hub = imported("huggingface_hub", "the Hub", "hub")
    token = huggingface_hub.get_token()
    if token is None:
        raise LittlefootError(f"there is no token for the Hub: {_GET_TOKEN}")
    api = huggingface_hub.HfApi(token=token, library_name="littlefoot")
    try:
        origin = _base_model(loaded, api)
        name = repository.partition("/")[2]
        card = with_metadata(loaded.card, metadata(loaded, name, licence, languages, origin))
        url = api.create_repo(repository, private=private or None, exist_ok=True)
        if revision is not None:
            api.create_branch(repository, branch=revision, exist_ok=True)
        api.create_commit(
            repository,
            [
                huggingface_hub.CommitOperationAdd(file, source if isinstance(source, bytes) else str(source))
                for file, source in _content(directory, card.encode()).items()
            ],
            commit_message=message or f"{name}, by littlefoot",
            revision=revision,
        )
    except Exception as error:  # the Hub and the network raise many kinds of errors
        raise LittlefootError(f"{repository}: {_reason(error)}") from error
    return str(url) if revision is None else f"{url}/tree/{revision}"


def _content(directory: Path, card: bytes) -> dict[str, Path | bytes]:
    """Return the files of a directory to push: paths, or bytes if they differ from the file."""
    content: dict[str, Path | bytes] = {
        name: side_files.checked(directory, name)
        for name in artifact.POSSIBLE_FILES
        if (directory / name).exists()
    }
    content[artifact.CARD] = card
    if (digests := checksums.read(directory)) is not None:
        digests[artifact.CARD] = hashlib.sha256(card).hexdigest()
        content[checksums.NAME] = checksums.listing(digests).encode()
    return content


def _directory(model: str | Path) -> Path:
    path = Path(model)
    if not path.is_dir():
        if str(model) in checkpoint.bundled():
            raise CheckpointError(f"{model}: comes with littlefoot: push the directory of your own model")
        raise CheckpointError(f"{model}: no such directory: give that of an artifact")
    if not artifact.is_artifact(path):
        raise CheckpointError(
            f"{model}: is not a littlefoot artifact: make one with littlefoot shrink, quantize or train; "
            "other"
            " checkpoints are pushed with 'hf upload'"
        )
    return path


def metadata(
    model: Artifact,
    name: str,
    licence: str | None = None,
    languages: Sequence[str] = (),
    base_model: str | None = None,
) -> dict[str, Any]:
    """Make the Hub's metadata of a model from its configuration.

    Word errors are those that ``shrink --target`` measured for this model, and those of the dev sets in
    training unless the weights were rounded later.
    """
    huggingface_hub = imported("huggingface_hub", "a card's metadata", "hub")
    config, section = model.config, model.config.littlefoot
    quantization = section.quantization
    tags = ["speech", "ctc", config.model_type]
    if quantization:
        bits = quantization.bits
        tags.append(f"{bits}-bit" if isinstance(bits, int) else "quantized")
    if config.chunk_frames:
        tags.append("streaming")
    results = [
        huggingface_hub.EvalResult(
            task_type=TASK,
            dataset_type=dataset,
            dataset_name=dataset,
            dataset_split=split,
            metric_type="wer",
            metric_value=round(100 * rate, 2),
            metric_name="WER %, greedy",
        )
        for dataset, split, rate in _word_errors(model)
    ]
    data = huggingface_hub.ModelCardData(
        license=licence,
        language=list(languages) or None,
        library_name="littlefoot",
        pipeline_tag=TASK,
        tags=tags,
        base_model=base_model,
        model_name=name if results else None,
        eval_results=results or None,
    )
    found: dict[str, Any] = data.to_dict()
    return found


def _word_errors(model: Artifact) -> Iterator[tuple[str, str, float]]:
    """Return the error rates that were measured for this model: set, split, rate."""
    section = model.config.littlefoot
    plan = section.plan or Plan()
    same = plan.measured.bytes == weights_file_bytes(model)
    if same and plan.measured.wer is not None:
        yield f"{plan.utterances} utterances", plan.split, plan.measured.wer
    dev = section.training and section.training.dev
    if dev and (section.quantization is None or section.quantization.trained):
        for name, rate in dev.wer.items():
            yield name, "dev", rate


def with_metadata(card: str, values: dict[str, Any]) -> str:
    """Put metadata at the head of a card, unless it has some already."""
    if _FRONT_MATTER.match(card):
        return card
    import yaml

    return f"---\n{yaml.safe_dump(values, sort_keys=False, allow_unicode=True)}---\n\n{card.lstrip()}"


def _base_model(model: Artifact, api: Any) -> str | None:
    """Return the Hub's name of the model that this one was made from, if it is from the Hub."""
    teacher = (model.config.littlefoot.teacher or Teacher()).name.partition("@")[0]
    if not _REPOSITORY.fullmatch(teacher) or not api.repo_exists(teacher):
        return None
    return teacher


def _reason(error: Exception) -> str:
    """Explain an error of the Hub or the network, with the remedy."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    cause: BaseException = error
    while not isinstance(cause, HfHubHTTPError | ValueError | OfflineModeIsEnabled):
        if cause.__cause__ is None:
            break
        cause = cause.__cause__
    lines = [line.strip() for line in str(cause).strip().splitlines() if line.strip()]
    said = lines[0] if lines else type(cause).__name__
    if isinstance(cause, OfflineModeIsEnabled):
        return "the Hub cannot be reached, as HF_HUB_OFFLINE is set: unset it"
    if isinstance(cause, HFValidationError):
        return f"is not a name for a repository ({said}): choose another"
    if not isinstance(cause, HfHubHTTPError):
        if isinstance(cause, ValueError):  # for example unknown metadata
            return f"the Hub does not accept it ({' '.join(lines)}): mend what it names"
        return (
            f"the Hub cannot be reached ({type(cause).__name__}: {said}): check the network, and HF_ENDPOINT"
            " if it is set; no file there was changed"
        )
    status = cause.response.status_code
    said = cause.server_message or said
    remedy = {
        401: f"the token is not valid: {_GET_TOKEN}",
        403: "the token may not write there: take one with write access, of a user who may",
        404: "there is no such repository or branch that this token may see: check the name",
        409: "another upload is in progress: try again",
    }.get(status, "try again later" if status >= 500 or status == 429 else "see the Hub's message")
    return f"the Hub refuses it ({status}: {said}): {remedy}"
