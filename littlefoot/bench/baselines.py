"""Run models by other libraries, as baselines, if their packages are installed.

Each is configured as its documentation advises for one processor, and gets the same audio and number of
threads. The packages are not dependencies of littlefoot.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from littlefoot.artifact import Artifact, artifact, checkpoint
from littlefoot.artifact.json_files import read_json
from littlefoot.audio import reading
from littlefoot.bench.entries import Entry, Kind, Subject, Waveform
from littlefoot.decode.greedy import greedy
from littlefoot.network.config import ModelConfig

CHECKPOINT = "checkpoint"


@dataclass(frozen=True)
class Baseline:
    """A library that runs models."""

    kind: Kind
    packages: tuple[str, ...]
    """Required packages, by the names of their modules."""


class CTCText:
    """Conversion between a network's input and output and text, as in littlefoot."""

    def __init__(self, folder: Path) -> None:
        """Read the vocabulary and the preprocessor settings of the checkpoint in ``folder``."""
        self._config = ModelConfig.from_dict(read_json(folder / artifact.CONFIG))
        self._vocabulary, preprocessor = artifact.read_text_side(folder, self._config)
        self._normalize = bool(preprocessor["do_normalize"])

    def batch(self, waveform: Waveform) -> npt.NDArray[np.float32]:
        """Turn samples (T,) into the network's input (1, T)."""
        prepared = reading.normalize(waveform) if self._normalize else waveform
        return np.asarray(prepared[None], np.float32)

    def text(self, logits: npt.NDArray[Any]) -> str:
        """Decode logits (F, V) greedily."""
        return greedy(logits, self._vocabulary, self._config.frame_ms / 1000).text


def _full_precision(entry: Entry, folder: Path) -> Artifact:
    """Load the model in float32, and save it as a checkpoint for transformers in ``folder``.

    Raises ConfigError if transformers has no such models.
    """
    loaded = checkpoint.load(entry.source, entry.language)
    artifact.check_transformers(loaded)
    weights = {name: weight.astype(np.float32) for name, weight in loaded.weights.items()}
    full = replace(loaded, weights=weights)
    artifact.save(full, folder / CHECKPOINT)
    return full


def _description(full: Artifact, size: int, macs: dict[str, int] | None = None) -> dict[str, Any]:
    """Describe a row; ``size`` is the number of bytes of the weights as this library stores them."""
    layers = full.config.num_hidden_layers
    return {"parameters": full.parameters, "layers": layers, "bytes": size, "macs": macs or {}}


def _torch_model(folder: Path, half: bool) -> Any:
    import torch
    from transformers import AutoModelForCTC

    dtype = torch.bfloat16 if half else torch.float32
    return AutoModelForCTC.from_pretrained(folder / CHECKPOINT, dtype=dtype).eval()


@dataclass(frozen=True)
class Transformers:
    """transformers on PyTorch, in float32 or bfloat16."""

    half: bool = False

    def prepare(self, entry: Entry, folder: Path, samples: int) -> dict[str, Any]:
        from littlefoot.bench.macs import macs

        full = _full_precision(entry, folder)
        counts = {"bf16" if self.half else "f32": sum(macs(full.config, samples).values())}
        return _description(full, full.parameters * (2 if self.half else 4), counts)

    def load(self, entry: Entry, folder: Path, threads: int) -> Subject:
        return TransformersSubject(folder, self.half, threads)


