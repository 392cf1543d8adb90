"""Find worn phrases in the documents and in the prose of the code.

Prints ``file:line: 'phrase': advice`` for each, and exits with 1 if there is one. The sections "English" and
"Glossary" of CONTRIBUTING.md give the rules. In documents, blocks of code and inline code are not checked. In
Python files only the prose is checked: docstrings, comments, and strings that contain a space.

    python scripts/lint_words.py            # the repository's documents and code
    python scripts/lint_words.py FILE...    # these files
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]

DOCUMENTS = (
    *("README.md", "RESULTS.md", "CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md", "CHANGELOG.md"),
    *("docs/*.md", "docs/log/README.md", "results/*.md", "native/README.md"),
)
"""Patterns of checked documents. The pages of the log are kept as they were written."""

_PROGRAMS = (
    r"(?:models?|students?|teachers?|recogni[sz]ers?|engines?|networks?|encoders?|kernels?|detectors?|layers?|"
    r"frames?|decoders?|programs?|processes|process|workers?|servers?|it|they|that|which)"
)
_LISTENING = r"(?:hears?|heard|hearing|listens?|listened)"


class Rule(NamedTuple):
    """A pattern that prose must not match."""

    pattern: re.Pattern[str]
    advice: str


def _rule(pattern: str, advice: str) -> Rule:
    return Rule(
        re.compile(
            re.sub(
                r"(?<!there) "
                r"",
                r"\\s+",
                pattern,
            ),
            re.IGNORECASE,
        ),
        advice,
    )  # also over line ends


RULES = (
    # programs are not persons
    _rule(rf"\b{_PROGRAMS}\s+(?:\w+\s+)?{_LISTENING}\b", "a program does not hear: reads, receives, sees"),
    _rule(r"\blistens? along\b", "say that the teacher runs beside the student"),
    _rule(r"\b(?:models?|students?|teachers?|recogni[sz]ers?|networks?)\s+(?:says?|said)\b", "predicts"),
    _rule(r"\blearn(?:s|ed|ing)? to say\b", "is trained to predict"),
    _rule(
        r"\b(?:models?|students?|teachers?|recogni[sz]ers?|engines?|networks?|programs?|servers?|littlefoot|it)"
        r" (?:(?:does|do|did) not )?(?:knows?|knew|wants?|believes?|thinks?)\b",
        "a program does not know: contains, supports, is trained on",
    ),
    _rule(r"\btaught\b", "trained, distilled"),
    _rule(r"\bwho teaches\b", "the teacher"),
    _rule(r"\band says so\b", "prints a warning, reports this"),
    # words of the glossary
    _rule(r"(?<!-)\bharm(?:s|ed|ful)?\b", "sensitivity; or say what gets worse"),
    _rule(r"\bcompanions?\b", "nested precisions"),
    _rule(r"\blessons?\b", "distillation settings"),
    _rule(r"\bstretch(?:es)? of (?:speech|sound)\b|\bstretches\b", "speech segments"),
    _rule(r"\bcontenders?\b", "baselines, or models"),
    _rule(r"(?<!-)\bpeers?\b", "baselines"),
    _rule(r"\bplaces? in (?:the|a|its) (?:table|list|array|vocabulary)\b|\bplaces of\b", "index, indices"),
    _rule(r"\bquality gates?\b", "acceptance check"),
    _rule(r"\bthe house\b", "the architecture"),
    _rule(r"\bbegins? where (?:it|they) (?:was|were)\b", "resumes"),
    # worn phrases
    _rule(r"\b(?:goes|go|went|going) on\b", "continues, resumes"),
    _rule(r"\bsums up\b", "prints a summary"),
    _rule(r"\bgone through\b", "checked"),
    _rule(r"\bat hand\b", "available"),
    _rule(r"\bso many\b", "say which number"),
    _rule(r"\bas ever\b", "as usual"),
    _rule(r"\ball the same\b", "nevertheless"),
    _rule(r"\bis there for\b", "exists for"),
    _rule(r"\bnothing else\b.{0,20}\bnothing\b", "say it once"),
    _rule(r"\bwhat cannot be\b", "what is not supported"),
    _rule(r"\bto speak of\b", "say how much"),
    _rule(r"\bgo(?:es)? about it\b", "works"),
    _rule(r"(?<!there )\bis no (?!longer|more|less|larger|other)\w+", "is not a ..."),
    _rule(r"\bof yours\b", "of your own"),
    _rule(r"\b(?-i:[Ss]ome|[Nn]o|[Ee]very)body\b", "say who: you, a user, a speaker, no one"),
    _rule(r"\bdecides? about\b", "influences, determines"),
    _rule(r"\bin vain\b", "without success"),
    _rule(r"\btells? (?:which|what|how|why|no)\b", "shows, states, determines"),
    _rule(r"\bsays? (?:which|what|how|so|where|why|nothing|of)\b", "states, defines, describes"),
    _rule(r"\bof the kind that\b", "such as, similar to"),
    _rule(r"\bgoes with(?:out)?\b", "needs, excludes"),
    _rule(r"\bbe had\b", "be downloaded, be found"),
    _rule(r"\blearns? (?:what|how|from)\b", "is trained on, determines"),
)
"""The list, for documents and code."""

FIRST_WORDS = {
    "what": "begin with what it does or is, in the imperative or as a noun phrase",
    "of": "begin with the noun",
    "whether": "'True if ...' or a verb",
    "who": "begin with the noun",
    "those": "begin with the noun",
    **dict.fromkeys(
        ("as", "by", "for", "how", "in", "its", "none", "where", "which", "whom", "why", "with"),
        "begin with a verb or the noun",
    ),
}
"""First words that a docstring must not have. A field's docstring may begin with "Whether"."""


