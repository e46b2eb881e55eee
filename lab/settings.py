"""Self-validating settings: the base class Config and the controls that validate and present its fields."""

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

MAX_MATRIX_LENGTH = 500  # maximum length of a typed matrix
MAX_MAGNITUDE = 1e6  # maximum magnitude of a number in a matrix

ALWAYS_SHOWN: Mapping[str, tuple[str, ...]] = {}

POINTS = Text("Points", "数据点数")
NOISE = Text("Noise", "噪声")


class Typed(str):
    """Text that was typed into a number field. Errors quote it verbatim."""

    __slots__ = ()


class SettingError(ValueError):
    """Invalid value of a setting. The message reads "NAME must be RULE, not VALUE.", with details in attributes."""

    def __init__(self, name: str, rule: Words, value: object) -> None:
        self.name = name
        self.rule = rule
        self.value = value
        super().__init__(self.told(name).en)

    def __reduce__(self) -> "tuple[type[SettingError], tuple[str, Words, object]]":
        """Pickled with its arguments, since a worker process raises it too."""
        return type(self), (self.name, self.rule, self.value)

    def told(self, name: Words) -> Text:
        """The message with `name` as the setting's display name."""
        return Text("{name} must be {rule}, not {value}.", "{name}必须是{rule}，不能是 {value}。").format(
            name=name, rule=self.rule, value=shown(self.value)
        )


def shown(value: object) -> Words:
    """`value` formatted for an error message: one short line even for a large value."""
    if isinstance(value, int) and value.bit_length() > 128:  # str() raises ValueError for very large integers
        return Text("a number with more than 38 digits", "超过 38 位的数")
    if isinstance(value, Typed) and len(value) <= 40 and _is_python_number(value):
        return str(value)  # without quotes, like a number
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
    """Control of a setting: its presentation and validation.

    A `view` setting changes only what is shown, not the run. A `live` setting can change during a run. `when` maps
    other settings to the values for which this one has an effect; otherwise it is hidden.
    """

    label: Text
    info: Text
    default: Any
    view: bool = False
    live: bool = False
    when: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @abstractmethod
    def check(self, name: str, value: object) -> Any:
        """Validate `value` and return it in canonical form. Raises SettingError."""

    def read(self, name: str, value: object) -> Any:
        """Like `check`, but also parses values typed on the page, in a link or in a command. Raises SettingError."""
        return self.check(name, value)

    @abstractmethod
    def schema(self) -> dict[str, Any]:
        """JSON Schema of the setting: type, default and constraints."""


