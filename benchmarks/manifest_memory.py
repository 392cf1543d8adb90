"""Measure the memory that ``littlefoot manifest`` takes for a Parquet file of 100,000 rows.

    python benchmarks/manifest_memory.py [ROWS]

Each row has 0.25 s of noise as a WAV file of 8 kB. Prints one line of JSON: the bytes of the file, the peak
resident memory of the command, and its seconds.
"""

from __future__ import annotations

import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

GROUP_ROWS = 1000


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    rng = np.random.default_rng(0)
    schema = pa.schema(
        [("audio", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("text", pa.string())]
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.parquet"
        with pq.ParquetWriter(path, schema) as writer:
            for first in range(0, count, GROUP_ROWS):
                rows = [row(rng, number) for number in range(first, min(first + GROUP_ROWS, count))]
                writer.write_table(pa.Table.from_pylist(rows, schema))
        began = time.monotonic()
        command = [sys.executable, "-m", "littlefoot", "manifest", str(path), "-o", f"{folder}/out", "--json"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        seconds = time.monotonic() - began
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        found = json.loads(done.stdout)["rows"]
        print(
            json.dumps(
                {
                    "rows": found,
                    "file_bytes": path.stat().st_size,
                    "peak_bytes": peak,
                    "seconds": round(seconds),
                }
            )
        )


def row(rng: np.random.Generator, number: int) -> dict[str, object]:
    file = io.BytesIO()
    samples = rng.integers(-20_000, 20_000, 4000).astype(np.int16)
    soundfile.write(file, samples, 16_000, format="WAV")
    return {"audio": {"bytes": file.getvalue(), "path": f"{number}.wav"}, "text": f"ROW {number}"}


if __name__ == "__main__":
    main()