ARTICLES = ("the", "a", "an")
"""First words that the docstring of a function must not have: it begins with a verb."""


class Finding(NamedTuple):
    """A phrase, and the line on which it begins."""

    line: int
    phrase: str
    advice: str


def check_text(text: str, first_line: int = 1) -> Iterator[Finding]:
    """Findings in prose, whose first line has the number ``first_line``. Phrases may run over line ends."""
    for rule in RULES:
        for match in rule.pattern.finditer(text):
            line = first_line + text.count("\n", 0, match.start())
            yield Finding(line, " ".join(match[0].split()), rule.advice)


def check_markdown(text: str) -> Iterator[Finding]:
    """Yield findings in a document.

    Fenced blocks, inline code, names of the API, targets of links and the glossary, which lists the words to
    avoid, are not checked.
    """
    yield from check_text(_blank(r"^```.*?^```|`[^`\n]+`|^::: \S+|\]\([^)\s]+\)|^## Glossary$.*", text))


def check_python(source: str) -> Iterator[Finding]:
    """Findings in docstrings, comments and messages, and docstrings that begin with a word to avoid."""
    tree = ast.parse(source)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    fields = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef):
            fields.update(
                following.value
                for previous, following in zip(node.body, node.body[1:], strict=False)
                if isinstance(previous, ast.Assign | ast.AnnAssign) and isinstance(following, ast.Expr)
            )
    docstrings = {
        node.body[0].value
        for node in ast.walk(tree)
        if isinstance(node, documented) and ast.get_docstring(node) is not None
    }
    functions = {
        node.body[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Constant) and isinstance(node.value, str)):
            continue
        if " " in node.value.strip():
            yield from check_text(_blank(r"``[^`]+``", node.value), node.lineno)
        if node in docstrings or node in fields:
            word = (re.match(r"\s*(\w+)", node.value) or ["", ""])[1].lower()
            begin = node.value.strip().split("\n")[0][:40]
            if word in FIRST_WORDS and not (word == "whether" and node in fields):
                yield Finding(node.lineno, begin, FIRST_WORDS[word])
            if word in ARTICLES and node in functions:
                yield Finding(node.lineno, begin, "begin with a verb in the imperative")
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield from check_text(_blank(r"``[^`]+``", token.string), token.start[0])


def files() -> Iterator[Path]:
    """Yield the documents and the modules of the repository."""
    for pattern in DOCUMENTS:
        yield from sorted(ROOT.glob(pattern))
    for folder in ("littlefoot", "native", "benchmarks", "scripts"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if path != Path(__file__).resolve():
                yield path


def check(path: Path) -> list[Finding]:
    """Findings in a Markdown or Python file, by line."""
    text = path.read_text(encoding="utf-8")
    return sorted(check_python(text) if path.suffix == ".py" else check_markdown(text))


def main(arguments: list[str]) -> int:
    """Check the named files, or the repository's. Returns the exit code."""
    found = 0
    for path in [Path(argument) for argument in arguments] or files():
        for finding in check(path):
            print(f"{path}:{finding.line}: '{finding.phrase}': {finding.advice}")
            found += 1
    return 1 if found else 0


def _blank(pattern: str, text: str) -> str:
    """Replace the matches in a text by zero bytes; line numbers stay."""
    return re.sub(
        pattern, lambda match: re.sub(r"[^\n]", "\0", match[0]), text, flags=re.MULTILINE | re.DOTALL
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