@dataclass(frozen=True, kw_only=True)
class Number(Control):
    """A number in a closed range.

    An int default restricts it to whole numbers. A number without `step` has a text box instead of a slider, which
    suits seeds and learning rates, whose useful values span orders of magnitude.
    """

    default: int | float
    minimum: int | float
    maximum: int | float
    step: int | float | None = None

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are valid."""
        return isinstance(self.default, int)

    @property
    def rule(self) -> Text:
        """Description of valid values."""
        spec = "d" if self.whole else "g"
        low, high = f"{self.minimum:{spec}}", f"{self.maximum:{spec}}"
        kind = Text("a whole number", "整数") if self.whole else Text("a number", "数")
        rule = Text("{kind} from {low} to {high}", " {low} 到 {high} 之间的{kind}")
        return rule.format(kind=kind, low=low, high=high)

    def check(self, name: str, value: object) -> int | float:
        # bool is a subclass of int, but JSON's true is not a number.
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise SettingError(name, self.rule, value)
        if not self.minimum <= value <= self.maximum:  # also rejects NaN
            raise SettingError(name, self.rule, value)
        if self.whole and value != int(value):  # JSON does not distinguish 100.0 from 100
            raise SettingError(name, self.rule, value)
        return int(value) if self.whole else float(value)

    def read(self, name: str, value: object) -> int | float:
        if not isinstance(value, str):
            return self.check(name, value)
        typed = Typed(value.strip())
        try:
            exact = numerals.read(value, self.whole)
        except NumeralError as error:
            raise SettingError(name, self._unambiguous_rule if error.ambiguous else self.rule, typed) from None
        number = exact if self.whole else float(exact)  # exact: float() could round a fraction to a whole number
        if not self.minimum <= number <= self.maximum or (self.whole and number != int(number)):
            raise SettingError(name, self.rule, typed)
        return int(number) if self.whole else float(number)

    @property
    def _unambiguous_rule(self) -> Text:
        """`rule` with advice against ambiguous separators."""
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
    """A boolean."""

    default: bool

    def check(self, name: str, value: object) -> bool:
        if isinstance(value, str) and value in ("true", "false"):  # from the command line
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
    """Any of several options, normalized to the order of `options`."""

    default: tuple[str, ...]
    options: Mapping[str, Words]
    least: int = 0

    def check(self, name: str, value: object) -> tuple[str, ...]:
        if isinstance(value, str):  # from the command line or a link
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
    """A matrix of numbers in Python syntax, [[1, 2], [3, 4]], or a vector, [1, 2], if `vector` is set.

    `shape`, if given, is required; otherwise each dimension may be up to `longest`.
    """

    default: Matrix | tuple[float, ...]
    vector: bool = False
    shape: tuple[int, ...] | None = None
    longest: int = 6
    least: int = 1

    @property
    def rule(self) -> Text:
        """Description of valid values."""
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
                f"rows of equal length like [[1, 2], [3, 4]], at most {self.longest} by {self.longest}",
                f"形如 [[1, 2], [3, 4]] 的矩阵，各行一样长，最多 {self.longest} 行 {self.longest} 列",
            )
        return Text("{kind}, none larger in magnitude than {most}", "{kind}，绝对值不超过 {most}").format(
            kind=kind, most=f"{MAX_MAGNITUDE:,.0f}"
        )

    def check(self, name: str, value: object) -> Matrix | tuple[float, ...]:
        """Also accepts text, including full-width and other Unicode digits and brackets."""
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
            if not -MAX_MAGNITUDE <= number <= MAX_MAGNITUDE:  # also rejects NaN and infinities
                raise SettingError(name, self.rule, number if math.isfinite(number) else given)
        return tuple(row)

    def schema(self) -> dict[str, Any]:
        row = {"type": "array", "items": {"type": "number"}, "minItems": self.least, "maxItems": self.longest}
        rows = row if self.vector else {"type": "array", "items": row, "minItems": 1, "maxItems": self.longest}
        return {**rows, "default": _as_lists(self.default)}

    def typed(self, value: Matrix | tuple[float, ...]) -> str:
        """`value` as editable text."""
        return json.dumps(value)


def _from_json(text: str) -> Any:
    """Parsed JSON, or None if it is invalid."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _plain_matrix(text: str) -> str:
    """Convert a typed matrix, whose entries contain no commas, to JSON. Empty if an entry is not a number."""
    if len(text) > MAX_MATRIX_LENGTH:
        return ""
    try:
        return re.sub(r"[^\[\],]+", lambda cell: _plain_cell(cell[0]), numerals.plain(text))
    except NumeralError:
        return ""


def _plain_cell(text: str) -> str:
    text = text.strip()
    if not text:
        return ""
    if any(map(str.isspace, text)):  # [1 200] could be two numbers or one
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
    when: Mapping[str, tuple[str, ...]] = ALWAYS_SHOWN,
) -> N:
    """Config field for a number."""
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
    return _control_field(control, default)


def switch(default: bool, label: Text, *, info: Text, view: bool = False) -> bool:
    """Config field for a boolean."""
    return _control_field(Switch(label=label, info=info, default=default, view=view), default)


def choice(default: str, label: Text, options: Mapping[str, Words], *, info: Text, view: bool = False) -> str:
    """Config field for one of the options."""
    return _control_field(Choice(label=label, info=info, default=default, options=options, view=view), default)


def choices(
    default: tuple[str, ...],
    label: Text,
    options: Mapping[str, Words],
    *,
    info: Text,
    least: int = 0,
    view: bool = False,
) -> tuple[str, ...]:
    """Config field for a subset of the options."""
    control = Choices(label=label, info=info, default=default, options=options, least=least, view=view)
    return _control_field(control, default)


def matrix(
    default: Matrix, label: Text, *, info: Text, shape: tuple[int, int] | None = None, view: bool = False
) -> Matrix:
    """Config field for a matrix."""
    return _control_field(Numbers(label=label, info=info, default=default, shape=shape, view=view), default)


def vector(
    default: tuple[float, ...], label: Text, *, info: Text, least: int = 1, longest: int = 6, view: bool = False
) -> tuple[float, ...]:
    """Config field for a vector."""
    control = Numbers(label=label, info=info, default=default, vector=True, least=least, longest=longest, view=view)
    return _control_field(control, default)


def seed(default: int = 2) -> int:
    """Config field for the random seed."""
    info = Text("Random number seed; the same seed reproduces a run", "随机数的起点：种子相同，结果就完全相同")
    return number(default, Text("Seed", "随机种子"), 0, 2**31 - 1, info=info)


def learning_rate(default: float) -> float:
    """Config field for the learning rate."""
    info = Text("Step size of an update", "每一步走多远")
    return number(default, Text("Learning rate", "学习率"), 0.0001, 10.0, info=info, live=True)


