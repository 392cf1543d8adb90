"""The processes that train together, and what they compute on."""

from __future__ import annotations

import atexit
import ctypes
import dataclasses
import functools
import sys
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import parse_flag_from_env

from littlefoot.training.data import Batch
from littlefoot.training.train_config import TrainConfig

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of malloc.h


def processes() -> PartialState:
    """Return the processes that train together, for the work before training."""
    return PartialState(cpu=on_cpu())


@functools.cache
def end_process_group_at_exit() -> None:
    """End the process group while the interpreter is whole.

    Gloo's threads may still hold tensors. Freeing one takes the interpreter's lock; once the interpreter has
    gone, that aborts a process that has done all its work (PyTorch pull request 179291).
    """
    if torch.distributed.is_initialized():
        atexit.register(torch.distributed.destroy_process_group)


def on_cpu() -> bool:
    """Return True if training runs on processors: by ACCELERATE_USE_CPU, or because there is no other device.

    accelerate must be prepared, or processes that torchrun starts would each train separately.
    """
    return parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()


def keep_memory() -> None:
    """Let this process keep memory that it has freed, where it uses the GNU C library.

    By default tensors of megabytes go back to the system when they are freed. Every step of training then
    waits for tens of thousands of pages, which the system clears again one by one: 12 % of its time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)  # take all memory from the heap,
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)  # and do not shrink it


def agreed(request: bool, accelerator: Accelerator) -> bool:
    """Return True if any process requests it, so that all of them stop after the same step."""
    if accelerator.num_processes == 1:
        return request
    votes = accelerator.reduce(torch.tensor(float(request), device=accelerator.device), reduction="sum")
    return bool(votes > 0)


def precision(config: TrainConfig) -> str:
    """Return the precision of the products: ``bf16`` or ``no``."""
    if config.mixed_precision != "auto":
        return config.mixed_precision
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    capabilities = torch.cpu.get_capabilities()
    return "bf16" if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else "no"


def seed_dropout(seed: int, step: int, process: int) -> None:
    torch.manual_seed((seed * 1_000_003 + step) * 1_009 + process)


def to_device(batch: Batch, device: torch.device) -> Batch:
    moved: dict[str, Any] = {
        name: value.to(device, non_blocking=True)
        for name, value in vars(batch).items()
        if isinstance(value, torch.Tensor)
    }
    return dataclasses.replace(batch, **moved)
