"""A command that a page sends over the live channel, validated: a message need not come from our page."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from charts.text import LANGUAGES, Language, Text
from lab.lesson import Lesson, Training
from lab.recipe import Recipe
from lab.settings import Config, SettingError
from nets import LESSONS, read_recipe
from tabs import controls

LARGEST_NUMBER = 2**53  # of a command or a run


class NothingShownError(RuntimeError):
    """The page shows no run: its last request was refused."""


@dataclass(frozen=True)
class Command:
    """A command from the page.

    `run` is the number that the page gives to the run that it shows or, if `fresh`, to the one that it wants.
    `settings` are the values of the controls, unparsed. `recipe` and `step` describe the run that the page shows, if
    there is one. `again` says that it was done before, and that the page has not seen the answer.
    """

    lesson: Lesson
    do: str
    run: int
    fresh: bool
    settings: Mapping[str, object]
    recipe: object
    step: int
    speed: int
    language: Language
    data: Mapping[str, object]
    again: bool

    @classmethod
    def read(cls, message: Mapping[str, Any], *, again: bool) -> "Command":
        """Validate a message from the page. Raises SettingError."""
        key = message.get("lesson")
        if not isinstance(key, str) or key not in LESSONS:
            raise SettingError("lesson", Text(f"one of {', '.join(LESSONS)}", f" {', '.join(LESSONS)} 之一"), key)
        lesson = LESSONS[key]
        language = message.get("language", "en")
        if language not in LANGUAGES:
            raise SettingError("language", f"one of {', '.join(LANGUAGES)}", language)
        settings = message.get("settings")
        if settings is not None and not isinstance(settings, dict):
            raise SettingError("settings", Text("an object of names and values", "由名字和值组成的对象"), settings)
        speed = message.get("speed", lesson.pace if isinstance(lesson, Training) else 1)
        return cls(
            lesson,
            str(message.get("do")),
            natural_number("run", message.get("run", 0)),
            message.get("fresh") is True,
            settings or {},
            message.get("recipe"),
            natural_number("step", message.get("step", 0)),
            controls.speed_of(speed),
            language,
            message,
            again,
        )

    def config(self) -> Config:
        """The settings of the controls. Raises SettingError."""
        return self.lesson.config.read(self.settings)

    def wanted(self) -> Recipe:
        """The recipe of a new run: that of the page if it has the settings of the controls. Raises SettingError."""
        config = self.config()
        if self.recipe is not None and self.step == 0:
            recipe = self.shown()
            if config.same_run(recipe.settings):
                return replace(recipe, settings=config)
        return Recipe(self.lesson.key, config)

    def shown(self) -> Recipe:
        """The recipe of the run that the page shows. Raises SettingError, and NothingShownError if it shows none."""
        if self.recipe is None:
            raise NothingShownError
        recipe = read_recipe(self.recipe)
        if recipe.lesson != self.lesson.key:
            raise SettingError("lesson", self.lesson.key, recipe.lesson)
        return recipe

    @property
    def training(self) -> Training:
        """The lesson, which must train. Raises SettingError."""
        if isinstance(self.lesson, Training):
            return self.lesson
        raise SettingError("lesson", Text("a lesson that trains", "有训练的一课"), self.lesson.key)


def natural_number(name: str, value: object) -> int:
    """A whole number that a page sends. Raises SettingError."""
    if type(value) is not int or not 0 <= value < LARGEST_NUMBER:
        raise SettingError(name, Text("a whole number of at least 0", "不小于 0 的整数"), value)
    return value
