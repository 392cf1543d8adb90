"""Transcribe, align and stream speech: the main class of the library."""

from __future__ import annotations

import functools
import logging
import pickle
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from littlefoot.artifact import Artifact, checkpoint, first_layers
from littlefoot.artifact.precisions import at_bits
from littlefoot.audio import reading
from littlefoot.audio import samples as samples_of
from littlefoot.audio.vad import create as create_detector
from littlefoot.decode import from_files
from littlefoot.decode.align import align_parts
from littlefoot.decode.beam import BeamConfig, BeamDecoder
from littlefoot.decode.greedy import GreedySearch
from littlefoot.decode.known_text import KnownText
from littlefoot.decode.spans import together
from littlefoot.errors import ConfigError, EngineError, TextError
from littlefoot.network.config import ModelConfig
from littlefoot.runtime import measuring, windows
from littlefoot.runtime.frames import Frames, WindowedFrames
from littlefoot.runtime.native.engine import NativeStreams
from littlefoot.runtime.protocols import Engine, StreamEngine
from littlefoot.runtime.registry import begin_stream, create, create_stream
from littlefoot.runtime.specification import LoadOptions, Specification
from littlefoot.runtime.stream import Stream
from littlefoot.runtime.windows import CountedBlocks, Heard, WindowedLogits
from littlefoot.transcript.results import Alternative, Transcription, Word
from littlefoot.transcript.segments import cut, segments

log = logging.getLogger("littlefoot")

Array = npt.NDArray[np.float32]

VAD = "energy"
"""Default detector of speech in long recordings (RESULTS.md, section Long recordings)."""


