"""Settings that check themselves: what a Config's fields may be, and the controls that offer them."""

import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self, TypeVar

from charts.text import Text, Words
from lab import numerals
from lab.numerals import NumeralError

N = TypeVar("N", int, float)
T = TypeVar("T")
G = TypeVar("G", bound="Config")

Matrix = tuple[tuple[float, ...], ...]

MOST_LETTERS = 500  # of a matrix that is typed in
LARGEST = 1e6  # magnitude of a number in a matrix

NEVER_HIDDEN: Mapping[str, tuple[str, ...]] = {}

POINTS = Text("Points", "数据点数")
NOISE = Text("Noise", "噪声")


class Typed(str):
    """A text that was typed where a number is wanted; errors show it as it was typed."""

    __slots__ = ()


class SettingError(ValueError):
    """A setting that breaks its rule: "NAME must be RULE, not VALUE." in one sentence."""

    def __init__(self, name: str, rule: Words, value: object) -> None:
        self.name = name
        self.rule = rule
        self.value = value
        super().__init__(self.told(name).en)

    def told(self, name: Words) -> Text:
        """The sentence, with the setting called as its reader knows it."""
        return Text("{name} must be {rule}, not {value}.", "{name}必须是{rule}，不能是 {value}。").format(
            name=name, rule=self.rule, value=shown(self.value)
        )


def shown(value: object) -> Words:
    """`value` as an error message may show it: one line, short however large the value is."""
    if isinstance(value, int) and value.bit_length() > 128:  # Python refuses to print the largest
        return Text("a number of more than 38 digits", "超过 38 位的数")
    if isinstance(value, Typed) and len(value) <= 40 and _is_python_number(value):
        return str(value)  # without quotes, as if it had come as a number
    if isinstance(value, str):
        return repr(str(value)) if len(value) <= 40 else Text(f"{value[:40]!r} and so on", f"{value[:40]!r} 等等")
    if isinstance(value, int | float) or value is None:
        return repr(value)
    return Text(f"a value of type {type(value).__name__}", f"{type(value).__name__} 类型的值")


def _is_python_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.isprintable()


@dataclass(frozen=True, kw_only=True)
class Control(ABC):
    """How a setting is offered and judged.

    One that is a `view` changes what is shown and not the run. One that is `live` can be changed while a run is on.
    `when` names the settings that it depends on, each with the values with which it matters; elsewhere it is not shown.
    """

    label: Text
    info: Text
    default: Any
    view: bool = False
    live: bool = False
    when: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @abstractmethod
    def check(self, name: str, value: object) -> Any:
        """`value` as the setting keeps it. Raises SettingError."""

    def read(self, name: str, value: object) -> Any:
        """`check` of a value that may have been typed: on the page, in a link or a command. Raises SettingError."""
        return self.check(name, value)

    @abstractmethod
    def schema(self) -> dict[str, Any]:
        """The control for programs: its type, its default and what it takes, in the words of JSON Schema."""


