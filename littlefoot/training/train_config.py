"""Every setting of training, and the YAML recipe that holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from littlefoot.errors import ConfigError
from littlefoot.system import settings


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one training run. Times are seconds of audio unless a name says otherwise."""

    # How long, how fast.
    steps: int = 10_000
    """Optimizer steps in all; the learning rate's decay ends here."""
    lr: float = 3e-4
    """Peak learning rate, reached after the warm-up."""
    warmup_steps: int = 400
    """Steps over which the learning rate rises linearly from zero."""
    schedule: str = "cosine"
    """Decay after the warm-up: ``cosine`` or ``linear`` to zero, or ``constant``."""
    hold_steps: int = 0
    """Steps at the peak between the warm-up and the decay. A long run can then be extended, or ended early,
    without having decayed before (Hu et al. 2024, MiniCPM)."""
    weight_decay: float = 0.01
    """AdamW's decay of weight matrices; biases, norms and the mask embedding have none."""
    clip_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    ema_decay: float = 0.999
    """Decay per step of the moving average of the weights, which is what is evaluated and saved;
    0 takes the weights as they are. Shorter early in a run, so that the start is forgotten."""
    freeze_front_end: bool = False
    """Leave the convolutions as they are, as is usual when fine-tuning with little speech. A student then
    takes the teacher's features where they are its own, which saves a third of the time or more."""
    freeze: list[str] = field(default_factory=list)
    """Patterns of the names of weights that stay as they are, such as ``encoder.layers.[01].*``."""
    layer_lr_decay: float = 1.0
    """The learning rate of each block is that of the block above it times this, and that of all before the
    first block is lower once more: the further from the output, the less a fine-tuned network has to
    change (Clark et al. 2020, ELECTRA)."""
    lr_scales: dict[str, float] = field(default_factory=dict)
    """Factors of the learning rate by patterns of weights' names; the first that fits counts."""
    dropout: bool = True
    """Drop values as the model's configuration says. A small student that listens to much augmented speech
    learns faster without."""

    # Batches.
    batch_seconds: float = 48.0
    """Padded length of what one optimizer step takes, over all processes."""
    short_first: bool = True
    """Go from short to long utterances in the first epoch: a help for random weights only."""
    accumulate: int = 1
    """Batches in which each process takes its part of a step: more of them need less memory."""
    average_every: int = 0
    """Each process trains on its own part of the batches, and they average their weights after so many steps:
    faster than exchanging gradients where processes are slowed down by other work. 0: gradients are averaged
    in every step."""
    set_weights: dict[str, float] = field(default_factory=dict)
    """How many times per epoch each utterance of a set is drawn on average (default 1), by the set's
    name: 2.5 means twice, and once more for half of them, another half in each epoch."""

    # What is minimised.
    loss: str = "ctc"
    """``ctc``, or ``lfmmi``: lattice-free MMI against an n-gram model of the texts' tokens."""
    lfmmi_order: int = 4
    """Longest n-gram of that model."""
    lfmmi_histories: int = 1000
    """How many histories it tells apart at most; the time that LF-MMI takes is proportional to it."""
    lfmmi_acoustic_scale: float = 1.0
    """Factor of the logits, against the n-grams."""
    lfmmi_leak: float = 0.0
    """Coefficient of the leaky HMM: weight of forgetting the history at a frame."""
    lfmmi_l2: float = 0.0
    """Penalty on the squares of the logits."""

    lexicon: str | None = None
    """File of words and their pronunciations in the model's tokens, for alphabets of phones; without one,
    texts are spelled by their letters."""

    # Which utterances.
    max_disagreement: float = 0.15
    """Pseudo-labelled rows on which the labelling recognisers disagree more are left out."""
    set_max_disagreement: dict[str, float] = field(default_factory=dict)
    """Another limit for some sets, by name: texts that were read from a prompt are right, unless recognisers
    disagree strongly."""
    max_seconds: float = 30.0
    """Longer utterances are left out."""
    max_unreadable: int = 100
    """Training stops when more files than this cannot be read."""
    dev_sets: list[str] = field(default_factory=list)
    """Names of the sets whose dev split chooses the best model; empty means all that have one."""

    # Augmentation.
    speeds: list[float] = field(default_factory=lambda: [0.9, 1.0, 1.1])
    """Speed factors, one drawn at random for every utterance (Ko et al. 2015)."""
    gain_db: float = 6.0
    """Level is changed by up to this much in either direction."""
    noise_probability: float = 0.0
    """Share of utterances that get noise."""
    noise_folder: str | None = None
    """Recordings of noise, in any depth of folders; white noise without."""
    noise_snr_db: tuple[float, float] = (10.0, 40.0)
    """Range of the signal-to-noise ratio."""
    room_probability: float = 0.0
    """Share of utterances played in a room."""
    room_folder: str | None = None
    """Impulse responses of rooms, in any depth of folders."""
    telephone_probability: float = 0.0
    """Share of utterances limited to the band of a telephone, 300 to 3400 Hz."""
    codec_probability: float = 0.0
    """Share of utterances that pass through mu-law, GSM, Vorbis, Opus or MP3."""
    time_mask_fraction: float = 0.05
    """Share of frames replaced by the mask embedding (SpecAugment, Park et al. 2019)."""
    time_mask_frames: int = 5
    """Length of one masked span of frames."""
    feature_mask_fraction: float = 0.05
    """Share of the projected features' channels set to zero."""
    feature_mask_channels: int = 16
    """Length of one masked span of channels."""

    # How it runs.
    seed: int = 0
    """Decides initial weights, order, augmentation and dropout."""
    mixed_precision: str = "auto"
    """``bf16``, ``no``, or ``auto``: bf16 where the processor computes in it."""
    recompute: bool = False
    """Gradient checkpointing: less memory for activations, about a third more time."""
    shard: bool = False
    """Spread weights, gradients and optimizer over the processes (FSDP), for models too large for one of
    them."""
    threads: int | None = None
    """Threads of each process for PyTorch's operations on the CPU; None leaves PyTorch's own choice."""
    loaders: int = 1
    """Processes that read and augment audio ahead of the model, for each process that trains; 0: none, it
    does so itself. The result does not depend on it."""
    cache_audio: bool = False
    """Keep decoded audio in memory, in each loader: 115 MB per hour of speech."""

    # What it writes.
    log_every: int = 20
    """Steps between two rows of metrics."""
    eval_every: int = 500
    """Steps between two evaluations on the dev splits."""
    average_best: int = 1
    """The mean of so many of the best models is tried at the end, and saved if it has a lower dev WER."""
    patience: int = 0
    """Training ends early after so many evaluations in a row without a lower dev WER; 0: never."""
    checkpoint_minutes: float = 5.0
    """Wall time between two checkpoints."""
    keep_checkpoints: int = 2
    """How many of the newest checkpoints stay on disk."""
    max_bad_steps: int = 20
    """Training stops after so many steps in a row whose gradient is not finite."""

    def __post_init__(self) -> None:
        positive = """steps lr clip_norm batch_seconds accumulate log_every eval_every average_best
            keep_checkpoints time_mask_frames feature_mask_channels max_seconds lfmmi_order lfmmi_histories
            lfmmi_acoustic_scale"""
        for name in positive.split():
            if getattr(self, name) <= 0:
                raise ConfigError(f"train.{name} must be greater than 0, not {getattr(self, name)}")
        shares = """time_mask_fraction feature_mask_fraction noise_probability room_probability
            telephone_probability codec_probability"""
        for name in shares.split():
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"train.{name} must lie between 0 and 1, not {getattr(self, name)}")
        if self.room_probability and not self.room_folder:
            raise ConfigError("train.room_probability needs impulse responses: set train.room_folder")
        if not 0 <= self.ema_decay < 1:
            raise ConfigError(f"train.ema_decay must be at least 0 and less than 1, not {self.ema_decay}")
        if not self.speeds or min(self.speeds) <= 0:
            raise ConfigError("train.speeds must list one or more factors greater than 0")
        if not 0 < self.layer_lr_decay <= 1:
            raise ConfigError(
                f"train.layer_lr_decay must be greater than 0 and at most 1, not {self.layer_lr_decay}"
            )
        for pattern, factor in self.lr_scales.items():
            if factor < 0:
                raise ConfigError(f"train.lr_scales.{pattern} must be 0 or more, not {factor}")
        for name in ("patience", "loaders", "lfmmi_leak", "lfmmi_l2", "average_every", "hold_steps"):
            if getattr(self, name) < 0:
                raise ConfigError(f"train.{name} must be 0 or more, not {getattr(self, name)}")
        if min(self.set_weights.values(), default=0) < 0:
            raise ConfigError("train.set_weights must not be negative")
        for name, allowed in (
            ("loss", ("ctc", "lfmmi")),
            ("schedule", ("cosine", "linear", "constant")),
            ("mixed_precision", ("auto", "bf16", "no")),
        ):
            if getattr(self, name) not in allowed:
                raise ConfigError(
                    f"train.{name} must be one of {', '.join(allowed)}, not '{getattr(self, name)}'"
                )


