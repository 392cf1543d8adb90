"""Carry out recipes in separate processes, several at once, on this machine or on a Ray cluster.

Each process is the command ``littlefoot shrink``, so its result is what you get from the recipe that is kept
beside it, and it can be killed and resumed at any time.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from littlefoot.artifact import is_artifact
from littlefoot.errors import TrainingError
from littlefoot.system import rays
from littlefoot.system.processes import end_group

RECIPE, MODEL, LOG = "recipe.yaml", "model", "log.txt"
SECONDS, PID = "seconds.txt", "pid.txt"
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Training:
    """A recipe to carry out in a folder."""

    folder: Path
    """Folder of RECIPE, to which MODEL, its side files, LOG and SECONDS are written."""
    model: str
    data: tuple[Path, ...]
    processes: int
    """Processes that train together."""
    threads: int
    """Processor threads of all processes together."""

    @property
    def done(self) -> bool:
        """Return True if the model exists."""
        return is_artifact(self.folder / MODEL)

    @property
    def seconds(self) -> float:
        """Return the seconds of all attempts together."""
        path = self.folder / SECONDS
        return sum(map(float, path.read_text().split())) if path.exists() else 0.0

    def command(self) -> list[str]:
        """Return the command as in a shell."""
        start = [sys.executable, "-m"]
        if self.processes > 1:
            start += ["torch.distributed.run", "--standalone", f"--nproc_per_node={self.processes}", "-m"]
        command = [*start, "littlefoot", "shrink", self.model, "-o", str(self.folder / MODEL)]
        command += ["--recipe", str(self.folder / RECIPE)]
        for path in self.data:
            command += ["--data", str(path)]
        return [*command, "--resume"] if (self.folder / f"{MODEL}-steps").exists() else command


def run_all(
    trainings: Sequence[Training], at_once: int, ray: str | None = None
) -> list[TrainingError | None]:
    """Carry out the trainings that are not done. A failure does not affect the others.

    Args:
        at_once: number of trainings that run at once on this machine.
        ray: address of a Ray cluster whose machines share this one's files; Ray then schedules the trainings.

    Returns:
        for each training the reason of its failure, or None.

    Raises:
        MissingExtraError: Ray is not installed.
        LittlefootError: the Ray cluster cannot be reached, or failed.
    """
    failed: list[TrainingError | None] = [None] * len(trainings)
    waiting = [place for place, training in enumerate(trainings) if not training.done]
    if not waiting:
        return failed
    if ray is not None:
        found = _on_ray([trainings[place] for place in waiting], ray)
    else:
        found = _here([trainings[place] for place in waiting], at_once)
    for place, error in zip(waiting, found, strict=True):
        failed[place] = error
    return failed


def _here(trainings: Sequence[Training], at_once: int) -> list[TrainingError | None]:
    stopped = threading.Event()

    def attempt(training: Training) -> TrainingError | None:
        try:
            carry_out(training, stopped.is_set)
        except TrainingError as error:
            return error
        return None

    with ThreadPoolExecutor(min(at_once, len(trainings))) as pool:
        futures = [pool.submit(attempt, training) for training in trainings]
        try:
            return [future.result() for future in futures]
        except BaseException:  # Ctrl-C: the processes must end with this one
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def carry_out(training: Training, stopped: Callable[[], bool] = lambda: False) -> None:
    """Run one training to its end. Raises TrainingError with its last message if it fails.

    Args:
        stopped: called regularly; the training ends when it returns True.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(max(1, training.threads // training.processes))}
    began = time.monotonic()
    _end_orphan(training)
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
            (training.folder / PID).write_text(str(process.pid))
            while process.poll() is None and not stopped():
                time.sleep(POLL_SECONDS)
        finally:
            if process.poll() is None:
                _end(process)
            (training.folder / PID).unlink(missing_ok=True)
            with (training.folder / SECONDS).open("a") as file:
                file.write(f"{time.monotonic() - began:.1f}\n")
    if process.returncode and not stopped():
        raise TrainingError(f"{training.folder / LOG}: {_last_words(training.folder / LOG)}")


def _end_orphan(training: Training) -> None:
    """End a training that a killed search has left running, because two must not write to one folder."""
    path = training.folder / PID
    if not path.exists() or not path.read_text():
        return
    pid = int(path.read_text())
    if str(training.folder / MODEL) in _command_of(pid):  # otherwise another process has the number now
        end_group(pid, kill=True)


def _command_of(pid: int) -> str:
    """Return the command line of a process; empty if there is none."""
    if Path("/proc/self").exists():
        path = Path(f"/proc/{pid}/cmdline")
        return path.read_text(errors="replace").replace("\0", " ") if path.exists() else ""
    if sys.platform == "win32":
        return ""
    command = ["ps", "-p", str(pid), "-o", "args="]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and its children."""
    end_group(process.pid)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        end_group(process.pid, kill=True)
        process.wait()


def _last_words(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    own = [line for line in lines if line.startswith("littlefoot: ")]
    return (own or lines or ["the log is empty"])[-1].removeprefix("littlefoot: ")


def _on_ray(trainings: Sequence[Training], address: str) -> list[TrainingError | None]:
    """Run each training as a task that reserves a processor for each thread. Raises as ``run_all``."""
    threads = max(training.threads for training in trainings)
    failed: list[TrainingError | None] = []
    with rays.connected(address, threads, "littlefoot shrink --ray") as ray:
        tasks = [
            ray.remote(carry_out).options(num_cpus=training.threads, max_retries=3).remote(training)
            for training in trainings
        ]
        for task in tasks:
            try:
                ray.get(task)
            except ray.exceptions.RayTaskError as error:
                if not isinstance(error.cause, TrainingError):
                    raise
                failed.append(error.cause)
            else:
                failed.append(None)
    return failed
