"""Checks of a training's settings that need no model, so that a recipe of several trainings can make them at
its start.
"""

from __future__ import annotations

from littlefoot.audio.manifest import Corpus
from littlefoot.errors import ConfigError
from littlefoot.training import trackers
from littlefoot.training.augment import Augmenter
from littlefoot.training.train_config import TrainConfig


def check(config: TrainConfig, corpus: Corpus) -> None:
    """Check settings that name packages, folders or sets of the speech.

    Raises:
        MissingExtraError: the package of a tracker is not installed.
        ConfigError: a folder of noise or rooms without recordings, or a dev set that the speech lacks.
    """
    trackers.check(config)
    Augmenter(config)
    if config.dev_sets:
        named = {utterance.set_name for utterance in corpus.of_split("dev")}
        if unknown := sorted(set(config.dev_sets) - named):
            raise ConfigError(
                f"train.dev_sets: no set with rows of split 'dev' is called '{unknown[0]}': "
                f"they are {', '.join(sorted(named)) or 'none'}"
            )