@dataclass(frozen=True, kw_only=True)
class Number(Control):
    """A number in an inclusive range.

    A whole default takes whole numbers only. A number without a step is typed in, as it suits seeds and learning
    rates, whose useful values lie too far apart for a slider.
    """

    default: int | float
    minimum: int | float
    maximum: int | float
    step: int | float | None = None

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are taken."""
        return isinstance(self.default, int)

    @property
    def rule(self) -> Text:
        """What is taken, in words."""
        spec = "d" if self.whole else "g"
        low, high = f"{self.minimum:{spec}}", f"{self.maximum:{spec}}"
        kind = Text("a whole number", "整数") if self.whole else Text("a number", "数")
        rule = Text("{kind} from {low} to {high}", " {low} 到 {high} 之间的{kind}")
        return rule.format(kind=kind, low=low, high=high)

    def check(self, name: str, value: object) -> int | float:
        # bool is an int to Python, but no number to whoever sends true.
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise SettingError(name, self.rule, value)
        if not self.minimum <= value <= self.maximum:  # NaN is never in a range
            raise SettingError(name, self.rule, value)
        if self.whole and value != int(value):  # JSON has no whole numbers, so 100.0 is 100
            raise SettingError(name, self.rule, value)
        return int(value) if self.whole else float(value)

    def read(self, name: str, value: object) -> int | float:
        if not isinstance(value, str):
            return self.check(name, value)
        typed = Typed(value.strip())
        try:
            exact = numerals.read(value, self.whole)
        except NumeralError as error:
            raise SettingError(name, self._unmistakable if error.ambiguous else self.rule, typed) from None
        number = exact if self.whole else float(exact)  # the exact number, lest a fraction be rounded to a whole number
        if not self.minimum <= number <= self.maximum or (self.whole and number != int(number)):
            raise SettingError(name, self.rule, typed)
        return int(number) if self.whole else float(number)

    @property
    def _unmistakable(self) -> Text:
        """The rule, for who typed a text with two readings."""
        how = Text("{rule} without thousands separators", "{rule}（不用千位分隔符）")
        if not self.whole:
            how = Text(
                "{rule} with a decimal point and no thousands separators", "{rule}（小数点用“.”，不用千位分隔符）"
            )
        return how.format(rule=self.rule)

    def schema(self) -> dict[str, Any]:
        kind = "integer" if self.whole else "number"
        return {"type": kind, "default": self.default, "minimum": self.minimum, "maximum": self.maximum}


@dataclass(frozen=True, kw_only=True)
class Switch(Control):
    """On or off."""

    default: bool

    def check(self, name: str, value: object) -> bool:
        if isinstance(value, str) and value in ("true", "false"):  # as the command line has it
            return value == "true"
        if not isinstance(value, bool):
            raise SettingError(name, Text("true or false", " true 或 false"), value)
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean", "default": self.default}


@dataclass(frozen=True, kw_only=True)
class Choice(Control):
    """One of several options; `options` maps each value to its label."""

    default: str
    options: Mapping[str, Words]

    def check(self, name: str, value: object) -> str:
        if not isinstance(value, str) or value not in self.options:
            raise SettingError(name, _one_of(self.options), value)
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "default": self.default, "enum": list(self.options)}


@dataclass(frozen=True, kw_only=True)
class Choices(Control):
    """Any of several options, kept in their order whatever order they come in."""

    default: tuple[str, ...]
    options: Mapping[str, Words]
    least: int = 0

    def check(self, name: str, value: object) -> tuple[str, ...]:
        if isinstance(value, str):  # as the command line has it, or a link
            value = _from_json(value) if value.startswith("[") else list(filter(None, value.split(",")))
        least = Text(f"at least {self.least}", f"至少 {self.least} 个") if self.least else Text("any", "任意几个")
        rule = Text("a list of {least} of {names}", " {names} 中的{least}").format(
            least=least, names=", ".join(self.options)
        )
        if not isinstance(value, list | tuple) or len(value) > len(self.options) or len(value) < self.least:
            raise SettingError(name, rule, value)
        for each in value:
            if not isinstance(each, str) or each not in self.options:
                raise SettingError(name, rule, each)
        return tuple(each for each in self.options if each in value)

    def schema(self) -> dict[str, Any]:
        items = {"type": "string", "enum": list(self.options)}
        return {"type": "array", "default": list(self.default), "items": items, "minItems": self.least}


@dataclass(frozen=True, kw_only=True)
class Numbers(Control):
    """A matrix of numbers as Python writes it, [[1, 2], [3, 4]], or with `rows` None a vector, [1, 2].

    `shape`, if given, is the only one that is taken; otherwise each side may be up to `longest`.
    """

    default: Matrix | tuple[float, ...]
    vector: bool = False
    shape: tuple[int, ...] | None = None
    longest: int = 6
    least: int = 1

    @property
    def rule(self) -> Text:
        """What is taken, in words."""
        if self.vector:
            kind = Text(
                f"{self.least} to {self.longest} numbers like [1, 2]",
                f"形如 [1, 2] 的 {self.least} 到 {self.longest} 个数",
            )
        elif self.shape:
            rows, columns = self.shape
            kind = Text(
                f"{rows} rows of {columns} numbers like [[1, 2], [3, 4]]",
                f"形如 [[1, 2], [3, 4]] 的 {rows} 行 {columns} 列的数",
            )
        else:
            kind = Text(
                f"rows of equally many numbers like [[1, 2], [3, 4]], at most {self.longest} by {self.longest}",
                f"形如 [[1, 2], [3, 4]] 的矩阵，各行一样长，最多 {self.longest} 行 {self.longest} 列",
            )
        return Text("{kind}, none beyond {most}", "{kind}，绝对值不超过 {most}").format(
            kind=kind, most=f"{LARGEST:,.0f}"
        )

    def check(self, name: str, value: object) -> Matrix | tuple[float, ...]:
        """A text is read as it is typed: with full-width or other digits and brackets too."""
        given = value
        if isinstance(value, str):
            value = _from_json(_plain_matrix(value))
        rows = [value] if self.vector else value
        if not isinstance(rows, list | tuple) or not 1 <= len(rows) <= self.longest:
            raise SettingError(name, self.rule, given)
        made = tuple(self._row(name, row, given) for row in rows)
        shape = len(made), len(made[0])
        if len({len(row) for row in made}) != 1 or (self.shape and shape != self.shape):
            raise SettingError(name, self.rule, given)
        return made[0] if self.vector else made

    def _row(self, name: str, row: object, given: object) -> tuple[float, ...]:
        if not isinstance(row, list | tuple) or not self.least <= len(row) <= self.longest:
            raise SettingError(name, self.rule, given)
        for number in row:
            if isinstance(number, bool) or not isinstance(number, int | float):
                raise SettingError(name, self.rule, given)
            if not -LARGEST <= number <= LARGEST:  # nor NaN, nor the infinities
                raise SettingError(name, self.rule, number if math.isfinite(number) else given)
        return tuple(row)

    def schema(self) -> dict[str, Any]:
        row = {"type": "array", "items": {"type": "number"}, "minItems": self.least, "maxItems": self.longest}
        rows = row if self.vector else {"type": "array", "items": row, "minItems": 1, "maxItems": self.longest}
        return {**rows, "default": _listed(self.default)}

    def typed(self, value: Matrix | tuple[float, ...]) -> str:
        """A value as one types it."""
        return json.dumps(value)


def _from_json(text: str) -> Any:
    """What the JSON says; None where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _plain_matrix(text: str) -> str:
    """The matrix as JSON has it, its numbers typed in any way that has no comma; nothing where one is no number."""
    if len(text) > MOST_LETTERS:
        return ""
    try:
        return re.sub(r"[^\[\],]+", lambda cell: _plain_cell(cell[0]), numerals.plain(text))
    except NumeralError:
        return ""


