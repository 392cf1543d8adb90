"""An artifact on disk is whole, verified and replaced in one step, or it is refused by name."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from artifacts import TOKENS, tiny
from hypothesis import example, given, settings
from hypothesis import strategies as st

from littlefoot.artifact import Artifact, artifact, checksums, safetensors_io, sizes
from littlefoot.errors import ArtifactError
from littlefoot.network.families import FAMILIES

FILES = (
    "config.json",
    "vocab.json",
    "preprocessor_config.json",
    "tokenizer_config.json",
    "model.safetensors",
)
POSITIONAL = "encoder.pos_conv_embed.conv.weight"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return artifact.save(tiny(), tmp_path / "artifact")


def assert_equal(found: Artifact, expected: Artifact) -> None:
    assert found.weights.keys() == expected.weights.keys()
    for name, weight in expected.weights.items():
        assert found.weights[name].dtype == weight.dtype, name
        np.testing.assert_array_equal(found.weights[name], weight, err_msg=name)
    assert found.vocabulary == expected.vocabulary


def header_of(path: Path) -> tuple[dict[str, dict[str, list[int]]], int]:
    """The header of a safetensors file, and where its tensors begin."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), 8 + length


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 0x10
    path.write_bytes(data)


# What is saved comes back


@pytest.mark.parametrize("model_type", FAMILIES)
def test_an_artifact_comes_back_bit_for_bit(model_type: str, tmp_path: Path) -> None:
    made = tiny(model_type=model_type, something_else=[1, {"kept": None}])
    found = artifact.load(artifact.save(made, tmp_path / "a"))
    assert_equal(found, made)
    assert found.config.extra["something_else"] == [1, {"kept": None}]
    assert found.config.littlefoot.to_dict() == {
        "recipe": [{"test": {}}],
        "format_version": artifact.FORMAT_VERSION,
    }
    assert found.preprocessor["do_normalize"] is False
    assert found.card == "# A card\n"


def test_a_pruned_artifact_comes_back_and_its_shapes_are_checked(tmp_path: Path) -> None:
    made = tiny(layer_attention_heads=[1, 2], layer_intermediate_size=[24, 3])
    found = artifact.load(artifact.save(made, tmp_path / "a"))
    assert_equal(found, made)
    assert found.config.own_settings == made.config.own_settings
    assert found.weights["encoder.layers.0.attention.out_proj.weight"].shape == (16, 8)
    with pytest.raises(
        ArtifactError, match=r"q_proj.weight has shape \(8, 16\), but the model needs \(16, 16\)"
    ):
        replace(made, config=made.config.replace(layer_attention_heads=()))


def test_an_artifact_with_a_spectrogram_has_no_weights_for_it(tmp_path: Path) -> None:
    made = tiny(feat_extract_first="log_mel", feat_extract_norm="layer", conv_kernel=[100, 4])
    found = artifact.load(artifact.save(made, tmp_path / "a"))
    assert_equal(found, made)
    assert found.config.own_settings == {"feat_extract_first": "log_mel"}
    assert not any("conv_layers.0" in name for name in found.weights)
    with pytest.raises(ArtifactError, match=r"missing: feature_extractor.conv_layers.0.conv.weight"):
        replace(made, config=made.config.replace(feat_extract_first="conv"))


def test_saving_what_was_loaded_changes_nothing(saved: Path, tmp_path: Path) -> None:
    again = artifact.save(artifact.load(saved), tmp_path / "again")
    assert_equal(artifact.load(again), tiny())
    assert sorted(os.listdir(again)) == sorted(os.listdir(saved))
    for path in saved.iterdir():
        if path.name not in ("model.safetensors", checksums.NAME):  # its metadata stand in any order
            assert (again / path.name).read_bytes() == path.read_bytes(), path.name


