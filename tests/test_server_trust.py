"""littlefoot serve among strangers: hostile recordings, foreign pages, floods of connections, full disks."""

from __future__ import annotations

import io
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import artifacts
import numpy as np
import pytest
import soundfile
from families import speechlike
from servers import RATE, Running, encoded, serving

from littlefoot import artifact as artifact_files
from littlefoot.audio import isolation

CLIP = speechlike(1.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    artifact = artifacts.talkative(artifacts.tiny(), CLIP)
    return artifact_files.save(artifact, tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[Running]:
    with serving([model]) as running:
        yield running


# Hostile recordings


@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG", "MP3", "AIFF"])
def test_every_recording_is_decoded_in_another_process(server: Running, form: str) -> None:
    """Without one, this process would have to."""
    (process,) = isolation._idle
    os.kill(process.pid, signal.SIGSTOP)
    process._connection.settimeout(0.2)
    refused = server.transcribe(encoded(CLIP, form))
    assert (refused.status, refused.error["code"]) == (400, "invalid_audio")
    assert "a part of it took over" in refused.error["message"]
    assert server.transcribe(encoded(CLIP, form)).status == 200


def test_a_large_upload_is_read_where_it_lies(server: Running) -> None:
    """It is on disk, and only its descriptor goes to the other process."""
    file = io.BytesIO()
    soundfile.write(file, np.tile(CLIP, 17), RATE, format="WAV", subtype="FLOAT")
    assert len(file.getvalue()) > 1 << 20
    response = server.transcribe(file.getvalue(), [("response_format", "verbose_json")])
    assert response.json["duration"] == 17


def test_a_decoder_that_crashes_costs_its_own_request_only(server: Running) -> None:
    case = Path(__file__).parents[2] / "shared/cases/17-aac-layout-changes.aac"
    if not case.exists():
        pytest.skip("../shared is not here")
    refused = server.transcribe(case.read_bytes(), name="case.aac")
    assert (refused.status, refused.error["code"]) == (400, "invalid_audio")
    assert refused.error["message"].startswith("case.aac: changes after")
    assert server.is_alive()


def test_a_decoder_that_dies_is_400_and_the_next_request_is_served(server: Running) -> None:
    isolation.prepare()
    for process in isolation._idle:
        os.kill(process.pid, signal.SIGKILL)
    time.sleep(0.2)
    assert server.transcribe(encoded(CLIP)).status == 200
