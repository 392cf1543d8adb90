"""What only POSIX has is used behind a question for it, as the package also runs on macOS and Windows."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "littlefoot"

MODULES = {"fcntl", "grp", "pwd", "resource", "syslog", "termios", "tty"}
"""Modules of the standard library that Windows does not have."""
NAMES = {
    *("os.fork", "os.getloadavg", "os.getpgid", "os.getuid", "os.geteuid", "os.killpg", "os.memfd_create"),
    *("os.mkfifo", "os.nice", "os.register_at_fork", "os.sched_getaffinity", "os.setsid", "os.uname"),
    *("signal.SIGALRM", "signal.SIGHUP", "signal.SIGKILL", "signal.SIGSTOP", "signal.pthread_sigmask"),
    *("signal.setitimer", "time.tzset"),
}
"""What Windows, and in part macOS, does not have of other modules."""
QUESTIONS = ("sys.platform", "os.name", "hasattr(", "except ImportError")


def bare(source: str) -> Iterator[str]:
    """What is used of POSIX in functions, or in statements of a module, that do not ask for it."""
    for statement in ast.parse(source).body:
        for node in statement.body if isinstance(statement, ast.ClassDef) else [statement]:
            if not any(question in ast.unparse(node) for question in QUESTIONS):
                yield from posix(node)


def posix(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            yield str(node.module)
        elif isinstance(node, ast.Attribute) and ast.unparse(node) in NAMES:
            yield ast.unparse(node)


def test_posix_is_asked_for_before_it_is_used() -> None:
    found = {
        path.relative_to(PACKAGE).as_posix(): names
        for path in PACKAGE.rglob("*.py")
        if (names := list(bare(path.read_text(encoding="utf-8"))))
    }
    assert found == {}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import fcntl", ["fcntl"]),
        ("def f():\n    return len(os.sched_getaffinity(0))", ["os.sched_getaffinity"]),
        ("class A:\n    def f(self):\n        os.killpg(1, signal.SIGKILL)", ["os.killpg", "signal.SIGKILL"]),
        ("def f():\n    if sys.platform == 'win32':\n        return\n    import resource", []),
        ("if hasattr(os, 'register_at_fork'):\n    os.register_at_fork()", []),
    ],
)
def test_bare_uses_are_found(source: str, expected: list[str]) -> None:
    assert list(bare(source)) == expected
