"""What ``littlefoot bench --json`` writes: every figure with its definition.

Times are seconds of wall-clock unless a name says otherwise, sizes are bytes, rates are fractions. An
interval (low, high) is a 95 % bootstrap interval. None: not measured, or not defined for the model.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from littlefoot.errors import LittlefootError

SCHEMA_VERSION = 1
"""Goes up when a field changes its meaning or goes away, not when one is added."""

MEASURED, ESTIMATED, UNAVAILABLE = "measured (RAPL)", "estimated (TDP x CPU time)", "unavailable"
"""Where figures of energy come from."""

Interval = tuple[float, float]


class Part(BaseModel):
    """Immutable. A file may have fields that a newer version added; they are ignored."""

    model_config = ConfigDict(frozen=True)


class Machine(Part):
    """What everything was measured on."""

    processor: str
    instructions: list[str]
    """Those that engines make special use of."""
    virtual: bool
    """Whether the processor says that it is one of a virtual machine."""
    threads: int
    """Processor threads that the processes might use."""
    memory_bytes: int | None
    platform: str
    versions: dict[str, str]
    """Of littlefoot, Python, and the installed packages that compute."""
    load_before: float | None
    """Processes that wanted to run in the minute before: 0 on a quiet machine."""
    load_after: float | None
    """The same in the last minute of the run, the models' own included."""
    peak_ops_per_s: dict[str, float]
    """The fastest large matrix product in this run, by precision, with the first number of threads; two
    operations are a multiply-accumulate."""


class Data(Part):
    """What was recognised."""

    manifests: list[str]
    split: str
    sets: dict[str, int]
    """Utterances of each set."""
    seconds: float
    words: int | None
    """Of the references; None where there are none."""
    pseudo_labelled: list[str]
    """Sets whose references were made by other recognisers: their error rates are agreement, not truth."""
    fingerprint: str
    """A digest of the utterances' ids and references: error rates are comparable where it is the same."""
    failed: list[str]
    """Recordings that could not be read, and why; no model got them."""


class Utterance(Part):
    id: str
    set: str
    seconds: float
    path: str
    """In a file, relative to its folder."""
    reference: str | None


class Hypothesis(Part):
    """What a model made of an utterance."""

    text: str
    errors: int | None
    """Word errors; None without a reference."""
    latency_ms: float


class Rates(Part):
    """Error rates of a set of utterances; they may exceed 1."""

    wer: float
    wer_interval: Interval
    cer: float
    cer_interval: Interval
    words: int
    utterances: int


class Difference(Part):
    """How a model's word error rate differs from the baseline's on the same utterances."""

    wer: float
    """Positive: more errors than the baseline."""
    interval: Interval
    p_value: float
    """Two-sided, of a paired bootstrap over utterances."""


class Speed(Part):
    """Samples in memory to text, for one length of audio and number of threads."""

    audio_s: float
    threads: int
    seconds: float
    """Median over all rounds."""
    quartiles: Interval
    x_realtime: float
    rtf: float
    """Real-time factor: 1 / x_realtime."""
    times_as_fast: float | None
    """Median over rounds of the baseline's time over this model's."""
    times_as_fast_interval: Interval | None
    """Bootstrap over launches, then over rounds within a launch."""
    settled: bool
    """Whether the interval is so narrow that another run should agree within 5 %."""


class Percentiles(Part):
    p50: float
    p95: float
    p99: float


class Streaming(Part):
    """Of models made for streaming, fed as a sound card would."""

    algorithmic_latency_ms: float
    """From the time of a frame to the last sample that may change it; computing comes on top."""
    chunk_ms: Percentiles
    """What computing a chunk takes."""
    first_partial_ms: float
    """Median over utterances: from the beginning of the first word, as the model places it, to the first
    text, in time of the recording plus computing."""
    finalisation_ms: float
    """Median over utterances: from the end of the recording to the final text."""
    utterances: int