def steps(default: int, most: int = 2000) -> int:
    """Config field for the number of training steps."""
    info = Text("Number of weight updates", "权重更新多少次")
    return number(default, Text("Steps", "训练步数"), 1, most, step=1, info=info)


def hidden_units(default: int, most: int = 100) -> int:
    """Config field for the width of a hidden layer."""
    info = Text("Number of units in the hidden layer", "隐藏层的单元个数")
    return number(default, Text("Hidden units", "隐藏单元"), 1, most, step=1, info=info)


def _control_field(control: Control, default: T) -> T:
    value: T = field(default=default, metadata={"control": control})
    return value


def _one_of(options: Mapping[str, Words]) -> Text:
    names = ", ".join(options)
    return Text(f"one of {names}", f" {names} 之一")


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _as_lists(value: Any) -> Any:
    return [_as_lists(each) for each in value] if isinstance(value, tuple) else value


@dataclass(frozen=True, kw_only=True)
class Config:
    """Validated settings of one run. Subclasses define fields with `number`, `choice` and the like.

    A field defined with `group` holds a nested Config of settings shared by lessons, which pages, links and JSON
    flatten into the outer settings. Raises SettingError for an invalid value.
    """

    def __post_init__(self) -> None:
        for each in fields(self):
            if "control" in each.metadata:
                control: Control = each.metadata["control"]
                object.__setattr__(self, each.name, control.check(each.name, getattr(self, each.name)))

    @classmethod
    def read(cls, settings: object) -> Self:
        """Like `parse`, but also parses numbers typed on the page, in a link or in a command.

        See `lab.numerals` for accepted formats. Raises SettingError like `parse`, quoting the typed text.
        """
        known = cls.controls()
        if isinstance(settings, Mapping) and settings.keys() <= known.keys():
            settings = {name: known[name].read(name, value) for name, value in settings.items()}
        return cls.parse(settings)

    @classmethod
    def parse(cls, settings: object) -> Self:
        """Validate untrusted `settings` (name -> value). Missing settings take their defaults.

        Raises SettingError if `settings` is not a mapping, for unknown names and for invalid values.
        """
        if not isinstance(settings, Mapping):
            raise SettingError("settings", Text("an object of names and values", "由名字和值组成的对象"), settings)
        known = cls.controls()
        for name in settings:
            if name not in known:
                names = ", ".join(known)
                raise SettingError("settings", Text(f"one of {names}", f" {names} 之中的"), name)
        return cls._of(settings)

    @classmethod
    def _of(cls, settings: Mapping[str, Any]) -> Self:
        """Construct a config from known settings, ignoring those of other groups."""
        made: dict[str, Any] = {}
        for each in fields(cls):
            if "group" in each.metadata:
                made[each.name] = each.metadata["group"]._of(settings)
            elif each.name in settings:
                made[each.name] = settings[each.name]
        return cls(**made)

    @classmethod
    def controls(cls) -> dict[str, Control]:
        """Control of every setting in order, with groups flattened in place."""
        made: dict[str, Control] = {}
        for each in fields(cls):
            if "group" in each.metadata:
                made |= each.metadata["group"].controls()
            else:
                made[each.name] = each.metadata["control"]
        return made

    def by_name(self) -> dict[str, Any]:
        """Value of every setting by name, with groups flattened."""
        made: dict[str, Any] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            made |= value.by_name() if "group" in each.metadata else {each.name: value}
        return made

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON-serializable data, the inverse of `parse`."""
        return {name: _as_lists(value) for name, value in self.by_name().items()}

    def matters(self, name: str) -> bool:
        """Whether a setting has an effect, given the other settings."""
        values = self.by_name()
        when = self.controls()[name].when
        return all({*_as_tuple(values[other])} & {*wanted} for other, wanted in when.items())

    def changed(self, name: str, value: object) -> Self:
        """Copy with one setting replaced. Raises SettingError."""
        return self.parse({**self.by_name(), name: value})

    def with_views(self, other: "Config") -> Self:
        """Copy with the view settings of `other`."""
        values = other.by_name()
        views = {name: values[name] for name, control in self.controls().items() if control.view}
        return self.parse({**self.by_name(), **views}) if views else self

    def same_run(self, other: "Config") -> bool:
        """Whether both describe the same run, ignoring view settings."""
        ours, theirs = self.by_name(), other.by_name()
        names = [name for name, control in self.controls().items() if not control.view]
        return type(self) is type(other) and all(ours[name] == theirs[name] for name in names)


def group(kind: type[G]) -> G:
    """Config field for a nested group of settings shared by lessons."""
    made: G = field(default_factory=kind, metadata={"group": kind})
    return made
