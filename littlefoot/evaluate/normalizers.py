"""Forms in which references and hypotheses are compared, by name."""

from __future__ import annotations

from collections.abc import Callable

from littlefoot.errors import ConfigError, MissingExtraError
from littlefoot.evaluate.metrics import normalize_text

Normalize = Callable[[str], str]

OWN = "littlefoot"
NORMALIZERS = (OWN, "whisper", "whisper-basic")
"""``littlefoot``: upper case, no punctuation. ``whisper``: Whisper's for English (Radford et al., "Robust
speech recognition via large-scale weak supervision", ICML 2023, appendix C), which unifies spellings,
contractions and numbers and removes filled pauses. ``whisper-basic``: Whisper's for other languages."""


def normalizer(name: str) -> Normalize:
    """Return the function of a name in NORMALIZERS.

    Raises:
        ConfigError: the name is unknown.
        MissingExtraError: the package whisper-normalizer is not installed.
    """
    if name not in NORMALIZERS:
        raise ConfigError(f"normalizer '{name}' is unknown: use one of {', '.join(NORMALIZERS)}")
    if name == OWN:
        return normalize_text
    try:
        from whisper_normalizer.basic import BasicTextNormalizer
        from whisper_normalizer.english import EnglishTextNormalizer
    except ImportError as error:
        raise MissingExtraError(f"the normalizer '{name}'", "whisper-normalizer", "normalize") from error
    made: Normalize = EnglishTextNormalizer() if name == "whisper" else BasicTextNormalizer()
    return lambda text: " ".join(made(text).split())