class Recognizer:
    """A loaded model, made by ``littlefoot.load``, for any number of recordings.

    Threads may share it: the argument ``parallel`` of ``load`` is the number that compute at the same time;
    others wait. As a context manager it is closed at the end. Pickling stores the arguments of ``load``, and
    unpickling loads the model again.
    """

    def __init__(
        self,
        artifact: Artifact,
        engine: Engine,
        chunks: Callable[[], StreamEngine | NativeStreams] | None = None,
    ) -> None:
        """``chunks`` creates the engine for a streaming model's chunks. Without it, streams use windows."""
        self.config = artifact.config
        self.vocabulary = artifact.vocabulary
        self.engine = engine
        self._chunks = None if chunks is None else functools.cache(chunks)  # created once, on first use
        self._normalize = bool(artifact.preprocessor.get("do_normalize", True))
        self.parameters = artifact.parameters
        self.specification: Specification | None = None
        """Arguments of ``load``."""
        self.companion = artifact.companion
        """The directory of a checkpoint with a language model beside it, which ``decoder`` takes."""

    def __repr__(self) -> str:
        model = self.specification.model if self.specification else self.config.model_type
        return f"<Recognizer {model}: {self.parameters / 1e6:.1f} million parameters, {self.engine.name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        if self.specification is None:
            raise pickle.PicklingError("only a recogniser that littlefoot.load made can be pickled")
        return load_with, (self.specification,)

    def __enter__(self) -> Recognizer:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the engine's memory. Using the recogniser after that raises EngineError."""
        self.engine, self._chunks = _Closed(), None

    def decoder(
        self,
        config: BeamConfig | None = None,
        lm: str | Path | None = None,
        hotwords: str | Path | Mapping[str, float] | None = None,
        lexicon: str | Path | None = None,
    ) -> BeamDecoder:
        """Make a beam search for ``transcribe``, for any number of recordings.

        Args:
            config: settings of the search; the defaults if None.
            lm: a language model of words or of characters: a name (``en``), an ARPA, compact or KenLM binary
                file, or the directory or Hub id of a checkpoint that contains one. The weights stored in the
                checkpoint apply where ``config`` has none.
            hotwords: phrases with their weights (natural logarithms per character), or a file of them.
            lexicon: a file of the only words that texts may contain.

        Raises:
            LittlefootError: a file is missing or damaged.
            ConfigError: a file or phrase is written in another alphabet than the model's.
            MissingExtraError: the language model is binary, and KenLM is not installed.
        """
        frame_seconds = self.config.frame_ms / 1000
        return from_files.decoder(self.vocabulary, frame_seconds, config, lm, hotwords, lexicon)

    @overload
    def transcribe(
        self,
        source: list[Any] | tuple[Any, ...],
        decoder: BeamDecoder | None = None,
        alternatives: int = 0,
        vad: str = VAD,
        heard: Heard | None = None,
        sampling_rate: int | None = None,
    ) -> list[Transcription]: ...

    @overload
    def transcribe(
        self,
        source: reading.Source | Mapping[str, Any],
        decoder: BeamDecoder | None = None,
        alternatives: int = 0,
        vad: str = VAD,
        heard: Heard | None = None,
        sampling_rate: int | None = None,
    ) -> Transcription: ...

    def transcribe(
        self,
        source: Any,
        decoder: BeamDecoder | None = None,
        alternatives: int = 0,
        vad: str = VAD,
        heard: Heard | None = None,
        sampling_rate: int | None = None,
    ) -> Transcription | list[Transcription]:
        """Transcribe a recording of any length, or a list of recordings.

        Memory does not grow with the length of a recording. Arrays of samples do not contain their rate: at
        8 kHz without ``sampling_rate`` they are read at double speed, and the text is wrong.

        Args:
            source: a file, its bytes, or samples: (T,), (C, T) or (T, C), floating point in -1 ... 1 or
                integers, as an array, a list or a tensor, or a row of ``datasets`` that contains them. For a
                list of recordings a list of results is returned; recordings of similar length are computed
                together, ``parallel`` of them (see ``load``) at the same time.
            decoder: made by ``decoder``; None for greedy decoding.
            alternatives: number of the decoder's best texts to return in addition.
            vad: detector of speech in recordings beyond 20 s; the gaps are skipped. ``energy``, ``silero`` or
                ``off`` (``littlefoot.audio.vad``).
            heard: called for every 20 s of audio, and when words are complete; with a beam search words are
                complete only at the end. An exception that it raises ends the transcription.
            sampling_rate: rate of samples, in hertz; 16000 if None.

        Raises:
            AudioError: the recording cannot be read.
            ConfigError: the detector is unknown, or the sampling rate is impossible.
            MissingExtraError: a package that the recording or the detector needs is not installed.
        """
        if samples_of.is_several(source):
            return self._several(
                source, lambda each: self._transcribe(each, decoder, alternatives, vad, heard), sampling_rate
            )
        return self._transcribe(
            samples_of.recording(source, sampling_rate), decoder, alternatives, vad, heard
        )

    def _several(
        self,
        sources: Sequence[Any],
        transcribe: Callable[[reading.Source], Transcription],
        sampling_rate: int | None,
    ) -> list[Transcription]:
        """Transcribe several recordings, the longest first."""
        recordings = [samples_of.recording(each, sampling_rate) for each in sources]
        seconds = [
            reading.duration(each, exact=False) if isinstance(each, str | Path | bytes | np.ndarray) else 0.0
            for each in recordings
        ]
        order = sorted(range(len(recordings)), key=seconds.__getitem__, reverse=True)
        parallel = self.specification.options.parallel if self.specification else 1
        with ThreadPoolExecutor(parallel) as pool:
            found = dict(zip(order, pool.map(transcribe, (recordings[i] for i in order)), strict=True))
        return [found[place] for place in range(len(recordings))]

    def _transcribe(
        self,
        source: reading.Source,
        decoder: BeamDecoder | None,
        alternatives: int,
        vad: str,
        heard: Heard | None,
    ) -> Transcription:
        detector = create_detector(vad)
        blocks = CountedBlocks(reading.blocks(source, windows.WINDOW_SECONDS), heard)
        pieces = self._windowed().speech(iter(blocks), detector)
        best: list[Alternative] = []
        found: list[Word] = []
        if decoder is None:
            greedy = GreedySearch(self.vocabulary, self.config.frame_ms / 1000)
            for logits in pieces:
                complete = greedy.feed(logits)
                found += complete
                if heard is not None and complete:
                    heard(blocks.seconds, complete)
            found += greedy.finish()
        else:
            search = decoder.start()
            for logits in pieces:
                search.feed(logits)
            found, best = search.finish(alternatives)
        found = together(found, self.vocabulary)
        between = self.vocabulary.separator
        text = between.join(word.word for word in found)
        found = cut(found)
        parts = segments(found, between, text=text)
        return Transcription(text, parts, found, blocks.seconds, best)

    def align(
        self,
        source: Any,
        text: str,
        stars: str = "written",
        sentences: str = "marks",
        heard: Heard | None = None,
        sampling_rate: int | None = None,
    ) -> Transcription:
        """Find the times of a known text: of its words, their characters (``Word.letters``) and sentences.

        Args:
            source: one recording of any length, as for ``transcribe``.
            text: the text of the recording. Numbers and punctuation are kept; a word ``*`` stands for speech
                that the text lacks (``littlefoot.decode.known_text``).
            stars: further places where the text may lack speech: ``written`` (none), ``ends`` (before and
                after the text) or ``sentences`` (also between sentences).
            sentences: ends of sentences: ``marks`` (punctuation and blank lines) or ``lines``.
            heard: called for every 20 s of audio with the seconds read so far and no words.
            sampling_rate: rate of samples, in hertz; 16000 if None.

        Returns:
            The text, whose segments are its sentences. The confidence of a word is that of its characters
            in the model's alphabet; it is 0 for a word without any.

        Raises:
            AudioError: the recording cannot be read.
            TextError: no character of the text is in the model's alphabet, or the text is too long for the
                audio.
            ConfigError: ``stars`` or ``sentences`` is unknown.
        """
        known = KnownText(text, self.vocabulary, stars, sentences)
        recording = samples_of.recording(source, sampling_rate)
        blocks = CountedBlocks(reading.blocks(recording, windows.WINDOW_SECONDS), heard)
        try:
            spans = align_parts(self._windowed().whole(blocks), known.tokens, self.vocabulary)
        except TextError as error:
            raise TextError(
                f"{reading.name_of(recording)}: {error} ({blocks.seconds:.2f} s): is it the text of this"
                " recording?"
            ) from error
        words = known.words(spans, self.config.frame_ms / 1000)
        return Transcription(known.text, known.sentences(words), words, blocks.seconds, aligned=True)

    @property
    def streams(self) -> bool:
        """Return True if the model was trained for streaming. Other models simulate it with windows."""
        return self._chunks is not None

    def stream(self, chunk_frames: int | None = None, decoder: BeamDecoder | None = None) -> Stream:
        """Start the transcription of live speech. Any number of streams share the engine.

        Args:
            chunk_frames: frames of the front end in a chunk of a streaming model; None for the model's own
                number. A number that the model was not trained with causes more errors, and a warning.
            decoder: made by ``decoder``, for language models and hot words; None for greedy decoding.

        Raises:
            ConfigError: ``chunk_frames`` is impossible, or the model was not trained for streaming.
        """
        config = self.config
        frames: Frames
        if self._chunks is not None:
            if chunk_frames is not None:
                _warn_untrained(config, chunk_frames)
                config = config.replace(chunk_frames=chunk_frames)
            frames = begin_stream(config, self._chunks())
        elif chunk_frames is not None:
            raise ConfigError("this model was not trained for streaming: leave chunk_frames out")
        else:
            frames = WindowedFrames(config, self.engine, self._normalize)
        return Stream(frames, self.vocabulary, config.frame_ms / 1000, decoder)

    def logits(self, waveform: Any, sampling_rate: int | None = None) -> Array:
        """Compute logits (F, V), before the softmax, of samples (T,) or another recording as in
        ``transcribe``.

        F is 0 if the audio is shorter than the receptive field. Audio of more than 20 s is computed in
        overlapping windows.
        """
        samples = reading.read(samples_of.recording(waveform, sampling_rate))
        parts = list(self._windowed().whole([samples]))
        return np.concatenate(parts) if parts else np.zeros((0, self.config.vocab_size), np.float32)

    def _windowed(self) -> WindowedLogits:
        return WindowedLogits(self.engine, self.config, self.vocabulary, self._normalize)


