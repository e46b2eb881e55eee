"""Recipes in the query of a URL, in links to a lesson and to files.

For example `seed=2&steps=100&changes=40:learning_rate=0.1&stop=60`.
"""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from charts.text import Text
from lab.lesson import Lesson, Training
from lab.recipe import Change, Recipe, read_link, read_stop, to_link
from lab.settings import SettingError

LONGEST = 8000  # characters of all values together


def query(recipe: Recipe, **others: Any) -> str:
    """The query of a recipe, with every setting written out, and of further parameters."""
    values = {name: _text(value) for name, value in recipe.settings.to_dict().items()}
    if recipe.changes:
        values["changes"] = to_link(recipe.changes)
    if recipe.stop is not None:
        values["stop"] = str(recipe.stop)
    return urlencode({**values, **others}, safe=":=,[]")


def read(lesson: Lesson, parameters: Mapping[str, object]) -> Recipe:
    """The recipe in the parameters of a query. Raises SettingError."""
    recipe, errors = read_good(lesson, parameters)
    if errors:
        raise errors[0]
    return recipe


def read_good(lesson: Lesson, parameters: Mapping[str, object]) -> tuple[Recipe, list[SettingError]]:
    """The recipe of all good parameters, and an error for each other one; missing settings have their defaults."""
    errors: list[SettingError] = []
    given = dict(parameters)
    if sum(len(value) for value in given.values() if isinstance(value, str)) > LONGEST:
        rule = Text(f"at most {LONGEST} characters long", f"最多 {LONGEST} 个字符")
        return Recipe(lesson.key, lesson.config()), [SettingError("link", rule, "")]
    changes, stop = given.pop("changes", None), given.pop("stop", None)
    good: dict[str, object] = {}
    for name, value in given.items():
        try:
            lesson.config.read({name: value})
        except SettingError as error:
            errors.append(error)
        else:
            good[name] = value
    settings = lesson.config.read(good)
    recipe = Recipe(lesson.key, settings)
    if not isinstance(lesson, Training):
        names = [name for name, value in (("changes", changes), ("stop", stop)) if value is not None]
        return recipe, [*errors, *(SettingError("settings", _no_such(lesson), name) for name in names)]
    made: tuple[Change, ...] = ()
    ended: int | None = None
    try:
        made = read_link(str(changes or ""), settings)
    except SettingError as error:
        errors.append(error)
    try:
        ended = read_stop(None if stop is None else str(stop))
    except SettingError as error:
        errors.append(error)
    return Recipe(lesson.key, settings, made, ended), errors


def _no_such(lesson: Lesson) -> Text:
    names = ", ".join(lesson.config.controls())
    return Text(f"one of {names}", f" {names} 之中的")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
