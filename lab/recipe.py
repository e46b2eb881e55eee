"""Serializable description of a run: lesson, settings, changes during the run, and the step where it was stopped.

Training is deterministic, so equal recipes give equal runs and a recipe is sufficient to reproduce one.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from charts.text import Text
from lab.settings import Config, Number, SettingError

VERSION = 1  # of the JSON format
MAX_CHANGES = 100

# NET.PARAMETER.INDEX..., such as net.hidden.weight.3.0. Trainer checks that the weight exists.
WEIGHT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)+")
MAX_NAME_LENGTH = 200

_NO_TEXT = Text("", "")
_WEIGHT = Number(label=_NO_TEXT, info=_NO_TEXT, default=0.0, minimum=-1e6, maximum=1e6)
# Trainer checks the limit of the run.
_STEPS = Number(label=_NO_TEXT, info=_NO_TEXT, default=0, minimum=0, maximum=1_000_000)


@dataclass(frozen=True)
class Change:
    """A new value for a setting or a weight, applied after `step` steps."""

    step: int
    name: str
    value: Any

    def to_dict(self) -> dict[str, Any]:
        """The change as JSON-serializable data, as in `Recipe.to_dict`."""
        return {"step": self.step, "name": self.name, "value": self.value}

    @property
    def of_weight(self) -> bool:
        """Whether it changes a weight, NET.PARAMETER.INDEX..., rather than a setting."""
        return "." in self.name


@dataclass(frozen=True)
class Recipe:
    """Description of a run. `settings` includes defaults; `changes` are in the order in which they are applied.

    `stop` is the number of steps after which the run was stopped early, or None.
    """

    lesson: str
    settings: Config
    changes: tuple[Change, ...] = ()
    stop: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """The recipe as JSON-serializable data, the inverse of `parse`."""
        return {
            "version": VERSION,
            "lesson": self.lesson,
            "settings": self.settings.to_dict(),
            "changes": [each.to_dict() for each in self.changes],
            "stop": self.stop,
        }

    @classmethod
    def parse(cls, data: object, configs: Mapping[str, type[Config]]) -> "Recipe":
        """Validate a recipe from untrusted JSON data. Missing settings take their defaults.

        `configs` has the Config of every lesson with training. Raises SettingError for invalid data.
        """
        if not isinstance(data, Mapping):
            raise SettingError("recipe", Text("an object", "一个对象"), data)
        names = ("version", "lesson", "settings", "changes", "stop")
        for name in data:
            if name not in names:
                raise SettingError(
                    "recipe",
                    Text(f"an object with the keys {', '.join(names)}", f"由 {', '.join(names)} 组成的对象"),
                    name,
                )
        version = data.get("version", VERSION)
        if type(version) is not int or version != VERSION:
            raise SettingError("version", f"{VERSION}", version)
        key = data.get("lesson")
        if not isinstance(key, str) or key not in configs:
            raise SettingError("lesson", Text(f"one of {', '.join(configs)}", f" {', '.join(configs)} 之一"), key)
        settings = configs[key].parse(data.get("settings", {}))
        return cls(key, settings, parse_changes(data.get("changes", ()), settings), parse_stop(data.get("stop")))

    def until(self, step: int) -> "Recipe":
        """The recipe stopped after `step` steps, including changes at that step."""
        return replace(self, changes=tuple(each for each in self.changes if each.step <= step), stop=step)


def parse_changes(data: object, settings: Config) -> tuple[Change, ...]:
    """Validate changes from JSON data and sort them by step. Raises SettingError."""
    rule = Text(f"a list of at most {MAX_CHANGES} changes", f"最多 {MAX_CHANGES} 项改动的列表")
    if not isinstance(data, list | tuple) or len(data) > MAX_CHANGES:
        raise SettingError("changes", rule, data)
    return sort_changes(_parse_change(each, settings) for each in data)


def read_changes(data: Iterable[str], settings: Config) -> tuple[Change, ...]:
    """Parse changes typed as STEP:NAME=VALUE and sort them by step. Raises SettingError."""
    rule = Text(f"at most {MAX_CHANGES}, each STEP:NAME=VALUE", f"最多 {MAX_CHANGES} 项，每项写作 步数:名字=值")
    changes: list[Change] = []
    for text in data:
        step, colon, rest = text.partition(":")
        name, equals, value = rest.partition("=")
        if not colon or not equals or len(changes) == MAX_CHANGES:
            raise SettingError("changes", rule, text)
        changes.append(validate_change(int(_STEPS.read("changes", step)), name.strip(), value, settings))
    return sort_changes(changes)


def read_stop(data: str | None) -> int | None:
    """Parse a typed number of steps after which to stop the run. Raises SettingError."""
    return None if data is None else int(_STEPS.read("stop", data))


def sort_changes(changes: Iterable[Change]) -> tuple[Change, ...]:
    """Changes sorted by step; the sort is stable."""
    return tuple(sorted(changes, key=lambda each: each.step))


def parse_stop(data: object) -> int | None:
    """Validate the number of steps after which to stop the run, from JSON data. Raises SettingError."""
    return None if data is None else int(_STEPS.check("stop", data))


def _parse_change(data: object, settings: Config) -> Change:
    if not isinstance(data, Mapping) or data.keys() != {"step", "name", "value"}:
        raise SettingError(
            "changes", Text("objects with the keys step, name and value", "由 step、name、value 组成的对象"), data
        )
    return validate_change(int(_STEPS.check("step", data["step"])), data["name"], data["value"], settings)


def validate_change(step: int, name: object, value: object, settings: Config) -> Change:
    """Validate one change. Raises SettingError. Whether a weight exists is left to Trainer."""
    live = {key: control for key, control in settings.controls().items() if control.live}
    if isinstance(name, str) and name in live:
        return Change(step, name, live[name].read(name, value))
    if isinstance(name, str) and len(name) <= MAX_NAME_LENGTH and WEIGHT.fullmatch(name):
        return Change(step, name, _WEIGHT.read(name, value))
    names = ", ".join(live) or "-"
    raise SettingError(
        "changes",
        Text(
            f"one of {names} or a weight such as net.hidden.weight.0.0",
            f"对 {names} 或权重（如 net.hidden.weight.0.0）的改动",
        ),
        name,
    )
