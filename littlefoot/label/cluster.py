"""Run workers on Ray, as actors of Ray Data on one machine or many. Needs the extra ``scale``."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from littlefoot.label.job import Job, Label, Task
from littlefoot.label.local import died_at
from littlefoot.label.worker import Worker
from littlefoot.system import rays


def run(
    job: Job,
    tasks: Sequence[Task],
    lost: Callable[[str], None],
    *,
    workers: int | None,
    threads: int,
    retries: int,
    address: str,
) -> Iterator[tuple[int, list[Label]]]:
    """Do the same as ``local.run`` with actors of Ray Data, which replaces dead actors and repeats their
    tasks.

    Args: workers: number of actors; None: as many as the cluster has room for. threads: processors that Ray
        reserves for each actor. address: ``local`` starts a Ray instance that ends with the job; ``auto`` or
        ``HOST:PORT`` names a running one, whose machines need littlefoot, and model, manifests and recordings
        at the same paths.

    Raises:
        MissingExtraError: Ray is not installed.
        LittlefootError: there is no Ray at the address, or no worker can load the model.
    """
    with rays.connected(address, (workers or 1) * threads, "littlefoot label --ray") as ray:
        import ray.data as data
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        logging.getLogger("ray.data").setLevel(logging.WARNING)  # importing Ray has changed it
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        ledger = ray.remote(Ledger).options(num_cpus=0, scheduling_strategy=here).remote()
        workers = workers or max(1, int(ray.cluster_resources().get("CPU", 1)) // threads)
        context = data.DataContext.get_current()
        context.enable_progress_bars = False
        context.max_consecutive_actor_init_deaths = retries
        dataset = data.from_items([asdict(task) for task in tasks], override_num_blocks=len(tasks)).map(
            Labeller,
            fn_constructor_args=(ray.put(job), ledger, retries),
            num_cpus=threads,
            # one task at a time, so that none waits behind a slow one while another actor is free
            compute=data.ActorPoolStrategy(size=min(workers, len(tasks)), max_tasks_in_flight_per_actor=1),
        )
        told = 0
        # Prefetching would hold a finished shard back until the next one is finished.
        for batch in dataset.iter_batches(batch_size=None, prefetch_batches=0, batch_format="numpy"):
            told = _tell(ray.get(ledger.lost.remote()), told, lost)
            for shard, labels in zip(batch["shard"], batch["labels"], strict=True):
                yield int(shard), [Label(**label) for label in json.loads(labels)]


def _tell(deaths: list[str], told: int, lost: Callable[[str], None]) -> int:
    for death in deaths[told:]:
        lost(death)
    return len(deaths)


class Ledger:
    """Actor beside the driver that records the current recording of every shard; it outlives the workers."""

    def __init__(self) -> None:
        self._at: dict[int, tuple[int, str]] = {}
        self._deaths: Counter[int] = Counter()  # at each row
        self._lost: list[str] = []

    def start(self, shard: int) -> dict[int, int]:
        """Record that a worker takes a shard; return the number of workers that died at each row of it."""
        if (place := self._at.pop(shard, None)) is not None:
            self._deaths[place[0]] += 1
            self._lost.append(f"a worker process ended at {place[1]}")
        return dict(self._deaths)

    def begin(self, shard: int, row: int, name: str) -> None:
        """Record that a worker begins with a row."""
        self._at[shard] = row, name

    def finish(self, shard: int) -> None:
        """Record that a worker has finished a shard."""
        self._at.pop(shard, None)

    def lost(self) -> list[str]:
        """Return a message for each worker that has died."""
        return self._lost


class Labeller:
    """A worker with the interface of Ray Data."""

    def __init__(self, job: Any, ledger: Any, retries: int) -> None:
        import ray

        self._job: Job = ray.get(job)
        self._get, self._ledger, self._retries = ray.get, ledger, retries
        self._worker = Worker(self._job)

    def __call__(self, task: dict[str, Any]) -> dict[str, Any]:
        """Return the labels of a task's rows, as JSON."""
        shard = int(task["shard"])
        deaths = self._get(self._ledger.start.remote(shard))
        labels = [self._label(shard, int(row), deaths) for row in task["rows"]]
        self._get(self._ledger.finish.remote(shard))
        return {"shard": shard, "labels": json.dumps([asdict(label) for label in labels])}

    def _label(self, shard: int, row: int, deaths: dict[int, int]) -> Label:
        utterance = self._job.corpus[row]
        if deaths.get(row, 0) > self._retries:
            return Label(row, utterance.id, error=f"{utterance.path}: {died_at(deaths[row])}")
        name = f"{utterance.id}, {utterance.path}"
        self._get(self._ledger.begin.remote(shard, row, name))  # before work begins
        return self._worker.label(row)
