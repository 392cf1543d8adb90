"""What worker processes of tests are sent: a module of its own, as they import where it stands."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from littlefoot.transcript.results import Transcription


class Dying:
    """Settings of a recogniser that no process survives."""

    def __init__(self, model: str) -> None:
        self.model, self.language = model, None

    def load(self) -> Callable[..., Transcription]:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("still alive")
