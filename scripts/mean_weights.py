"""Average the weights of several models of one geometry, such as the beginning and the end of a training.

    python scripts/mean_weights.py runs/begin runs/end -o runs/mean

The mean often makes fewer errors than each of them (Wortsman et al. 2022, Model soups). Everything but the
weights is that of the last model.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from littlefoot import artifact
from littlefoot.artifact import checkpoint
from littlefoot.errors import ConfigError


def main() -> None:
    """Save the mean."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", help="bundled names, directories or Hub ids")
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args()
    artifact.check_output(options.out)
    models = [checkpoint.load(name) for name in options.models]
    last = models[-1]
    shapes = [{tensor: array.shape for tensor, array in model.weights.items()} for model in models]
    for name, found in zip(options.models, shapes, strict=True):
        if found != shapes[-1]:
            raise ConfigError(
                f"{name} has other weights than {options.models[-1]}: name models of one geometry"
            )
    weights = {
        tensor: np.mean([model.weights[tensor] for model in models], axis=0, dtype=np.float64).astype(
            np.float32
        )
        for tensor in last.weights
    }
    artifact.save(replace(last, weights=weights), options.out)


if __name__ == "__main__":
    main()
