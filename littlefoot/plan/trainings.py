"""Carrying out recipes in processes of their own, several at once: here, or on a Ray cluster.

Each is the command ``littlefoot shrink``, so what it makes is what anybody gets from the recipe that is left
beside it, and it can be killed and resumed at any time.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from littlefoot.artifact import is_artifact
from littlefoot.errors import MissingExtraError, TrainingError

RECIPE, MODEL, LOG = "recipe.yaml", "model", "log.txt"
SECONDS = "seconds.txt"
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Training:
    """A recipe to carry out in a folder."""

    folder: Path
    """Holds RECIPE; MODEL, what is kept beside it, LOG and SECONDS come to stand there."""
    model: str
    data: tuple[Path, ...]
    processes: int
    """That train together."""
    threads: int
    """Of the processor, all of them together."""

    @property
    def done(self) -> bool:
        """Whether the model is there."""
        return is_artifact(self.folder / MODEL)

    @property
    def seconds(self) -> float:
        """That it took, all attempts together."""
        path = self.folder / SECONDS
        return sum(map(float, path.read_text().split())) if path.exists() else 0.0

    def command(self) -> list[str]:
        """As typed in a shell."""
        start = [sys.executable, "-m"]
        if self.processes > 1:
            start += ["torch.distributed.run", "--standalone", f"--nproc_per_node={self.processes}", "-m"]
        command = [*start, "littlefoot", "shrink", self.model, "-o", str(self.folder / MODEL)]
        command += ["--recipe", str(self.folder / RECIPE)]
        for path in self.data:
            command += ["--data", str(path)]
        return [*command, "--resume"] if (self.folder / f"{MODEL}-steps").exists() else command


def run_all(trainings: Sequence[Training], at_once: int, ray: str | None = None) -> None:
    """Carry out those that are not done.

    Args:
        at_once: how many run side by side on this machine.
        ray: the address of a Ray cluster whose machines share this one's files; it decides how many run.

    Raises:
        TrainingError: one failed; those that run besides are ended, and can be resumed.
        MissingExtraError: Ray is not installed.
    """
    waiting = [training for training in trainings if not training.done]
    if not waiting:
        return
    if ray is not None:
        _on_ray(waiting, ray)
        return
    stopped: list[bool] = []
    with ThreadPoolExecutor(min(at_once, len(waiting))) as pool:
        futures = [pool.submit(carry_out, training, lambda: bool(stopped)) for training in waiting]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            if not all(future.done() and future.exception() is None for future in futures):
                stopped.append(True)
                for future in futures:
                    future.cancel()
    for future in futures:
        if not future.cancelled() and (error := future.exception()) is not None:
            raise error


def carry_out(training: Training, stopped: Callable[[], bool] = lambda: False) -> None:
    """Run one training to its end. Raises TrainingError with the last thing that it said, if it fails.

    Args:
        stopped: asked now and then whether to end it before.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(max(1, training.threads // training.processes))}
    began = time.monotonic()
    with (training.folder / LOG).open("ab") as log:
        process = subprocess.Popen(
            training.command(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,
        )
        try:
            while process.poll() is None and not stopped():
                time.sleep(POLL_SECONDS)
        finally:
            if process.poll() is None:
                _end(process)
            with (training.folder / SECONDS).open("a") as file:
                file.write(f"{time.monotonic() - began:.1f}\n")
    if process.returncode and not stopped():
        raise TrainingError(f"{training.folder / LOG}: {_last_words(training.folder / LOG)}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """With all that it started."""
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _last_words(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    own = [line for line in lines if line.startswith("littlefoot: ")]
    return (own or lines or ["it said nothing"])[-1].removeprefix("littlefoot: ")


def _on_ray(trainings: Sequence[Training], address: str) -> None:
    """Each training is a task of as many processors as it has threads. Raises as ``run_all``."""
    try:
        import ray
    except ModuleNotFoundError as error:
        raise MissingExtraError("--ray", "ray", "scale") from error
    ray.init(address=None if address == "local" else address, log_to_driver=False, ignore_reinit_error=True)
    try:
        tasks = [
            ray.remote(carry_out).options(num_cpus=training.threads, max_retries=3).remote(training)
            for training in trainings
        ]
        try:
            ray.get(tasks)
        except ray.exceptions.RayTaskError as error:
            raise error.as_instanceof_cause() from None
        except ray.exceptions.RayError as error:
            raise TrainingError(
                f"the Ray cluster at {address} failed ({error}): continue with --resume"
            ) from error
    finally:
        ray.shutdown()
