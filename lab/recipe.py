"""A run as a value: its lesson, its settings, what was changed on the way, and where it was stopped.

Training is deterministic, so that equal recipes give equal runs: a recipe is all that has to be kept of one.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from charts.text import Text
from lab.settings import Config, Number, SettingError

VERSION = 1  # of a recipe's JSON
MOST_CHANGES = 1000

# NET.PARAMETER.INDEX..., such as net.hidden.weight.3.0; what is not there is refused by the run itself.
WEIGHT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)+")
LONGEST_NAME = 200

_NONE = Text("", "")
_WEIGHT = Number(label=_NONE, info=_NONE, default=0.0, minimum=-1e6, maximum=1e6)
_STEPS = Number(label=_NONE, info=_NONE, default=0, minimum=0, maximum=1_000_000)  # how many a run has, its lesson says


@dataclass(frozen=True)
class Change:
    """A setting or a weight that gets another value once `step` steps have been taken."""

    step: int
    name: str
    value: Any

    def to_dict(self) -> dict[str, Any]:
        """The change, ready for JSON and for `Recipe.parse`."""
        return {"step": self.step, "name": self.name, "value": self.value}

    @property
    def of_weight(self) -> bool:
        """Whether it is a weight's, NET.PARAMETER.INDEX..., and not a setting's."""
        return "." in self.name


@dataclass(frozen=True)
class Recipe:
    """A run. `settings` has every setting written out; `changes` are in the order in which they take effect.

    `stop` is the number of steps after which the run was ended, if that was before its end.
    """

    lesson: str
    settings: Config
    changes: tuple[Change, ...] = ()
    stop: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """The recipe, ready for JSON and for `parse`."""
        return {
            "version": VERSION,
            "lesson": self.lesson,
            "settings": self.settings.to_dict(),
            "changes": [each.to_dict() for each in self.changes],
            "stop": self.stop,
        }

    @classmethod
    def parse(cls, told: object, configs: Mapping[str, type[Config]]) -> "Recipe":
        """The recipe that JSON tells of, from a source not to be trusted; settings that are left out are defaults.

        `configs` has the Config of every lesson that trains. Raises SettingError for whatever breaks a rule.
        """
        if not isinstance(told, Mapping):
            raise SettingError("recipe", Text("an object", "一个对象"), told)
        names = ("version", "lesson", "settings", "changes", "stop")
        for name in told:
            if name not in names:
                raise SettingError(
                    "recipe", Text(f"an object of {', '.join(names)}", f"由 {', '.join(names)} 组成的对象"), name
                )
        version = told.get("version", VERSION)
        if type(version) is not int or version != VERSION:
            raise SettingError("version", f"{VERSION}", version)
        key = told.get("lesson")
        if not isinstance(key, str) or key not in configs:
            raise SettingError("lesson", Text(f"one of {', '.join(configs)}", f" {', '.join(configs)} 之一"), key)
        settings = configs[key].parse(told.get("settings", {}))
        return cls(key, settings, parse_changes(told.get("changes", ()), settings), parse_stop(told.get("stop")))

    def until(self, step: int) -> "Recipe":
        """The recipe cut off after so many steps; changes that take effect there still belong to it."""
        return replace(self, changes=tuple(each for each in self.changes if each.step <= step), stop=step)


def parse_changes(told: object, settings: Config) -> tuple[Change, ...]:
    """Changes of a run with these settings, from JSON, in the order of their steps. Raises SettingError."""
    rule = Text(f"a list of at most {MOST_CHANGES} changes", f"最多 {MOST_CHANGES} 项改动的列表")
    if not isinstance(told, list | tuple) or len(told) > MOST_CHANGES:
        raise SettingError("changes", rule, told)
    return in_order(_change(each, settings) for each in told)


def read_changes(told: Iterable[str], settings: Config) -> tuple[Change, ...]:
    """Changes as people type them, each STEP:NAME=VALUE, in the order of their steps. Raises SettingError."""
    rule = Text(f"at most {MOST_CHANGES}, each STEP:NAME=VALUE", f"最多 {MOST_CHANGES} 项，每项写作 步数:名字=值")
    changes: list[Change] = []
    for text in told:
        step, colon, rest = text.partition(":")
        name, equals, value = rest.partition("=")
        if not colon or not equals or len(changes) == MOST_CHANGES:
            raise SettingError("changes", rule, text)
        changes.append(checked(int(_STEPS.read("changes", step)), name.strip(), value, settings))
    return in_order(changes)


def read_stop(told: str | None) -> int | None:
    """The number of steps after which a run is ended, as people type it. Raises SettingError."""
    return None if told is None else int(_STEPS.read("stop", told))


def in_order(changes: Iterable[Change]) -> tuple[Change, ...]:
    """By steps; those of one step as they come."""
    return tuple(sorted(changes, key=lambda each: each.step))


def parse_stop(told: object) -> int | None:
    """The number of steps after which a run is ended, from JSON. Raises SettingError."""
    return None if told is None else int(_STEPS.check("stop", told))


def _change(told: object, settings: Config) -> Change:
    if not isinstance(told, Mapping) or told.keys() != {"step", "name", "value"}:
        raise SettingError("changes", Text("objects of step, name and value", "由 step、name、value 组成的对象"), told)
    return checked(int(_STEPS.check("step", told["step"])), told["name"], told["value"], settings)


def checked(step: int, name: object, value: object, settings: Config) -> Change:
    """A change of a run with these settings. Raises SettingError; whether a weight is there, the run itself knows."""
    live = {key: control for key, control in settings.controls().items() if control.live}
    if isinstance(name, str) and name in live:
        return Change(step, name, live[name].read(name, value))
    if isinstance(name, str) and len(name) <= LONGEST_NAME and WEIGHT.fullmatch(name):
        return Change(step, name, _WEIGHT.read(name, value))
    names = ", ".join(live) or "-"
    raise SettingError(
        "changes",
        Text(
            f"of {names} or of a weight such as net.hidden.weight.0.0",
            f"对 {names} 或权重（如 net.hidden.weight.0.0）的改动",
        ),
        name,
    )
