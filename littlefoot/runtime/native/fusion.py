"""Fuse several steps of a native program into one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from littlefoot.runtime.native.steps import Activate, Add, Attention, Linear, Product, Step

Mergeable = Callable[[str, str], bool]
"""Function that returns True if two layers may be computed as one."""


class Steps(dict[int, Step]):
    """Steps by their numbers. A fused step has the number of one of its parts."""

    def uses(self, number: int) -> int:
        """Return the number of steps that read the output of a step."""
        return sum(number in step.inputs for step in self.values())

    def absorb(self, number: int, into: int) -> None:
        """Remove a step. The steps that read its output read the output of ``into`` instead."""
        del self[number]
        for at, step in self.items():
            if number in step.inputs:
                renamed = tuple(into if source == number else source for source in step.inputs)
                self[at] = replace(step, inputs=renamed)


def activate(steps: Steps, number: int, mergeable: Mergeable) -> None:
    """Fuse an activation into the product before it."""
    step = steps[number]
    if not isinstance(step, Activate):
        return
    (source,) = step.inputs
    before = steps[source]
    if isinstance(before, Product) and before.residual is None and steps.uses(source) == 1:
        steps[source] = replace(before, activation=step.kind)
        steps.absorb(number, source)


def add_residual(steps: Steps, number: int, mergeable: Mergeable) -> None:
    """Fuse a sum into one of its inputs, if that is a product; the other input becomes the residual."""
    step = steps[number]
    if not isinstance(step, Add):
        return
    for source, other in (step.inputs[::-1], step.inputs):
        summand = _first_of_sum(steps, source)
        before = steps[summand]
        if (
            isinstance(before, Product)
            and before.residual is None
            and other < summand
            and steps.uses(source) == steps.uses(summand) == 1
        ):
            steps[summand] = replace(before, inputs=(*before.inputs, other))
            steps.absorb(number, source)
            return


def _first_of_sum(steps: Steps, number: int) -> int:
    """Follow a chain of residuals to the product that has none."""
    step = steps[number]
    while isinstance(step, Product) and step.residual is not None:
        number, step = step.residual, steps[step.residual]
    return number


def merge_projections(steps: Steps, number: int, mergeable: Mergeable) -> None:
    """Fuse query, key and value of an attention into one linear layer, with the names in this order."""
    attention = steps[number]
    if not isinstance(attention, Attention) or len(set(attention.inputs)) < 3:
        return
    source = steps[attention.inputs[0]].inputs
    layers = [
        layer
        for number in attention.inputs
        if isinstance(layer := steps[number], Linear) and layer == Linear(source, layer.names)
    ]
    if (
        len(layers) == 3
        and len(source) == 1
        and all(mergeable(layers[0].names[0], layer.names[0]) for layer in layers)
        and all(steps.uses(number) == 1 for number in attention.inputs)
    ):
        at = min(attention.inputs)
        steps[at] = Linear(source, tuple(name for layer in layers for name in layer.names))
        for number in set(attention.inputs) - {at}:
            steps.absorb(number, at)


RULES = (activate, add_residual, merge_projections)
"""Rules of fusion. Each checks one step, and changes ``steps`` if the step can be fused."""


def fuse(steps: Iterable[Step], mergeable: Mergeable) -> Steps:
    """Apply each rule to every step; return the remaining steps."""
    left = Steps(enumerate(steps))
    for rule in RULES:
        for number in list(left):
            if number in left:
                rule(left, number, mergeable)
    return left