def _warn_untrained(config: ModelConfig, chunk_frames: int) -> None:
    if chunk_frames < 1:
        raise ConfigError(f"chunk_frames must be at least 1, not {chunk_frames}")
    streaming = config.littlefoot.streaming
    trained = (streaming and streaming.trained_chunk_frames) or [config.chunk_frames]
    if chunk_frames not in trained:
        lengths = ", ".join(f"{chunk} ({chunk * config.feature_frame_ms:g} ms)" for chunk in trained)
        log.warning("chunks of %d frames: the model was trained with %s", chunk_frames, lengths)


def load(
    model: str | Path,
    engine: str = "auto",
    threads: int | None = None,
    precision: str = "auto",
    language: str | None = None,
    layers: int | None = None,
    parallel: int = 1,
    kernels: str | None = None,
    bits: int | None = None,
    device: str = "cpu",
) -> Recognizer:
    """Load a model for recognition.

    Args:
        model: a bundled name, the directory of an artifact or checkpoint, or a Hub id.
        engine: ``auto``, ``native`` for the native kernels, or the name of an engine
            (``littlefoot.runtime.registry``).
        threads: processor threads, at least 1; all by default.
        precision: precision of the layers that are not quantized: ``auto``, ``f32`` or ``bf16``.
        language: language of an MMS model, which selects its adapter and alphabet.
        parallel: number of recordings or streams that are computed at the same time; they share the threads.
        layers: number of Transformer layers after which to stop, which is faster. Models made by ``share``
            with ``exits`` were trained for this; other models cause a warning.
        kernels: kernels for a Transformer whose weights are packed: ``auto``, ``amx``, ``avx512bf16``,
            ``avx512``, ``avx2``, ``neon``, ``scalar``, or ``off``, which expands the weights to 8 bits. The
            default is ``$LITTLEFOOT_KERNELS``, or else ``auto``.
        bits: precision to run of a model with nested precisions; None for the one with the most bits.
        device: ``cpu``, or ``cuda`` with the engine ``onnxruntime`` and the package onnxruntime-gpu.

    Raises:
        ConfigError: the model has fewer layers, does not have the precision, or a setting is impossible.
        LittlefootError: as ``artifact.checkpoint.load`` and ``runtime.registry.create``.
    """
    options = LoadOptions(engine, threads, precision, language, layers, bits, parallel, kernels, device)
    return load_with(Specification(str(model), options))