def test_weights_of_16_bits_are_counted_and_saved_as_such(tmp_path: Path) -> None:
    """The positional convolution too, which is computed in 32 bits when a file is read."""
    halves = {name: weight.astype(np.float16) for name, weight in tiny().weights.items()}
    first = artifact.save(replace(tiny(), weights=halves), tmp_path / "first")
    loaded = artifact.load(first)
    assert loaded.weights["encoder.pos_conv_embed.conv.weight"].dtype == np.float32
    assert sum(sizes.bytes_by_part(loaded).values()) == sum(weight.nbytes for weight in halves.values())
    second = artifact.save(loaded, tmp_path / "second")
    assert sizes.disk_bytes(second) == sizes.disk_bytes(first)
    assert_equal(artifact.load(second), loaded)


def test_a_silent_kernel_position_stays_silent(tmp_path: Path) -> None:
    made = tiny()
    made.weights[POSITIONAL][:, :, 3] = 0
    assert_equal(artifact.load(artifact.save(made, tmp_path / "a")), made)


@pytest.mark.parametrize("dtype", [np.float16, np.int8])
def test_small_types_are_stored_as_they_are(dtype: type, tmp_path: Path) -> None:
    made = tiny()
    head = (10 * made.weights["lm_head.weight"]).astype(dtype)
    scale = np.full(head.shape[0], 0.1, np.float32)
    weights = {**made.weights, "lm_head.weight": head, "lm_head.weight_scale": scale}
    made = replace(made, weights=weights)
    assert_equal(artifact.load(artifact.save(made, tmp_path / "a")), made)


def test_weights_are_counted_without_what_quantization_adds() -> None:
    made = tiny()
    count = sum(weight.size for weight in made.weights.values())
    quantized = replace(made, weights={**made.weights, "lm_head.weight_scale": np.ones(12, np.float32)})
    assert made.parameters == quantized.parameters == count


# What an artifact cannot be


@pytest.mark.parametrize(
    ("name", "weight", "match"),
    [
        ("lm_head.bias", None, r"missing: lm_head\.bias"),
        ("lm_head.bias", np.zeros(11, np.float32), r"lm_head\.bias has shape \(11,\).* needs \(12,\)"),
        ("encoder.gate", np.zeros(1, np.float32), r"does not have: encoder\.gate"),
        ("encoder.weight_scale", np.zeros(1, np.float32), r"does not have: encoder\.weight_scale"),
    ],
)
def test_weights_must_fit_the_configuration(name: str, weight: np.ndarray | None, match: str) -> None:
    made = tiny()
    weights = {**made.weights, name: weight}
    if weight is None:
        del weights[name]
    with pytest.raises(ArtifactError, match=match):
        replace(made, weights=weights)


def test_the_vocabulary_must_fit_the_outputs() -> None:
    made = tiny()
    longer = replace(made.vocabulary, tokens=(*TOKENS, "X"))
    with pytest.raises(ArtifactError, match="13 tokens, but the model only 12 outputs"):
        replace(made, vocabulary=longer)


# Where it may be written


def test_an_artifact_is_replaced_only_on_request(saved: Path) -> None:
    with pytest.raises(ArtifactError, match="is a littlefoot artifact already"):
        artifact.save(tiny(1), saved)
    assert_equal(artifact.load(saved), tiny(0))
    artifact.save(tiny(1), saved, overwrite=True)
    assert_equal(artifact.load(saved), tiny(1))
    assert os.listdir(saved.parent) == [saved.name]


def test_a_loaded_artifact_outlives_its_replacement(saved: Path) -> None:
    loaded = artifact.load(saved)  # its arrays are views of the file
    artifact.save(tiny(1), saved, overwrite=True)
    assert_equal(loaded, tiny(0))


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_no_artifact_is_never_replaced(overwrite: bool, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.txt").write_text("years of work")
    for target in (full, full / "thesis.txt"):
        with pytest.raises(ArtifactError, match="exists and is not an artifact"):
            artifact.save(tiny(), target, overwrite)
    assert (full / "thesis.txt").read_text() == "years of work"


def test_an_empty_directory_may_be_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    artifact.save(tiny(), ".")
    assert_equal(artifact.load(empty), tiny())


def test_a_link_to_an_artifact_stays_a_link(saved: Path) -> None:
    link = saved.with_name("link")
    link.symlink_to(saved)
    artifact.save(tiny(1), link, overwrite=True)
    assert link.is_symlink()
    assert_equal(artifact.load(saved), tiny(1))


def test_where_nothing_can_be_written_the_error_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ArtifactError, match=r"file/artifact cannot be written \(.*/file'\)"):
        artifact.save(tiny(), tmp_path / "file" / "artifact")


