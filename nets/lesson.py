"""What a lesson is: its settings with their controls, what it shows, and the trainer that runs it."""

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
    """How a number is offered and judged: its label, its default, its inclusive range, the step of its slider.

    A whole default takes whole numbers only. A number without a step is typed in, as it suits seeds and learning
    rates, whose useful values lie too far apart for a slider.
    """

    label: str
    info: str
    default: int | float
    minimum: int | float
    maximum: int | float
    step: int | float | None

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are taken."""
        return isinstance(self.default, int)

    def check(self, name: str, value: object) -> int | float:
        """`value` as the number that it is. Raises SettingError."""
        kind, spec = ("a whole number", "d") if self.whole else ("a number", "g")
        rule = f"{kind} from {self.minimum:{spec}} to {self.maximum:{spec}}"
        # bool is an int to Python, but no number to whoever sends true.
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise SettingError(name, rule, value)
        if not self.minimum <= value <= self.maximum:  # NaN is never in a range
            raise SettingError(name, rule, value)
        if self.whole and value != int(value):  # JSON has no whole numbers, so 100.0 is 100
            raise SettingError(name, rule, value)
        return int(value) if self.whole else float(value)

    def schema(self) -> dict[str, Any]:
        """The control for programs."""
        kind = "integer" if self.whole else "number"
        limits = {"minimum": self.minimum, "maximum": self.maximum}
        return {"label": self.label, "type": kind, "default": self.default, **limits}


def setting(default: N, label: str, minimum: N, maximum: N, *, step: N | None = None, info: str = "") -> N:
    """A field of a Config that carries its control."""
    control = Control(label, info, default, minimum, maximum, step)
    value: N = field(default=default, metadata={"control": control})
    return value


def seed_setting() -> int:
    """The seed that every lesson with random numbers has."""
    return setting(2, "Seed", 0, 2**31 - 1, info="Start of the random numbers: the same seed repeats a run")


@dataclass(frozen=True, kw_only=True)
class Config:
    """The settings of one run. Subclasses add fields made by `setting`; every instance has been checked.

    Raises SettingError where a value breaks its control's rule.
    """

    def __post_init__(self) -> None:
        for name, control in self.controls().items():
            object.__setattr__(self, name, control.check(name, getattr(self, name)))

    @classmethod
    def parse(cls, settings: object) -> Self:
        """A config of `settings` (name -> value), defaults for the rest, from a source not to be trusted.

        Raises SettingError for anything but a mapping, for unknown names and for values that break their rule.
        """
        if not isinstance(settings, Mapping):
            raise SettingError("settings", "an object of names and values", settings)
        known = cls.controls()
        for name in settings:
            if name not in known:
                raise SettingError("settings", f"among {', '.join(known)}", name)
        return cls(**settings)

    @classmethod
    def controls(cls) -> dict[str, Control]:
        """Every setting's control, in order."""
        return {each.name: each.metadata["control"] for each in fields(cls)}

    def to_dict(self) -> dict[str, int | float]:
        """The settings by name, ready for JSON and for `parse`."""
        return asdict(self)


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
