"""The readers of models: artifacts, checkpoints, safetensors, compiled models; and the native package."""

from __future__ import annotations

import atexit
import json
import os
import random
import shutil
import struct
import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from artifacts import few_bits, noise, tiny
from campaign import Target

from littlefoot.artifact import Artifact, artifact, checkpoint, checksums, safetensors_io, tokenizer
from littlefoot.artifact.json_files import read_json
from littlefoot.artifact.linear import packed_layers
from littlefoot.errors import ArtifactError, EngineError
from littlefoot.network import names
from littlefoot.network.config import ModelConfig
from littlefoot.runtime import cache as cache_of_models
from littlefoot.runtime.native import engine as native
from littlefoot.runtime.native.layers import Scales
from littlefoot.runtime.registry import create

SIDE = (artifact.CONFIG, tokenizer.VOCABULARY, artifact.PREPROCESSOR, tokenizer.SETTINGS)
WAVEFORM = noise(1200)


@cache
def folder() -> Path:
    """Where a process keeps its files."""
    path = Path(tempfile.mkdtemp(prefix="littlefoot-attack-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    os.environ["LITTLEFOOT_CACHE"] = str(path / "cache")
    return path


@cache
def model(kind: str) -> Artifact:
    """A tiny one."""
    small: dict[str, Any] = {"num_hidden_layers": 1}
    return few_bits(2, 8, positions=8, front_end=8, **small) if kind == "packed" else tiny(**small)


@cache
def saved(kind: str, foreign: bool = False) -> Path:
    """Its directory; or one as others write them, without checksums and a section of ours."""
    path = artifact.save(model(kind), folder() / f"{kind}{'-foreign' * foreign}")
    if foreign:
        (path / checksums.NAME).unlink()
        values = json.loads((path / artifact.CONFIG).read_text())
        del values["littlefoot"]
        (path / artifact.CONFIG).write_text(json.dumps(values))
    return path


def files(kind: str, *chosen: str, foreign: bool = False) -> Callable[[], list[bytes]]:
    """Their contents, each a seed."""
    return lambda: [(saved(kind, foreign) / name).read_bytes() for name in chosen]


def replaced(data: bytes, original: bytes, kind: str, chosen: tuple[str, ...], foreign: bool = False) -> Path:
    """The directory, with the file that an input was made from replaced by it."""
    directory = saved(kind, foreign)
    for name in chosen:
        path = directory / name
        whole = _whole(path)
        path.write_bytes(data if whole == original else whole)
    return directory


@cache
def _whole(path: Path) -> bytes:
    return path.read_bytes()


def load_guarded(data: bytes, original: bytes, kind: str, chosen: tuple[str, ...]) -> None:
    """Every byte is under a checksum: the model as it was, or refused."""
    directory = replaced(data, original, kind, chosen)
    artifact.load(directory)
    assert data == original, "a change was not noticed"


def load_signed(data: bytes, original: bytes, kind: str, chosen: tuple[str, ...]) -> None:
    """With a list of checksums that is right: whatever is loaded can be run, or an engine refuses it."""
    directory = replaced(data, original, kind, chosen)
    artifact.write_checksums(directory)
    run(artifact.load(directory))


def load_resigned_weights(data: bytes, original: bytes, kind: str) -> None:
    """Weights whose tensors have right checksums too."""
    directory = replaced(data, original, kind, (artifact.WEIGHTS,))
    tensors, _ = safetensors_io.read(directory / artifact.WEIGHTS)
    digests = safetensors_io.checksums(tensors)
    config = ModelConfig.from_dict(read_json(directory / artifact.CONFIG))
    found = names.from_checkpoint(tensors, config)
    assert len(digests) == len(tensors)
    run(Artifact(config, found, model(kind).vocabulary, dict(model(kind).preprocessor)))


def load_foreign(data: bytes, original: bytes, chosen: tuple[str, ...]) -> None:
    """A checkpoint without checksums."""
    run(checkpoint.load(replaced(data, original, "plain", chosen, foreign=True)))


def run(loaded: Artifact) -> None:
    """Compute some frames, if the model is not made huge by what was changed."""
    if loaded.config.receptive_field > len(WAVEFORM):
        return
    kernels = native.available()
    with np.errstate(all="ignore"):  # weights may be any numbers
        for kind in kernels[:1] if packed_layers(loaded) and kernels else ("off",):
            logits = create(loaded, "onnxruntime", 1, "f32", cached=False, kernels=kind).run(WAVEFORM)
    frames = loaded.config.frames(len(WAVEFORM))
    assert logits.shape == (frames, loaded.config.vocab_size), logits.shape


def read_tensors(data: bytes, original: bytes) -> None:
    """No more memory than the file's, twice for bfloat16."""
    path = folder() / "some.safetensors"
    path.write_bytes(data)
    tensors, _ = safetensors_io.read(path)
    size = sum(tensor.nbytes for tensor in tensors.values())
    assert size <= 2 * len(data), f"{len(data)} bytes became {size}"


def some_tensors() -> list[bytes]:
    path = folder() / "good.safetensors"
    kinds = (np.float32, np.float16, np.int8, np.uint8, np.int64, np.bool_)
    safetensors_io.write(
        path, {f"tensor.{n}": np.ones((3, n + 1), kind) for n, kind in enumerate(kinds)}, {"a": "b"}
    )
    header = b'{"x":{"dtype":"BF16","shape":[2,2],"data_offsets":[0,8]}}'
    return [path.read_bytes(), struct.pack("<Q", len(header)) + header + bytes(8)]


def read_list(data: bytes, original: bytes) -> None:
    directory = replaced(data, original, "plain", (checksums.NAME,))
    artifact.load(directory)
    found = checksums.read(directory)
    expected = {
        path.name: checksums.of_file(path) for path in directory.iterdir() if path.name != checksums.NAME
    }
    expected.pop(artifact.CARD)
    assert found is not None
    assert {name: found.get(name) for name in expected} == expected, "a change was not noticed"


# Compiled models


@cache
def compiled() -> tuple[Path, bytes, np.ndarray]:
    """An entry of the cache, its content, and what the model says."""
    folder()
    logits = create(model("plain"), "openvino", 1, "f32").run(WAVEFORM)
    (entry,) = (folder() / "cache").iterdir()
    return entry, entry.read_bytes(), logits


def start_from_cache(data: bytes, original: bytes) -> None:
    """A damaged entry is made again; nothing else is said."""
    entry, _, expected = compiled()
    entry.unlink(missing_ok=True)
    entry.write_bytes(data)
    found = create(model("plain"), "openvino", 1, "f32").run(WAVEFORM)
    assert np.array_equal(found, expected), "another result"
    if data != original:
        raise ArtifactError("the entry was discarded, and the model compiled again")


def read_entry(data: bytes, original: bytes) -> None:
    """What the cache gives the engine is what was stored, or nothing."""
    folder()
    path = cache_of_models.directory() / "entry.blob"
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    found = cache_of_models.load(path.name)
    cache_of_models.mappings.clear()  # which a process keeps for as long as it lives
    if found is None:
        raise ArtifactError("the entry was discarded")
    assert data == original, "a change was not noticed"
    assert bytes(found) in original


# Native calls


def call_natively(data: bytes, original: bytes) -> None:
    """Calls that the input spells: the package refuses what is impossible, and computes the rest."""
    import littlefoot_native

    random_ = random.Random(data)
    numbers = (
        0,
        1,
        2,
        3,
        4,
        5,
        8,
        15,
        16,
        17,
        24,
        40,
        48,
        255,
        65536,
        2**31,
        2**32,
        2**62,
        2**63 - 1,
        -1,
        -8,
    )
    kernels = ("auto", *littlefoot_native.available(), "avx1024", "")
    calls = list(data[:60])

    def number() -> int:
        return random_.choice(numbers) if random_.random() < 0.2 else random_.choice((1, 2, 8, 16))

    def array(kind: Any, axes: int) -> np.ndarray:
        sizes = [
            random_.choice((0, 1, 2, 3, 5, 16, 48)) if random_.random() < 0.3 else 16 for _ in range(axes)
        ]
        count = int(np.prod(sizes))
        made = np.frombuffer(random_.randbytes(count * np.dtype(kind).itemsize), kind).reshape(sizes)
        if random_.random() < 0.1 and made.size:
            room = np.zeros(made.nbytes + 8, np.uint8)
            made = room[1 : 1 + made.nbytes].view(kind).reshape(sizes)
        return made[:, ::-1] if axes > 1 and random_.random() < 0.05 else made

    def levels(bits: int) -> list[int]:
        count = (
            random_.choice((0, 2, 3, 4, 8, 16))
            if random_.random() < 0.2
            else 1 << bits
            if 0 < bits < 8
            else 0
        )
        return [
            random_.randrange(-200, 200) if random_.random() < 0.02 else i - count // 2 for i in range(count)
        ]

    def maybe(kind: Any) -> np.ndarray | None:
        return None if random_.random() < 0.5 else array(kind, 1)

    def scales() -> Any:
        if random_.random() < 0.3:
            return None
        vectors = array(np.float32, 1), maybe(np.float32), maybe(np.float32)
        return Scales(vectors[0], random_.random(), number(), *vectors[1:])

    def product() -> Any:
        bits, columns = random_.choice((1, 2, 3, 4, 8, 16, 32, 5, 0)), number()
        weights = array(np.uint8, 2)
        if random_.random() < 0.8:
            columns = max(1, weights.shape[1] * 8 // max(bits, 1))
        return littlefoot_native.Product(
            weights, columns, bits, levels(bits), random_.choice((1, 2, 3, 4, 8, 9)), random_.choice(kernels)
        )

    refused = 0
    program = littlefoot_native.Program(16, random_.choice((1, 2, 3)), random_.choice(kernels[:2]))
    front_end = littlefoot_native.FrontEnd(random_.choice((1, 2)), random_.choice(kernels[:2]))
    steps: list[Callable[[], Any]] = [
        lambda: product().multiply(array(np.float32, 2)),
        lambda: product().multiply(
            array(np.uint8, 2), None if random_.random() < 0.5 else array(np.int32, 2)
        ),
        lambda: program.linear(
            number() % 4,
            product(),
            scales(),
            maybe(np.float32),
            random_.choice(("none", "gelu", "relu", "x")),
            number() - 2,
        ),
        lambda: program.convolution(
            number() % 4,
            [product()] * random_.choice((0, 1, 2, 4)),
            number(),
            number() - 1,
            scales(),
            maybe(np.float32),
        ),
        lambda: program.layer_norm(number() % 4, maybe(np.float32), maybe(np.float32), 1e-5),
        lambda: program.add(number() % 4, number() % 4),
        lambda: program.activate(number() % 4, random_.choice(("gelu", "relu", "none", ""))),
        lambda: program.add_vector(number() % 4, array(np.float32, 1)),
        lambda: program.attention(
            (number() % 4, number() - 1),
            (number() % 4, number() - 1),
            (number() % 4, number() - 1),
            number(),
            number(),
            random_.random(),
            random_.choice((0.0, 0.1)),
            random_.choice((0.0, 0.1)),
            number() - 2,
        ),
        lambda: program.run(
            array(np.float32, 2), [array(np.float32, 3) for _ in range(random_.randrange(3))]
        ),
        lambda: front_end.waveform_layer(
            array(np.float32, 2),
            number(),
            maybe(np.float32),
            random_.choice(("none", "time", "channels", "x")),
            maybe(np.float32),
            maybe(np.float32),
            1e-5,
            "gelu",
        ),
        lambda: front_end.window_layer(
            product(),
            number(),
            number(),
            scales(),
            maybe(np.float32),
            random_.choice(("none", "channels", "time")),
            maybe(np.float32),
            maybe(np.float32),
            1e-5,
            "relu",
        ),
        lambda: front_end.run(array(np.float32, 1)),
        lambda: front_end.run(noise(random_.choice((10, 500, 3000)))),
        lambda: program.run(noise(16 * 40).reshape(40, 16)),
    ]
    for call in calls:
        try:
            steps[call % len(steps)]()
        except (ValueError, TypeError):
            refused += 1
    if refused and data != original:
        raise EngineError(f"{refused} calls were refused")


def _target(
    name: str, chosen: tuple[str, ...], attempt: Callable[..., None], kind: str = "plain", **more: Any
) -> Target:
    return Target(name, files(kind, *chosen), partial(attempt, kind=kind, chosen=chosen), **more)


TARGETS = [
    _target("artifact, small files", SIDE, load_guarded, share=2),
    _target("artifact, weights", (artifact.WEIGHTS,), load_guarded, share=2),
    Target("artifact, list of checksums", files("plain", checksums.NAME), read_list),
    _target("artifact, small files with right checksums", SIDE, load_signed, share=2, slowness=4),
    Target(
        "artifact, weights with right checksums",
        files("plain", artifact.WEIGHTS),
        partial(load_resigned_weights, kind="plain"),
        share=2,
        slowness=4,
    ),
    Target(
        "artifact, weights of few bits with right checksums",
        files("packed", artifact.WEIGHTS),
        partial(load_resigned_weights, kind="packed"),
        share=2,
        slowness=4,
    ),
    Target(
        "checkpoint of others, small files",
        files("plain", *SIDE, foreign=True),
        partial(load_foreign, chosen=SIDE),
        share=2,
        slowness=4,
    ),
    Target("safetensors", some_tensors, read_tensors, share=3),
    Target("compiled model, as it is read", lambda: [compiled()[1]], read_entry),
    Target("compiled model", lambda: [compiled()[1]], start_from_cache, slowness=20),
]
if native.available():
    TARGETS.append(Target("native calls", lambda: [bytes(range(60)), bytes(60)], call_natively, share=3))