FULL_DISK = """
import resource, sys
from artifacts import tiny
from littlefoot import artifact
from littlefoot.errors import ArtifactError
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
try:
    artifact.save(tiny(1), sys.argv[1], overwrite=True)
except ArtifactError as error:
    print(error)
"""


def test_a_full_disk_leaves_the_old_artifact(saved: Path) -> None:
    done = run(FULL_DISK, saved)
    assert "cannot be written" in done.stdout, done.stderr
    assert os.listdir(saved.parent) == [saved.name]
    assert_equal(artifact.load(saved), tiny(0))


# The audit hook sees every operation on files that Python does, so the save dies before each of them in turn.
KILLED = """
import os, sys
from artifacts import tiny
from littlefoot import artifact
target, made = sys.argv[1], tiny(1)
artifact.save(made, target + "-warm-up")
deaths = 0
while True:
    child = os.fork()
    if not child:
        seen = 0
        def hook(event, arguments):
            global seen
            if event in ("open", "ctypes.dlopen") or event.startswith(("os.", "shutil.", "tempfile.")):
                seen += 1
                if seen > deaths:
                    os._exit(9)
        sys.addaudithook(hook)
        artifact.save(made, target, overwrite=True)
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
        break
    deaths += 1
    found = artifact.load(target).weights["lm_head.bias"][0]
    old, new = tiny(0).weights["lm_head.bias"][0], made.weights["lm_head.bias"][0]
    assert found in (old, new), (deaths, found)
    print("old" if found == old else "new")
print(deaths)
"""


def test_a_kill_at_any_moment_leaves_the_old_artifact_or_the_new_one(saved: Path) -> None:
    done = run(KILLED, saved)
    assert done.returncode == 0, done.stderr
    *states, deaths = done.stdout.split()
    assert int(deaths) > 15
    assert states == sorted(states, reverse=True)  # first old, then new
    assert set(states) == {"old", "new"}
    assert_equal(artifact.load(saved), tiny(1))


def test_where_directories_cannot_be_exchanged_they_are_renamed(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())  # a C library without renameat2
    artifact.save(tiny(1), saved, overwrite=True)
    assert_equal(artifact.load(saved), tiny(1))
    assert os.listdir(saved.parent) == [saved.name]


def run(script: str, saved: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, str(saved)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1] / "support",
        check=False,
    )


# What is damaged is refused


