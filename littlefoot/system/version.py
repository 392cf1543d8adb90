"""Find the commit that the installed package was made from."""

from __future__ import annotations

import json
import subprocess
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DIGITS = 10


def commit(root: Path = ROOT) -> str | None:
    """Return the first digits of the commit, with "+" if files of a clone differ from it.

    The commit is known in a clone, if git is installed, and of a package that pip fetched from a repository.
    Otherwise the result is None.
    """
    if not (root / ".git").exists():
        return _installed()
    try:
        found = _git(root, "rev-parse", f"--short={DIGITS}", "HEAD")
        return found + ("+" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()


def _installed() -> str | None:
    """Return the commit in the record that pip keeps of the origin of a package (PEP 610)."""
    try:
        record = metadata.distribution("littlefoot").read_text("direct_url.json")
        found = json.loads(record or "{}").get("vcs_info", {}).get("commit_id")
    except (metadata.PackageNotFoundError, ValueError, AttributeError):
        return None
    return found[:DIGITS] if isinstance(found, str) else None
