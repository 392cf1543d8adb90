"""Round an artifact's float16 weights to 8 significant bits, those of bfloat16, so that wheels compress them.

    python scripts/shorten_weights.py runs/half -o littlefoot/bundled/littlefoot-en

A wheel of the package must stay under 60 MB. Training multiplies in bfloat16 too, so nothing is lost that
it had used.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from littlefoot import artifact

CUT = 3
"""Bits of a float16's ten below those that stay."""


def shortened(weight: npt.NDArray[np.float16]) -> npt.NDArray[np.float16]:
    """Round to the nearest float16 whose last CUT bits are zero, ties to the even one."""
    bits = weight.view(np.uint16).astype(np.uint32)
    odd = (bits >> CUT) & 1
    rounded = (bits + (1 << (CUT - 1)) - 1 + odd) >> CUT << CUT
    return rounded.astype(np.uint16).view(np.float16)


def main() -> None:
    """Read one directory and write the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("artifact", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    arguments = parser.parse_args()
    loaded = artifact.load(arguments.artifact)
    weights = {
        name: shortened(np.ascontiguousarray(weight, np.float16)) for name, weight in loaded.weights.items()
    }
    artifact.save(replace(loaded, weights=weights), arguments.out)


if __name__ == "__main__":
    main()
