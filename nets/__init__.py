"""The tutorial's lessons, in its order. A new lesson is one file here and one name in LESSONS."""

from lab.lesson import Lesson, Training
from lab.recipe import Recipe
from nets import (
    activations,
    autograd,
    batches,
    batchnorm,
    classification,
    dropout,
    install,
    operations,
    optimizers,
    random,
    regression,
    saving,
    sequential,
    tensors,
)

_IN_ORDER = (
    *(install, tensors, random, operations, autograd, activations),
    *(regression, classification, sequential),
    *(saving, batches),
    *(optimizers, dropout, batchnorm),
)

LESSONS: dict[str, Lesson] = {module.LESSON.key: module.LESSON for module in _IN_ORDER}

TRAININGS: dict[str, Training] = {key: lesson for key, lesson in LESSONS.items() if isinstance(lesson, Training)}


def read_recipe(told: object) -> Recipe:
    """The recipe that JSON tells of, from a source not to be trusted. Raises SettingError."""
    return Recipe.parse(told, {key: lesson.config for key, lesson in TRAININGS.items()})
