"""Bring artifacts of format version 1 to version 2, which has a list of checksums; no weight is written anew.

python scripts/add_checksums.py DIRECTORY...
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

from littlefoot.artifact import artifact
from littlefoot.network.config import ModelConfig
from littlefoot.system import atomic


def main(directories: list[str]) -> None:
    for name in directories:
        directory = Path(name).resolve()
        loaded = artifact.load(directory)  # every tensor verified
        with atomic.directory(directory) as new:
            for file in artifact.FILES:
                if file == artifact.WEIGHTS:
                    os.link(directory / file, new / file)
                elif (directory / file).exists():
                    shutil.copy2(directory / file, new / file)
            values = json.loads((new / artifact.CONFIG).read_text(encoding="utf-8"))
            extra = ModelConfig.unknown_keys(loaded.config.to_dict()) - artifact.ALWAYS_EXTRA
            values["littlefoot"] |= {"format_version": artifact.FORMAT_VERSION, "extra_keys": sorted(extra)}
            text = json.dumps(values, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
            (new / artifact.CONFIG).write_text(text, encoding="utf-8")
            artifact.write_checksums(new)
            artifact.load(new)
        print(f"{name}: checksums of all files")


if __name__ == "__main__":
    main(sys.argv[1:])