def _plain_cell(text: str) -> str:
    text = text.strip()
    if not text:
        return ""
    if any(map(str.isspace, text)):  # [1 200] is two numbers to some, and no thousands
        raise NumeralError
    number = numerals.read(text)
    return str(number) if number.as_tuple().exponent == 0 else repr(float(number))


def number(
    default: N,
    label: Text,
    minimum: N,
    maximum: N,
    *,
    info: Text,
    step: N | None = None,
    view: bool = False,
    live: bool = False,
    when: Mapping[str, tuple[str, ...]] = NEVER_HIDDEN,
) -> N:
    """A field of a Config that holds a number."""
    control = Number(
        label=label,
        info=info,
        default=default,
        minimum=minimum,
        maximum=maximum,
        step=step,
        view=view,
        live=live,
        when=when,
    )
    return _carrying(control, default)


def switch(default: bool, label: Text, *, info: Text, view: bool = False) -> bool:
    """A field of a Config that is on or off."""
    return _carrying(Switch(label=label, info=info, default=default, view=view), default)


def choice(default: str, label: Text, options: Mapping[str, Words], *, info: Text, view: bool = False) -> str:
    """A field of a Config that holds one of the options."""
    return _carrying(Choice(label=label, info=info, default=default, options=options, view=view), default)


def choices(
    default: tuple[str, ...],
    label: Text,
    options: Mapping[str, Words],
    *,
    info: Text,
    least: int = 0,
    view: bool = False,
) -> tuple[str, ...]:
    """A field of a Config that holds some of the options."""
    control = Choices(label=label, info=info, default=default, options=options, least=least, view=view)
    return _carrying(control, default)


def matrix(
    default: Matrix, label: Text, *, info: Text, shape: tuple[int, int] | None = None, view: bool = False
) -> Matrix:
    """A field of a Config that holds rows of numbers."""
    return _carrying(Numbers(label=label, info=info, default=default, shape=shape, view=view), default)


def vector(
    default: tuple[float, ...], label: Text, *, info: Text, least: int = 1, longest: int = 6, view: bool = False
) -> tuple[float, ...]:
    """A field of a Config that holds a row of numbers."""
    control = Numbers(label=label, info=info, default=default, vector=True, least=least, longest=longest, view=view)
    return _carrying(control, default)


def seed(default: int = 2) -> int:
    """The seed that every lesson with random numbers has."""
    info = Text("Start of the random numbers: the same seed repeats a run", "随机数的起点：种子相同，结果就完全相同")
    return number(default, Text("Seed", "随机种子"), 0, 2**31 - 1, info=info)


def learning_rate(default: float) -> float:
    """How far a step of the optimizer goes."""
    info = Text("How far a step goes", "每一步走多远")
    return number(default, Text("Learning rate", "学习率"), 0.0001, 10.0, info=info, live=True)


