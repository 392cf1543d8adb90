"""Align a teacher's frames with its student's, where their front ends differ.

The time of a frame is the middle of its receptive field. With the same front end these functions change
nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from littlefoot.network.config import ModelConfig


def same_frames(a: ModelConfig, b: ModelConfig) -> bool:
    """Return True if two front ends have frames at the same times."""
    return (a.stride, a.first_time) == (b.stride, b.first_time)


def frame_times(config: ModelConfig, frames: int, device: torch.device | None = None) -> Tensor:
    """Return the middle of each frame, (F,), in samples."""
    return config.first_time + config.stride * torch.arange(frames, device=device, dtype=torch.float32)


def interpolate(
    values: Tensor, teacher: ModelConfig, student: ModelConfig, frames: int, lengths: Tensor
) -> Tensor:
    """Values of a teacher's frames (B, F, D) at a student's, linearly in time: (B, frames, D).

    ``lengths`` (B,): the teacher's frames of each utterance; what lies after the last is the last.
    """
    wanted = frame_times(student, frames, values.device)
    place = (wanted - frame_times(teacher, 1, values.device)) / teacher.stride
    place = place.clamp(min=0)[None].minimum((lengths[:, None] - 1).clamp(min=0).to(place))  # (B, frames)
    before = place.floor().long()
    after = (before + 1).minimum((lengths[:, None] - 1).clamp(min=0))
    share = (place - before)[:, :, None].to(values.dtype)
    return _rows(values, before) * (1 - share) + _rows(values, after) * share


def peaks(
    logits: Tensor, teacher: ModelConfig, student: ModelConfig, frames: int, lengths: Tensor, blank: int
) -> Tensor:
    """Select the logits of one teacher frame for each student frame, (B, F, V) -> (B, frames, V).

    Of the teacher frames that are nearest to a student frame, the one with the least likely blank is
    selected; if there is none, the nearest frame. CTC's posteriors are spikes of one frame: a mean or an
    interpolation of a spike and its blank neighbour would be neither.
    """
    theirs = frame_times(teacher, logits.shape[1], logits.device)
    mine = frame_times(student, frames, logits.device)
    owner = ((theirs - mine[0]) / student.stride + 0.5).floor().long().clamp(0, frames - 1)  # (F,)
    first = torch.searchsorted(owner, torch.arange(frames, device=logits.device))
    count = torch.bincount(owner, minlength=frames)
    width = int(count.max())
    offsets = torch.arange(width, device=logits.device)
    candidates = first[:, None] + offsets  # (frames, width)
    usable = (offsets < count[:, None])[None] & (candidates[None] < lengths[:, None, None])
    candidates = candidates.clamp(max=logits.shape[1] - 1)
    likely = torch.log_softmax(logits.float(), -1)[:, :, blank][:, candidates]  # (B, frames, width)
    best = likely.masked_fill(~usable, torch.inf).argmin(-1)
    chosen = torch.gather(candidates.expand(len(logits), -1, -1), 2, best[:, :, None])[:, :, 0]
    nearest = ((mine - theirs[0]) / teacher.stride + 0.5).floor().long().clamp(0, logits.shape[1] - 1)
    chosen = torch.where(usable.any(-1), chosen, nearest[None])
    return _rows(logits, chosen.minimum((lengths[:, None] - 1).clamp(min=0)))


def _rows(values: Tensor, indices: Tensor) -> Tensor:
    """Gather rows: (B, F, D), (B, G) -> (B, G, D)."""
    return torch.gather(values, 1, indices[:, :, None].expand(-1, -1, values.shape[2]))