@dataclass(frozen=True)
class Recipe:
    """What a training recipe (YAML) holds."""

    model: str | dict[str, Any]
    """A checkpoint to start from, or the keys of a ``config.json`` for a model with random weights."""
    vocabulary: tuple[str, ...]
    """Tokens in the order of their ids, for a model with random weights."""
    train: TrainConfig
    data: tuple[Path, ...]
    """Manifests; in the file, relative to it."""
    card: str = ""
    """What the model card starts with, in Markdown."""


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe; ``overrides`` are ``section.key=value`` with the value in YAML.

    Raises ConfigError for a file that cannot be read and for unknown or impossible settings.
    """
    try:
        values = settings.parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read as a training recipe: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} is not a training recipe: it needs the sections 'model' and 'train'")
    recipe = apply_overrides(values, overrides)
    settings.refuse_unknown(recipe, [f.name for f in fields(Recipe)], "")
    model, vocabulary, data = recipe.get("model"), recipe.get("vocabulary", []), recipe.get("data", [])
    if not isinstance(model, str | dict):
        raise ConfigError(f"{path}: 'model' must be a model's name or a section of its settings")
    if isinstance(model, dict) and not vocabulary:
        raise ConfigError(f"{path}: a model with random weights needs 'vocabulary', a list of its tokens")
    if not isinstance(vocabulary, list) or not isinstance(data, list):
        raise ConfigError(f"{path}: 'vocabulary' and 'data' must be lists")
    return Recipe(
        model=model,
        vocabulary=tuple(str(token) for token in vocabulary),
        train=settings.read(TrainConfig, recipe.get("train"), "train."),
        data=tuple(path.parent / str(manifest) for manifest in data),
        card=str(recipe.get("card", "")),
    )


def apply_overrides(values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Set ``section.key=value`` pairs in a copy of a recipe's sections."""
    result = {key: dict(value) if isinstance(value, dict) else value for key, value in values.items()}
    for override in overrides:
        name, equals, text = override.partition("=")
        section, _, key = name.partition(".")
        if not equals or not key:
            raise ConfigError(f"--set {override}: write section.key=value, for example train.lr=1e-3")
        if section not in ("model", "train"):
            raise ConfigError(f"--set {override}: the section must be 'model' or 'train', not '{section}'")
        target = result.setdefault(section, {})
        if not isinstance(target, dict):
            raise ConfigError(f"--set {override}: the geometry of an existing model cannot be changed")
        try:
            target[key] = settings.parse(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {override}: '{text}' is not a YAML value") from error
    return result
