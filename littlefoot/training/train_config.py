"""Define every setting of training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Len, Lt

from littlefoot.errors import ConfigError
from littlefoot.system.checks import Checked, Count, NonNegativeFloat, PositiveFloat, PositiveInt, Share


@dataclass(frozen=True)
class TrainConfig(Checked):
    """Settings of one training run. Times are seconds of audio unless a name says otherwise."""

    section = "train."

    # How long, how fast.
    steps: PositiveInt = 10_000
    """Optimizer steps in all; the learning rate's decay ends here."""
    lr: PositiveFloat = 3e-4
    """Peak learning rate, reached after the warm-up."""
    warmup_steps: int = 400
    """Steps over which the learning rate rises linearly from zero."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """Decay after the warm-up: ``cosine`` or ``linear`` to zero, or ``constant``."""
    hold_steps: Count = 0
    """Steps at the peak between the warm-up and the decay. A long run can then be extended, or ended early,
    without having decayed before (Hu et al. 2024, MiniCPM)."""
    weight_decay: float = 0.01
    """AdamW's decay of weight matrices; biases, norms and the mask embedding have none."""
    clip_norm: PositiveFloat = 1.0
    """Gradients are scaled down to this norm."""
    ema_decay: Annotated[float, Ge(0), Lt(1)] = 0.999
    """Decay per step of the moving average of the weights, which is evaluated and saved; 0 takes the weights
    as they are. Shorter early in a run, so that the initial weights are forgotten."""
    freeze_front_end: bool = False
    """Keep the convolutions as they are, as is usual when fine-tuning with little speech. A student then
    reuses the features of its teacher if its front end is the same, which saves a third of the time or more.
    """
    freeze: list[str] = field(default_factory=list)
    """Patterns of the names of weights that stay as they are, such as ``encoder.layers.[01].*``."""
    layer_lr_decay: Annotated[float, Gt(0), Le(1)] = 1.0
    """The learning rate of each block is that of the block above it times this, and the part before the first
    block has a lower one still: the further from the output, the less a fine-tuned network has to change
    (Clark et al. 2020, ELECTRA)."""
    lr_scales: dict[str, NonNegativeFloat] = field(default_factory=dict)
    """Factors of the learning rate by patterns of weights' names; the first match counts."""
    dropout: bool = True
    """Use the dropout of the model's configuration. A small student on much augmented speech learns faster
    without."""

    # Batches.
    batch_seconds: PositiveFloat = 48.0
    """Padded length of what one optimizer step takes, over all processes."""
    short_first: bool = True
    """Go from short to long utterances in the first epoch: a help for random weights only."""
    accumulate: PositiveInt = 1
    """Batches in which each process takes its part of a step: more of them need less memory."""
    average_every: Count = 0
    """Steps after which processes that train separately average their weights. This is faster than exchanging
    gradients if other work slows processes down. 0: gradients are averaged in every step."""
    set_weights: dict[str, NonNegativeFloat] = field(default_factory=dict)
    """Mean number of times that each utterance of a set is drawn per epoch, by the set's name; the default is
    1. 2.5 means twice, and a third time for half of the utterances, a different half in each epoch."""

    # What is minimised.
    loss: Literal["ctc", "lfmmi"] = "ctc"
    """``ctc``, or ``lfmmi``: lattice-free MMI against an n-gram model of the texts' tokens."""
    lfmmi_order: PositiveInt = 4
    """Longest n-gram of that model."""
    lfmmi_histories: PositiveInt = 1000
    """Largest number of histories in that model; the time for LF-MMI is proportional to it."""
    lfmmi_acoustic_scale: PositiveFloat = 1.0
    """Factor of the logits, relative to the n-grams."""
    lfmmi_leak: NonNegativeFloat = 0.0
    """Coefficient of the leaky HMM: weight of forgetting the history at a frame."""
    lfmmi_l2: NonNegativeFloat = 0.0
    """Penalty on the squares of the logits."""

    lexicon: str | None = None
    """File of words and their pronunciations in the model's tokens, for alphabets of phones; without one,
    texts are spelled by their letters."""

    # Which utterances.
    max_disagreement: float = 0.15
    """Pseudo-labelled rows on which the labelling recognisers disagree more are left out."""
    set_max_disagreement: dict[str, float] = field(default_factory=dict)
    """Other limits for some sets, by name: texts that were read from a prompt are correct unless recognisers
    disagree strongly."""
    max_seconds: PositiveFloat = 30.0
    """Longer utterances are left out."""
    max_unreadable: int = 100
    """Training stops when more files than this cannot be read."""
    dev_sets: list[str] = field(default_factory=list)
    """Names of the sets whose dev split chooses the best model; empty means all that have one."""

    # Augmentation.
    speeds: Annotated[list[PositiveFloat], Len(1)] = field(default_factory=lambda: [0.9, 1.0, 1.1])
    """Speed factors, one drawn at random for every utterance (Ko et al. 2015)."""
    gain_db: float = 6.0
    """Level is changed by up to this much in either direction."""
    noise_probability: Share = 0.0
    """Share of utterances that get noise."""
    noise_folder: str | None = None
    """Folder of noise recordings, of any depth; without one, white noise."""
    noise_snr_db: tuple[float, float] = (10.0, 40.0)
    """Range of the signal-to-noise ratio."""
    room_probability: Share = 0.0
    """Share of utterances played in a room."""
    room_folder: str | None = None
    """Folder of impulse responses of rooms, of any depth."""
    telephone_probability: Share = 0.0
    """Share of utterances limited to the band of a telephone, 300 to 3400 Hz."""
    codec_probability: Share = 0.0
    """Share of utterances that pass through mu-law, GSM, Vorbis, Opus or MP3."""
    time_mask_fraction: Share = 0.05
    """Share of frames replaced by the mask embedding (SpecAugment, Park et al. 2019)."""
    time_mask_frames: PositiveInt = 5
    """Length of one masked span of frames."""
    feature_mask_fraction: Share = 0.05
    """Share of the projected features' channels set to zero."""
    feature_mask_channels: PositiveInt = 16
    """Length of one masked span of channels."""

    # How it runs.
    seed: int = 0
    """Seed of initial weights, order, augmentation and dropout."""
    mixed_precision: Literal["auto", "bf16", "no"] = "auto"
    """``bf16``, ``no``, or ``auto``: bf16 where the processor computes in it."""
    recompute: bool = False
    """Gradient checkpointing: less memory for activations, about a third more time."""
    shard: bool = False
    """Spread weights, gradients and optimizer over the processes (FSDP), for models that are too large for
    one."""
    threads: int | None = None
    """Threads of each process for PyTorch's operations on the CPU; None leaves PyTorch's own choice."""
    loaders: Count = 1
    """Number of processes that read and augment audio ahead of the model, for each training process; 0: the
    training process does so itself. The result does not depend on it."""
    cache_audio: bool = False
    """Keep decoded audio in memory, in each loader: 115 MB per hour of speech, 230 MB per hour of noise and
    rooms, of which the first 4,000 s are kept."""

    # What it writes.
    log_every: PositiveInt = 20
    """Steps between two rows of metrics."""
    trackers: list[Literal["tensorboard", "wandb"]] = field(default_factory=list)
    """Receivers of the rows of metrics besides ``metrics.jsonl``: ``tensorboard``, ``wandb``, or both."""
    eval_every: PositiveInt = 500
    """Steps between two evaluations on the dev splits."""
    average_best: PositiveInt = 1
    """Number of best models whose mean is evaluated at the end, and saved if it has a lower dev WER."""
    patience: Count = 0
    """Number of evaluations in a row without a lower dev WER after which training ends early; 0: never."""
    checkpoint_minutes: float = 5.0
    """Wall time between two checkpoints."""
    keep_checkpoints: PositiveInt = 2
    """Number of the newest checkpoints that stay on the disk."""
    max_bad_steps: int = 20
    """Number of steps in a row with a gradient that is not finite after which training stops."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.room_probability and not self.room_folder:
            raise ConfigError("train.room_probability needs impulse responses: set train.room_folder")