def steps(default: int, most: int = 2000) -> int:
    """How many steps a run has."""
    info = Text("How often the weights are updated", "权重更新多少次")
    return number(default, Text("Steps", "训练步数"), 1, most, step=1, info=info)


def hidden_units(default: int, most: int = 100) -> int:
    """The width of a hidden layer."""
    info = Text("Units of the hidden layer", "隐藏层的单元个数")
    return number(default, Text("Hidden units", "隐藏单元"), 1, most, step=1, info=info)


def _carrying(control: Control, default: T) -> T:
    value: T = field(default=default, metadata={"control": control})
    return value


def _one_of(options: Mapping[str, Words]) -> Text:
    names = ", ".join(options)
    return Text(f"one of {names}", f" {names} 之一")


def _several(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _listed(value: Any) -> Any:
    return [_listed(each) for each in value] if isinstance(value, tuple) else value


@dataclass(frozen=True, kw_only=True)
class Config:
    """The settings of one run. Subclasses add fields made by `number` and its like; every instance has been checked.

    A field made by `group` holds several settings that lessons share, as a Config of their own: in pages, links and
    JSON they stand among the others. Raises SettingError where a value breaks its control's rule.
    """

    def __post_init__(self) -> None:
        for each in fields(self):
            if "control" in each.metadata:
                control: Control = each.metadata["control"]
                object.__setattr__(self, each.name, control.check(each.name, getattr(self, each.name)))

    @classmethod
    def read(cls, settings: object) -> Self:
        """`parse` of settings that people type, in the page, a link or a command: a number may be a text.

        See `lab.numerals` for what is understood. Raises SettingError as `parse` does, with what was typed.
        """
        known = cls.controls()
        if isinstance(settings, Mapping) and settings.keys() <= known.keys():
            settings = {name: known[name].read(name, value) for name, value in settings.items()}
        return cls.parse(settings)

    @classmethod
    def parse(cls, settings: object) -> Self:
        """A config of `settings` (name -> value), defaults for the rest, from a source not to be trusted.

        Raises SettingError for anything but a mapping, for unknown names and for values that break their rule.
        """
        if not isinstance(settings, Mapping):
            raise SettingError("settings", Text("an object of names and values", "由名字和值组成的对象"), settings)
        known = cls.controls()
        for name in settings:
            if name not in known:
                names = ", ".join(known)
                raise SettingError("settings", Text(f"among {names}", f" {names} 之中的"), name)
        return cls._of(settings)

    @classmethod
    def _of(cls, settings: Mapping[str, Any]) -> Self:
        """A config of known settings, among which others may stand."""
        made: dict[str, Any] = {}
        for each in fields(cls):
            if "group" in each.metadata:
                made[each.name] = each.metadata["group"]._of(settings)
            elif each.name in settings:
                made[each.name] = settings[each.name]
        return cls(**made)

    @classmethod
    def controls(cls) -> dict[str, Control]:
        """Every setting's control, in order, those of groups in their group's place."""
        made: dict[str, Control] = {}
        for each in fields(cls):
            if "group" in each.metadata:
                made |= each.metadata["group"].controls()
            else:
                made[each.name] = each.metadata["control"]
        return made

    def by_name(self) -> dict[str, Any]:
        """Every setting's value, by name."""
        made: dict[str, Any] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            made |= value.by_name() if "group" in each.metadata else {each.name: value}
        return made

    def to_dict(self) -> dict[str, Any]:
        """The settings by name, ready for JSON and for `parse`."""
        return {name: _listed(value) for name, value in self.by_name().items()}

    def matters(self, name: str) -> bool:
        """Whether a setting makes a difference beside the others."""
        values = self.by_name()
        when = self.controls()[name].when
        return all({*_several(values[other])} & {*wanted} for other, wanted in when.items())

    def changed(self, name: str, value: object) -> Self:
        """The same settings but for one. Raises SettingError."""
        return self.parse({**self.by_name(), name: value})

    def same_run(self, other: "Config") -> bool:
        """Whether both describe the same run, though it may be looked at in different ways."""
        ours, theirs = self.by_name(), other.by_name()
        names = [name for name, control in self.controls().items() if not control.view]
        return type(self) is type(other) and all(ours[name] == theirs[name] for name in names)


def group(kind: type[G]) -> G:
    """A field of a Config that holds settings which lessons share."""
    made: G = field(default_factory=kind, metadata={"group": kind})
    return made
