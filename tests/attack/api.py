"""Try the server against its own description, with schemathesis.

    python tests/attack/api.py PATH/TO/schemathesis --examples 300 --write docs/reliability.md

Schemathesis makes requests from ``/openapi.json``, good ones and bad ones, and checks every answer: no status
500, only what is described, nothing without the key. One of its checks is left out: that what fits the
description is accepted, since no description tells a recording from other bytes.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from campaign import write

KEY = "sesame"
MODEL = "littlefoot-en-live"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("schemathesis", help="its command")
    parser.add_argument("--examples", type=int, default=300, help="for each operation and phase")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", type=Path, help="put the table into this page")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("wb") as file:
            server = subprocess.Popen(
                [sys.executable, "-m", "littlefoot", "serve", MODEL, "--port", "0", "--idle", "5"],
                stderr=file,
                env={**os.environ, "LITTLEFOOT_API_KEY": KEY},
            )
        try:
            while "loaded" not in log.read_text():
                if server.poll() is not None:
                    raise SystemExit(log.read_text())
                time.sleep(0.1)
            url = re.findall(r"http://\S+", log.read_text())[0]
            said = subprocess.run(
                [
                    *(options.schemathesis, "run", f"{url}/openapi.json", "--no-color"),
                    *("--header", f"Authorization: Bearer {KEY}", "--seed", str(options.seed)),
                    *("--checks", "all", "--exclude-checks", "positive_data_acceptance"),
                    *("--max-examples", str(options.examples), "--continue-on-failure"),
                ],
                capture_output=True,
                text=True,
                check=False,
                cwd=folder,
            ).stdout
            alive = server.poll() is None
        finally:
            server.kill()
            server.wait()
    counts = re.search(r"(\d+) generated(?:, (\d+) found (\d+) unique)?", said)
    version = re.search(r"Schemathesis v([\d.]+)", said)
    if counts is None or version is None:
        raise SystemExit(said)
    cases, failures = int(counts[1]), int(counts[3] or 0)
    if failures:
        print(said)
    lines = [
        f"`python tests/attack/api.py`, schemathesis {version[1]}, {time.strftime('%Y-%m-%d')}",
        "",
        "| what | tries | failures | the server after it |",
        "|---|---|---|---|",
        f"| requests made from the description of the API | {cases:,} | {failures or 'none'} |"
        f" {'alive' if alive else 'dead'} |",
    ]
    table = "\n".join(lines) + "\n"
    print(table)
    if options.write:
        write(options.write, table, "api")
    return int(bool(failures) or not alive)


if __name__ == "__main__":
    sys.exit(main())
