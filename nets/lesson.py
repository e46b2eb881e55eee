"""What a lesson is: its settings with their controls, what it shows, and the trainer that runs it."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Self, TypeVar

from charts.chart import Chart

if TYPE_CHECKING:
    from nets.training import Trainer

N = TypeVar("N", int, float)


class SettingError(ValueError):
    """A setting that breaks its rule: "NAME must be RULE, not VALUE." in one sentence."""

    def __init__(self, name: str, rule: str, value: object) -> None:
        super().__init__(f"{name} must be {rule}, not {shown(value)}.")
        self.name = name
        self.rule = rule
        self.value = value


@dataclass(frozen=True)
class Control:
    """How a setting is offered: its label, its inclusive range, and the step of its slider.

    A setting without a step is typed in, as it suits seeds and learning rates, whose useful values
    lie too far apart for a slider.
    """

    label: str
    info: str
    minimum: float
    maximum: float
    step: float | None


def setting(default: N, label: str, minimum: N, maximum: N, *, step: N | None = None, info: str = "") -> N:
    """A field of a Config that carries its control. A whole default makes a setting of whole numbers."""
    control = Control(label, info, minimum, maximum, step)
    value: N = field(default=default, metadata={"control": control})
    return value


def seed_setting() -> int:
    """The seed that every lesson with random numbers has."""
    return setting(2, "Seed", 0, 2**31 - 1, info="Start of the random numbers: the same seed repeats a run")


@dataclass(frozen=True, kw_only=True)
class Config:
    """The settings of one run. Subclasses add fields made by `setting`; every instance has been checked.

    Raises SettingError where a value is not a number of its kind within its range.
    """

    def __post_init__(self) -> None:
        for name, control, default in self._settings():
            checked = _checked(name, getattr(self, name), control, whole=isinstance(default, int))
            object.__setattr__(self, name, checked)

    @classmethod
    def parse(cls, settings: object) -> Self:
        """A config of `settings` (name -> value), defaults for the rest, from a source not to be trusted.

        Raises SettingError for anything but a mapping, for unknown names and for values out of range.
        """
        if not isinstance(settings, Mapping):
            raise SettingError("settings", "an object of names and values", settings)
        known = [name for name, _, _ in cls._settings()]
        for name in settings:
            if name not in known:
                raise SettingError("settings", f"among {', '.join(known)}", name)
        return cls(**settings)

    @classmethod
    def controls(cls) -> dict[str, Control]:
        """Every setting's control, in order."""
        return {name: control for name, control, _ in cls._settings()}

    @classmethod
    def _settings(cls) -> list[tuple[str, Control, int | float]]:
        return [
            (f.name, f.metadata["control"], f.default)  # type: ignore[misc]  # `setting` always gives a default
            for f in fields(cls)
        ]

    def to_dict(self) -> dict[str, int | float]:
        """The settings by name, ready for JSON and for `parse`."""
        return asdict(self)


def _checked(name: str, value: object, control: Control, *, whole: bool) -> int | float:
    rule = f"a number from {control.minimum:g} to {control.maximum:g}"
    if whole:
        rule = f"a whole number from {control.minimum} to {control.maximum}"
    # bool is an int to Python, but no number to whoever sends true; JSON has no whole numbers, so 100.0 is 100.
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SettingError(name, rule, value)
    if isinstance(value, float) and not math.isfinite(value):
        raise SettingError(name, rule, value)
    if not control.minimum <= value <= control.maximum or (whole and value != int(value)):
        raise SettingError(name, rule, value)
    return int(value) if whole else float(value)


def shown(value: object) -> str:
    """`value` as an error message may show it: one line, short however large the value is."""
    if isinstance(value, int) and value.bit_length() > 128:  # Python refuses to print the largest
        return "a number of more than 38 digits"
    if isinstance(value, str):
        return repr(value) if len(value) <= 40 else f"{value[:40]!r} and so on"
    if isinstance(value, int | float) or value is None:
        return repr(value)
    return f"a value of type {type(value).__name__}"


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A look at a run: the steps taken, named figures such as the loss, and what to draw."""

    step: int
    metrics: dict[str, float]
    chart: Chart


@dataclass(frozen=True)
class Port:
    """What a net takes or gives: the meaning of each feature, in order, with its unit."""

    features: tuple[str, ...]
    unit: str


@dataclass(frozen=True)
class Lesson:
    """A lesson: its key (file names, links, the API), its tab, its settings and its trainer."""

    key: str
    title: str
    summary: str  # Markdown, two or three sentences: what happens here
    text: str  # Markdown: what to try, why, and how the old notes differ
    task: str  # as the model card names it
    config: type[Config]
    trainer: "type[Trainer[Any]]"
    inputs: Port
    outputs: Port
    classes: tuple[str, ...] = ()  # for classifiers: what each output stands for