def load_with(specification: Specification) -> Recognizer:
    """Load a model from a specification. Raises the errors of ``load``."""
    options = specification.options
    artifact = checkpoint.load(specification.model, language=options.language)
    layers = options.layers
    if layers is not None and layers != artifact.config.num_hidden_layers:
        trained = artifact.config.littlefoot.exits or [artifact.config.num_hidden_layers]
        artifact = first_layers(artifact, layers)
        if layers not in trained:
            numbers = ", ".join(map(str, trained))
            log.warning("%d layers: the model was trained to stop after %s", layers, numbers)
    if options.bits is not None:
        artifact = at_bits(artifact, options.bits)
    if options.measure:
        measuring.ensure(artifact, options, specification.model)
    settings = (options.engine, options.threads, options.precision)
    whole = create(
        artifact, *settings, parallel=options.parallel, kernels=options.kernels, device=options.device
    )
    chunks = functools.partial(create_stream, artifact, *settings, options.parallel, device=options.device)
    made = Recognizer(artifact, whole, chunks if artifact.config.chunk_frames else None)
    made.specification = specification
    return made


class _Closed(Engine):
    """Placeholder for the engine of a closed recogniser."""

    name = "closed"

    def run(self, waveform: Array) -> Array:
        raise EngineError("the recogniser is closed: load it again")
