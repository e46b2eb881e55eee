"""All lessons, in the order of the tutorial. To add a lesson, add its module here and list it in _IN_ORDER."""

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


def read_recipe(data: object) -> Recipe:
    """Validate a recipe from untrusted JSON data. Raises SettingError."""
    return Recipe.parse(data, {key: lesson.config for key, lesson in TRAININGS.items()})