class Model(Part):
    """A row of the table."""

    name: str
    kind: str
    """``littlefoot``, or the peer that ran it."""
    source: str
    error: str | None = None
    """Why figures are missing, where the model failed to load or crashed half-way."""
    precision: str | None = None
    """Of the products, such as ``int8 + bf16``."""
    engine: str | None = None
    parameters: int | None = None
    bytes: int | None = None
    """Of the weights as stored."""
    bytes_by_part: dict[str, int] | None = None
    """front_end, transformer, head."""
    layers: int | None = None
    load_s: float | None = None
    """In a fresh process, compiled models being cached: imports and loading, until the first recording can be
    given. Median over launches."""
    load_spread_s: Interval | None = None
    """Least and most."""
    load_cold_s: float | None = None
    """The same, once, with an empty cache of compiled models. Files may be in the system's page cache."""
    peak_rss_bytes: int | None = None
    """Most resident memory of a fresh process that loads the model, warm, and recognises the longest clip;
    median over launches. Pages of files mapped into memory count."""
    peak_rss_cold_bytes: int | None = None
    """The same with an empty cache: compiling takes memory too."""
    x_realtime: float | None = None
    """The headline: ``headline_s`` of audio with the first number of threads."""
    times_as_fast: float | None = None
    """The headline's ratio to the baseline."""
    times_as_fast_interval: Interval | None = None
    settled: bool | None = None
    speed: list[Speed] = []
    latency_ms: Percentiles | None = None
    """Samples in memory to text, over the utterances, with the first number of threads."""
    cpu_s_per_audio_s: float | None = None
    """Processor seconds, of all threads, per second of audio, over the utterances."""
    macs_per_audio_s: float | None = None
    """Multiply-accumulates of the network per second of audio, for the headline's length."""
    roofline_share: float | None = None
    """Of the time at the measured peak of its precisions to the time taken, for the headline."""
    wer: float | None = None
    wer_interval: Interval | None = None
    cer: float | None = None
    cer_interval: Interval | None = None
    wer_difference: Difference | None = None
    per_set: dict[str, Rates] = {}
    streaming: Streaming | None = None
    energy_j_per_audio_s: float | None = None
    energy_source: str = UNAVAILABLE
    co2_g_per_audio_h: float | None = None
    ranks: dict[str, int] = {}
    """By wer, x_realtime, bytes and peak_rss_bytes: 1 + how many models are better beyond the spread, so
    models that cannot be told apart share a rank."""
    hypotheses: list[Hypothesis | None] = []
    """In the order of the report's utterances."""


class Energy(Part):
    """How energy was found, for all models."""

    source: str
    """Of ``MEASURED``, ``ESTIMATED``, ``UNAVAILABLE``."""
    detail: str
    """What that means here, or why it is unavailable."""
    g_co2_per_kwh: float | None
    co2_source: str


class Report(Part):
    schema_version: int = SCHEMA_VERSION
    created: str
    """ISO 8601, UTC."""
    command: str
    seconds_taken: float
    baseline: str | None
    """The model that ratios and differences refer to: the first that did not fail."""
    lengths_s: list[float]
    threads: list[int]
    headline_s: float
    launches: int
    """How often every model's process was started anew."""
    rounds: int
    """Turns of every model per launch, length and number of threads."""
    measuring_overhead: float | None
    """What the clock takes, as a share of the shortest time it measured."""
    notes: list[str]
    machine: Machine
    energy: Energy
    data: Data
    utterances: list[Utterance]
    models: list[Model]

    def beside(self, file: Path) -> Report:
        """A copy whose recordings are found from the folder of ``file``."""
        folder = file.absolute().parent
        moved = [u.model_copy(update={"path": os.path.relpath(u.path, folder)}) for u in self.utterances]
        return self.model_copy(update={"utterances": moved})

    def save(self, path: Path) -> None:
        """Write JSON."""
        path.write_text(self.beside(path).model_dump_json(indent=1) + "\n", encoding="utf-8")


def load(path: Path) -> Report:
    """Read what ``save`` wrote. Raises LittlefootError for anything else."""
    try:
        text = path.read_text(encoding="utf-8")
        report = Report.model_validate_json(text)
    except (OSError, UnicodeDecodeError) as error:
        raise LittlefootError(f"{path}: cannot be read ({error}): give a file of bench --json") from error
    except ValidationError as error:
        first: dict[str, Any] = dict(error.errors()[0])
        where = ".".join(map(str, first["loc"])) or "the file"
        raise LittlefootError(
            f"{path}: is no report of littlefoot bench ({where}: {first['msg']}): give a file of bench --json"
        ) from error
    if report.schema_version != SCHEMA_VERSION:
        raise LittlefootError(
            f"{path}: has schema version {report.schema_version}, this littlefoot reads {SCHEMA_VERSION}: "
            "measure again"
        )
    return report