@pytest.mark.parametrize(
    "tensor", ["wav2vec2.encoder.layers.1.feed_forward.output_dense.weight", "lm_head.bias"]
)
def test_a_damaged_tensor_is_named(saved: Path, tensor: str) -> None:
    path = saved / "model.safetensors"
    header, start = header_of(path)
    flip(path, start + header[tensor]["data_offsets"][0] + 1)
    with pytest.raises(ArtifactError, match=rf"artifact: damaged tensors .*: {tensor}: get or make"):
        artifact.load(saved)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_cut_off_is_named(saved: Path, name: str) -> None:
    path = saved / name
    whole = path.read_bytes()
    for length in (0, 1, 7, 8, 9, len(whole) // 2, len(whole) - 3):
        path.write_bytes(whole[:length])
        with pytest.raises(ArtifactError, match=name):
            artifact.load(saved)


@pytest.mark.parametrize("name", ["config.json", "vocab.json", "model.safetensors"])
def test_a_missing_file_is_named(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(ArtifactError, match=name):
        artifact.load(saved)


@pytest.mark.parametrize("version", [0, 1, 3, "1", None, [1]])
def test_other_format_versions_are_refused(saved: Path, version: object) -> None:
    edit(saved / "config.json", lambda values: values["littlefoot"].update(format_version=version))
    with pytest.raises(ArtifactError, match=r"format version .* reads version 2: install a newer one"):
        artifact.load(saved)


def test_the_size_of_the_file_is_known_before_it_is_written(saved: Path) -> None:
    loaded = artifact.load(saved)
    assert artifact.weights_file_bytes(loaded) == (saved / "model.safetensors").stat().st_size
    rng = np.random.default_rng(0)
    kinds = [np.float64, np.float32, np.float16, np.int64, np.int32, np.int16, np.int8, np.uint8, np.bool_]
    many = {
        f"{number}{'x' * int(rng.integers(9))}": np.zeros(rng.integers(1, 999, size=number % 3), kind)
        for number, kind in enumerate(kinds * 20)
    }
    path = saved.parent / "many.safetensors"
    safetensors_io.write(path, many, {"format": "pt"})
    assert safetensors_io.file_bytes(many, {"format": "pt"}) == path.stat().st_size


@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a mapping is listed by Linux")
def test_mapped_tensors_give_their_memory_back_and_keep_their_values(tmp_path: Path) -> None:
    def resident() -> int:
        """Kilobytes of the file in this process's memory."""
        lines = Path("/proc/self/smaps").read_text().splitlines()
        first = next(i for i, line in enumerate(lines) if line.endswith(str(path)))
        return int(next(line for line in lines[first:] if line.startswith("Rss:")).split()[1])

    path = tmp_path / "model.safetensors"
    own = np.arange(300_000, dtype=np.float32)
    safetensors_io.write(path, {"a": own, "b": own + 1}, {"format": "pt"})
    tensors, _ = safetensors_io.read(path)
    assert np.array_equal(tensors["a"], own)
    assert resident() > 1000
    safetensors_io.release(tensors["a"][5:])
    safetensors_io.release(tensors["b"].reshape(3, -1))
    assert resident() < 200
    assert np.array_equal(tensors["a"], own)
    assert np.array_equal(tensors["b"], own + 1)
    safetensors_io.release(own)
    assert own[-1] == len(own) - 1


def test_artifacts_of_before_checksums_were_packed_are_read(saved: Path) -> None:
    path = saved / "model.safetensors"
    tensors, metadata = safetensors_io.read(path)
    named = safetensors_io.checksums(tensors)
    safetensors_io.write(path, tensors, {**metadata, "checksums": json.dumps(named)})
    artifact.write_checksums(saved)
    artifact.load(saved)
    named["lm_head.bias"] = "0" * 32
    safetensors_io.write(path, tensors, {**metadata, "checksums": json.dumps(named)})
    with pytest.raises(ArtifactError, match=r"damaged tensors .*: lm_head\.bias"):
        artifact.load(saved)


def test_a_tensor_too_few_is_noticed(saved: Path) -> None:
    path = saved / "model.safetensors"
    tensors, metadata = safetensors_io.read(path)
    del tensors["lm_head.bias"]
    safetensors_io.write(path, tensors, metadata)
    with pytest.raises(ArtifactError, match="tensors are missing or added"):
        artifact.load(saved)


def test_weights_without_checksums_are_refused(saved: Path) -> None:
    path = saved / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"checksums"', b'"checkfoos"'))
    with pytest.raises(ArtifactError, match="no checksums"):
        artifact.load(saved)


# The list of checksums


@pytest.mark.parametrize("name", [*FILES[:4], checksums.NAME])
def test_every_flipped_bit_of_a_small_file_is_refused(saved: Path, name: str) -> None:
    whole = (saved / name).read_bytes()
    card = whole.find(b"  README.md") - 64  # which may be edited, so that its checksum is nothing to us
    for position in range(len(whole)):
        if name == checksums.NAME and card <= position < card + 64 + len("  README.md\n"):
            continue
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        (saved / name).write_bytes(damaged)
        with pytest.raises(ArtifactError):
            artifact.load(saved)


def test_the_list_is_one_of_sha256sum(saved: Path) -> None:
    if shutil.which("sha256sum") is None:
        pytest.skip("sha256sum is not installed")
    done = subprocess.run(
        ["sha256sum", "-c", checksums.NAME], cwd=saved, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert sorted(done.stdout.split("\n")[:-1]) == sorted(f"{name}: OK" for name in artifact.FILES)


def test_weights_of_another_artifact_are_refused(saved: Path) -> None:
    other = artifact.save(tiny(1), saved.with_name("other"))
    shutil.copy(other / "model.safetensors", saved)
    with pytest.raises(ArtifactError, match=r"model\.safetensors belongs to another artifact"):
        artifact.load(saved)


def test_a_file_that_was_added_is_refused(saved: Path) -> None:
    (saved / "added_tokens.json").write_text('{"<x>": 12}')
    with pytest.raises(ArtifactError, match=r"added_tokens\.json is not in littlefoot\.sha256"):
        artifact.load(saved)


def test_the_list_must_be_there(saved: Path) -> None:
    (saved / checksums.NAME).unlink()
    with pytest.raises(ArtifactError, match=r"littlefoot\.sha256 is missing"):
        artifact.load(saved)


def test_the_card_may_be_edited(saved: Path) -> None:
    (saved / "README.md").write_text("# Mine\n")
    assert artifact.load(saved).card == "# Mine\n"


def test_keys_that_nobody_knows_are_refused(saved: Path) -> None:
    edit(saved / "config.json", lambda values: values.update(do_stable_layer_nrom=True))
    with pytest.raises(ArtifactError, match="keys that this version does not support: do_stable_layer_nrom"):
        artifact.load(saved)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("preprocessor_config.json", "do_normalize", "no"),
        ("preprocessor_config.json", "sampling_rate", 8000),
        ("config.json", "num_hidden_layers", 3),
        ("config.json", "vocab_size", 10**12),
        ("config.json", "pad_token_id", 12),
        ("vocab.json", "E", 6),
        ("vocab.json", "E", "5"),
    ],
)
def test_settings_that_do_not_fit_are_refused(saved: Path, name: str, key: str, value: object) -> None:
    edit(saved / name, lambda values: values.update({key: value}))
    with pytest.raises(ArtifactError, match="artifact: "):
        artifact.load(saved)


def edit(path: Path, change: Callable[[dict], object]) -> None:
    values = json.loads(path.read_text(encoding="utf-8"))
    change(values)
    path.write_text(json.dumps(values), encoding="utf-8")
    artifact.write_checksums(path.parent)


@pytest.fixture(scope="module")
def specimen(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """An artifact to be damaged again and again, and its files as they were."""
    directory = artifact.save(tiny(), tmp_path_factory.mktemp("fuzz") / "artifact")
    return directory, {name: (directory / name).read_bytes() for name in FILES}


@settings(max_examples=400, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(FILES),
    place=st.floats(0, 1),
    removed=st.integers(0, 6),
    inserted=st.one_of(st.binary(max_size=6), st.sampled_from([b"0", b"-", b"[", b'""', b"null", b"1e9"])),
    in_header=st.booleans(),
)
@example(name="model.safetensors", place=0.0, removed=8, inserted=b"\xff" * 8, in_header=True)
@example(name="model.safetensors", place=0.0, removed=8, inserted=b"\0" * 8, in_header=True)
def test_damage_is_refused_or_changes_no_weight(
    specimen: tuple[Path, dict[str, bytes]],
    name: str,
    place: float,
    removed: int,
    inserted: bytes,
    in_header: bool,
) -> None:
    directory, files = specimen
    whole = files[name]
    end = header_of_bytes(whole) if in_header and name.endswith("safetensors") else len(whole)
    position = int(place * (end - 1))
    try:
        (directory / name).write_bytes(whole[:position] + inserted + whole[position + removed :])
        try:
            found = artifact.load(directory)
        except ArtifactError:
            return
        if name != "model.safetensors":
            assert (directory / name).read_bytes() == whole
        for weight, expected in tiny().weights.items():
            np.testing.assert_array_equal(found.weights[weight], expected, err_msg=weight)
    finally:
        (directory / name).write_bytes(whole)


def header_of_bytes(data: bytes) -> int:
    (length,) = struct.unpack("<Q", data[:8])
    return int(8 + length)