class TransformersSubject:
    engine = "torch"

    def __init__(self, folder: Path, half: bool, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self.precision = "bf16" if half else "f32"
        self._model = _torch_model(folder, half)
        self._text = CTCText(folder / CHECKPOINT)

    def transcribe(self, waveform: Waveform) -> str:
        import torch

        with torch.inference_mode():
            batch = torch.from_numpy(self._text.batch(waveform)).to(self._model.dtype)
            return self._text.text(self._model(batch).logits[0].float().numpy())


class ONNXRuntimeInt8:
    """onnxruntime's dynamic quantization of the matrix products, which is faster than its default."""

    FILE = "int8.onnx"

    def prepare(self, entry: Entry, folder: Path, samples: int) -> dict[str, Any]:
        from onnxruntime.quantization import QuantType, quantize_dynamic

        from littlefoot.runtime import graph

        full = _full_precision(entry, folder)
        graph.build(full).save(folder / "float.onnx")
        quantize_dynamic(
            folder / "float.onnx",
            folder / self.FILE,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            weight_type=QuantType.QInt8,
        )
        return _description(full, (folder / self.FILE).stat().st_size)

    def load(self, entry: Entry, folder: Path, threads: int) -> Subject:
        return ONNXRuntimeSubject(folder / self.FILE, folder, threads)


class ONNXRuntimeSubject:
    engine, precision = "onnxruntime", "dynamic int8 + f32"

    def __init__(self, path: Path, folder: Path, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._text = CTCText(folder / CHECKPOINT)

    def transcribe(self, waveform: Waveform) -> str:
        (logits,) = self._session.run(None, {"waveform": self._text.batch(waveform)})
        return self._text.text(logits[0])


class NNCF:
    """A traced export, quantized by NNCF for OpenVINO; calibrated with the bundled samples."""

    FILE = "nncf.xml"

    def prepare(self, entry: Entry, folder: Path, samples: int) -> dict[str, Any]:
        import nncf
        import openvino
        import torch

        from littlefoot.audio import manifest

        full = _full_precision(entry, folder)
        text = CTCText(folder / CHECKPOINT)
        clips = [text.batch(reading.read(sample.path)) for sample in manifest.read(checkpoint.SAMPLES)]
        traced = openvino.convert_model(
            _torch_model(folder, half=False), example_input=torch.from_numpy(clips[0])
        )
        quantized = nncf.quantize(
            traced,
            nncf.Dataset(clips),
            model_type=nncf.ModelType.TRANSFORMER,
            preset=nncf.QuantizationPreset.MIXED,
        )
        openvino.save_model(quantized, folder / self.FILE)
        return _description(full, (folder / self.FILE).with_suffix(".bin").stat().st_size)

    def load(self, entry: Entry, folder: Path, threads: int) -> Subject:
        return OpenVINOSubject(folder / self.FILE, folder, threads)


class OpenVINOSubject:
    engine = "openvino"

    def __init__(self, path: Path, folder: Path, threads: int) -> None:
        from littlefoot.runtime.openvino import openvino_core

        core = openvino_core()
        rest = "bf16" if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"
        settings = {
            "INFERENCE_PRECISION_HINT": rest,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
        }
        self.precision = f"int8 + {rest}"
        self._request = core.compile_model(path, "CPU", settings).create_infer_request()
        self._text = CTCText(folder / CHECKPOINT)

    def transcribe(self, waveform: Waveform) -> str:
        logits = self._request.infer([self._text.batch(waveform)], share_inputs=True)[0]
        return self._text.text(np.asarray(logits[0], np.float32))


class CTranslate2:
    """CTranslate2 in int8."""

    FOLDER = "ctranslate2"

    def prepare(self, entry: Entry, folder: Path, samples: int) -> dict[str, Any]:
        from ctranslate2.converters import TransformersConverter

        full = _full_precision(entry, folder)
        TransformersConverter(str(folder / CHECKPOINT)).convert(
            str(folder / self.FOLDER), quantization="int8"
        )
        return _description(full, (folder / self.FOLDER / "model.bin").stat().st_size)

    def load(self, entry: Entry, folder: Path, threads: int) -> Subject:
        return CTranslate2Subject(folder / self.FOLDER, folder, threads)


class CTranslate2Subject:
    engine, precision = "ctranslate2", "int8 + f32"

    def __init__(self, path: Path, folder: Path, threads: int) -> None:
        import ctranslate2

        self._model = ctranslate2.models.Wav2Vec2(
            str(path), device="cpu", compute_type="int8", intra_threads=threads, inter_threads=1
        )
        self._text = CTCText(folder / CHECKPOINT)

    def transcribe(self, waveform: Waveform) -> str:
        import ctranslate2

        batch = ctranslate2.StorageView.from_array(np.ascontiguousarray(self._text.batch(waveform)[:, None]))
        return self._text.text(np.array(self._model.encode(batch, to_cpu=True))[0])


class FasterWhisper:
    """A Whisper model in the format of faster-whisper, in int8, decoded greedily; a different model."""

    def prepare(self, entry: Entry, folder: Path, samples: int) -> dict[str, Any]:
        size = (Path(entry.source) / "model.bin").stat().st_size
        return {"bytes": size, "macs": {}}

    def load(self, entry: Entry, folder: Path, threads: int) -> Subject:
        return FasterWhisperSubject(entry, threads)


class FasterWhisperSubject:
    engine, precision = "ctranslate2", "int8 + f32"

    def __init__(self, entry: Entry, threads: int) -> None:
        from faster_whisper import WhisperModel

        self._language = entry.language
        self._model = WhisperModel(
            entry.source, device="cpu", compute_type="int8", cpu_threads=threads, local_files_only=True
        )

    def transcribe(self, waveform: Waveform) -> str:
        segments, _ = self._model.transcribe(waveform, language=self._language, beam_size=1)
        return " ".join(segment.text.strip() for segment in segments)


BASELINES: dict[str, Baseline] = {
    "transformers": Baseline(Transformers(), ("torch", "transformers")),
    "transformers-bf16": Baseline(Transformers(half=True), ("torch", "transformers")),
    "onnxruntime-int8": Baseline(ONNXRuntimeInt8(), ("onnxruntime",)),
    "openvino-nncf": Baseline(NNCF(), ("openvino", "nncf", "torch", "transformers")),
    "ctranslate2": Baseline(CTranslate2(), ("ctranslate2", "torch", "transformers")),
    "faster-whisper": Baseline(FasterWhisper(), ("faster_whisper",)),
}
OF_THE_SAME_MODEL = tuple(name for name in BASELINES if name != "faster-whisper")
"""Baselines that run the first model of the run by default."""
