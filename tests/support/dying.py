"""What worker processes of tests are sent: a module of its own, as they import where it stands."""

from __future__ import annotations

import os
import signal

from littlefoot.runtime.transcriber import Recognise, Transcriber


class Dying(Transcriber):
    """Options of a recogniser that no process survives."""

    def load(self) -> Recognise:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("still alive")
