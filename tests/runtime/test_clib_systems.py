"""liblittlefoot for other systems and processors: built by cross compilers, and run by Wine and QEMU."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import clib
import numpy as np
import pytest
from artifacts import noise
from test_clib import MODELS, SAMPLES, on_kernels, samples_of, varied, write_wav

from littlefoot.artifact import checkpoint
from littlefoot.runtime.native import model_file

pytestmark = pytest.mark.slow

STREAMING = "littlefoot-en-live"


@dataclass
class System:
    """A system whose programs another program runs."""

    folder: Path
    """The build."""
    runner: list[str]
    ending: str
    kernels: str
    """Of the processor that runs them."""
    environment: dict[str, str]

    def run(self, program: str, *arguments: str | Path, given: bytes | None = None) -> tuple[int, str, str]:
        done = subprocess.run(
            [*self.runner, self.folder / f"{program}{self.ending}", *arguments],
            input=given,
            capture_output=True,
            env=self.environment,
            check=False,
        )
        return done.returncode, lines(done.stdout), lines(done.stderr)

    def recognise(self, *arguments: str | Path, given: bytes | None = None) -> tuple[int, str, str]:
        return self.run("littlefoot-run", *arguments, given=given)


def lines(output: bytes) -> str:
    return output.decode().replace("\r\n", "\n")


@pytest.fixture(scope="module")
def windows(tmp_path_factory: pytest.TempPathFactory) -> System:
    compiler, wine = "x86_64-w64-mingw32-g++-posix", Path("/usr/lib/wine/wine64")
    missing = clib.missing_tools("cmake", compiler) + [str(wine)] * (not wine.exists())
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}: apt-get install g++-mingw-w64-x86-64-posix wine64")
    folder = tmp_path_factory.mktemp("windows")
    clib.build(
        folder / "build",
        "-DCMAKE_SYSTEM_NAME=Windows",
        "-DCMAKE_SYSTEM_PROCESSOR=x86_64",
        f"-DCMAKE_CXX_COMPILER={compiler}",
    )
    environment = {**os.environ, "WINEPREFIX": str(folder / "wine"), "WINEDEBUG": "-all"}
    system = System(folder / "build", [str(wine)], ".exe", "avx2", environment)
    system.recognise("--version")  # makes Wine's folders, and tells of it
    return system


@pytest.fixture(scope="module")
def arm(tmp_path_factory: pytest.TempPathFactory) -> System:
    compiler = "aarch64-linux-gnu-g++"
    if missing := clib.missing_tools("cmake", compiler, "qemu-aarch64"):
        pytest.skip(f"not installed: {', '.join(missing)}: apt-get install g++-aarch64-linux-gnu qemu-user")
    folder = clib.build(
        tmp_path_factory.mktemp("arm"),
        "-DCMAKE_SYSTEM_NAME=Linux",
        "-DCMAKE_SYSTEM_PROCESSOR=aarch64",
        f"-DCMAKE_CXX_COMPILER={compiler}",
        "-DBUILD_SHARED_LIBS=OFF",
    )
    return System(folder, ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"], "", "neon", dict(os.environ))


def assert_texts_are_those_of_python(system: System, folder: Path) -> None:
    """Of a streaming model of 8 bits on speech, and of a random one in floating point."""
    samples, wav = samples_of(SAMPLES[0]), folder / "a.wav"
    random = noise(20_000) / 10
    for artifact, heard in (
        (checkpoint.load(STREAMING), samples),
        (varied(MODELS["floating"](), random, "scalar"), random),
    ):
        model_file.save(artifact, "model", folder / "model.lf")
        write_wav(wav, heard)
        heard = (heard * 32767).astype("<i2").astype(np.float32) / 32768
        expected = on_kernels(artifact, "scalar").transcribe(heard).text
        assert len(expected) > 20
        for kernels in (system.kernels, "scalar"):
            code, text, complaints = system.recognise("--kernels", kernels, folder / "model.lf", wav)
            assert (code, text, complaints) == (0, expected + "\n", "")


def test_windows_gives_the_text_of_python(windows: System, tmp_path: Path) -> None:
    assert_texts_are_those_of_python(windows, tmp_path)


def test_windows_takes_names_in_any_writing_and_standard_input(windows: System, tmp_path: Path) -> None:
    model, wav = tmp_path / "modèle.lf", tmp_path / "Übung 試し.wav"
    model_file.save(checkpoint.load(STREAMING), STREAMING, model)
    write_wav(wav, samples_of(SAMPLES[0]))  # of all bytes, also those that end a text on Windows
    code, text, _ = windows.recognise(model, wav)
    assert (code, text) == (0, "ONE TWO THREE FOR FIVE SIX SEVEN\n")
    assert windows.recognise(model, "-", given=wav.read_bytes())[:2] == (0, text)
    assert windows.recognise("--stream", model, wav)[1].split("\t")[2] == text
    for arguments, sentence in (
        ((tmp_path / "fehlt ü.lf", wav), "the model cannot be read: "),
        ((tmp_path, wav), "the model cannot be read: "),
        ((model, tmp_path / "fehlt ü.wav"), "fehlt ü.wav cannot be opened: No such file"),
        ((wav, wav), "is not a model of littlefoot"),
    ):
        code, text, complaints = windows.recognise(*arguments)
        assert (code, text) == (1, "")
        assert sentence in complaints


def test_a_program_uses_the_library_of_windows(windows: System, tmp_path: Path) -> None:
    source = tmp_path / "version.c"
    source.write_text(
        "#include <littlefoot.h>\n#include <stdio.h>\nint main(void) { return puts(lf_version()) < 0; }\n"
    )
    flags = ("-DLITTLEFOOT_SHARED", f"-I{clib.SOURCES / 'include'}", f"-L{windows.folder}", "-llittlefoot")
    program = windows.folder / "version.exe"
    subprocess.run(["x86_64-w64-mingw32-gcc-posix", source, "-o", program, *flags], check=True)
    assert windows.run("version")[:2] == (0, "0.1.0\n")


def test_neon_gives_the_text_of_python(arm: System, tmp_path: Path) -> None:
    assert_texts_are_those_of_python(arm, tmp_path)
