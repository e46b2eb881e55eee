"""Definition of a lesson: its text, its settings, its views and, if it trains, its setup."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from charts.blocks import Block, Note
from charts.chart import Chart
from charts.text import Text, Words, said
from lab.evaluation import Now
from lab.experiment import Experiment, set_learning_rates
from lab.prose import LessonError, Prose
from lab.recipe import Recipe
from lab.settings import Config, SettingError

Group = Literal["basics", "first", "practice", "better"]

GROUPS: dict[Group, Text] = {
    "basics": Text("Basics", "基础"),
    "first": Text("First nets", "入门网络"),
    "practice": Text("Practice", "实践"),
    "better": Text("Training better", "训练技巧"),
}

# Display names of tasks; any other task is shown as it is.
TASKS: dict[str, Text] = {
    "regression": Text("regression", "回归"),
    "classification": Text("classification", "分类"),
}


@dataclass(frozen=True, eq=False)
class View:
    """What a lesson shows at one step: metrics such as the loss, a chart, and blocks below it."""

    chart: Chart
    metrics: Mapping[str, float]
    blocks: tuple[Block, ...] = ()


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Snapshot of a run: the number of steps taken, the view and the diagnosis."""

    step: int
    view: View
    diagnosis: tuple[Note, ...] = ()

    @property
    def metrics(self) -> Mapping[str, float]:
        """Metrics of the view."""
        return self.view.metrics

    @property
    def chart(self) -> Chart:
        """Chart of the view."""
        return self.view.chart


@dataclass(frozen=True)
class FeatureSpec:
    """Input or output of a net: the name of each feature, in order, and their meaning with unit."""

    features: tuple[str, ...]
    meaning: Words

    @property
    def unit(self) -> str:
        """`meaning` in English, for machine-readable output."""
        return said(self.meaning, "en")


@dataclass(frozen=True)
class Idea:
    """A suggested experiment: a button's label, what to watch for, and the settings that differ from the defaults."""

    label: Text
    why: Text
    settings: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """A lesson: its key (used in file names, links and the API), its group of tabs, its text and its settings.

    `prose` has its text, including that of the ideas; `ideas` maps their ids to settings. `sources` are the functions
    and classes whose code is shown, which is the code that runs. Raises LessonError if a field is invalid.
    """

    key: str
    group: Group
    prose: Prose
    config: type[Config]
    ideas: Mapping[str, Mapping[str, Any]]
    sources: tuple[Callable[..., Any], ...]

    @property
    def title(self) -> Text:
        """Name of the tab."""
        return self.prose.title

    @property
    def suggestions(self) -> tuple[Idea, ...]:
        """Ideas in the order of the prose."""
        return tuple(Idea(*words, self.ideas[name]) for name, words in self.prose.ideas.items())

    def __post_init__(self) -> None:
        for needed, holds in self._needs():
            if not holds:
                raise LessonError(f"The lesson {self.key!r} needs {needed}.")

    def _needs(self) -> Iterator[tuple[str, bool]]:
        """Yield each requirement and whether it is met. Later checks may rely on earlier ones."""
        yield "a key of lowercase letters, digits and '_'", re.fullmatch("[a-z][a-z0-9_]*", str(self.key)) is not None
        yield "prose returned by lab.prose.read", isinstance(self.prose, Prose)
        yield f"a group: one of {', '.join(GROUPS)}", self.group in GROUPS
        yield "a config: a class derived from Config", isinstance(self.config, type) and issubclass(self.config, Config)
        expected_ids = ", ".join(self.prose.ideas)
        yield f"ideas with the ids of its prose, {expected_ids or 'none'}", self.ideas.keys() == self.prose.ideas.keys()
        for name, settings in self.ideas.items():
            try:
                self.config.parse(settings)
            except SettingError as error:
                yield f"ideas with valid settings; in {name!r}, {error}".rstrip("."), False
        yield "sources, the functions and classes whose code is shown", bool(self.sources)
        yield "sources that are functions and classes", all(map(callable, self.sources))


@dataclass(frozen=True, kw_only=True)
class Computation(Lesson):
    """A lesson without training: `compute` returns the view for the given settings within milliseconds.

    The chart's structure is the same for all settings; it may have no panels. `compute` may draw from torch's global
    generator; the caller restores the generator's state.
    """

    compute: Callable[[Any], View]


@dataclass(frozen=True, kw_only=True)
class Training(Lesson):
    """A lesson with training: its setup and view, the task of its nets, and the labels of its metrics.

    `setup` creates data, nets and optimizers from the config, drawing from torch's global generator as the tutorial
    does. `show` returns the view of an experiment; it is called in eval mode and under torch.no_grad(), and must have
    no side effects. `retune` applies the current values of all live settings to an experiment that is being trained;
    a lesson with other live settings than the learning rate needs its own.
    """

    setup: Callable[[Any], Experiment]
    show: Callable[[Experiment, Now], View]
    task: str  # as in the model card
    inputs: FeatureSpec
    outputs: FeatureSpec
    metrics: Mapping[str, Words]
    classes: tuple[str, ...] = ()  # of a classifier, one name per output
    headline: tuple[str, ...] = ()  # metrics shown in the page's status line; all if empty
    retune: Callable[[Experiment, Any], None] = set_learning_rates
    pace: int = 1  # default number of steps per frame

    def recipe(self, settings: Mapping[str, Any] | None = None) -> Recipe:
        """Recipe of a full run with these settings. Raises SettingError for invalid settings."""
        return Recipe(self.key, self.config.parse(settings or {}))

    def _needs(self) -> Iterator[tuple[str, bool]]:
        yield from super()._needs()
        for name in ("setup", "show", "retune"):
            yield f"a function {name}", callable(getattr(self, name))
        live = [name for name, control in self.config.controls().items() if control.live and name != "learning_rate"]
        yield f"a function retune that applies {', '.join(live)}", not live or self.retune is not set_learning_rates
        yield "a task, such as regression", isinstance(self.task, str) and bool(self.task.strip())
        for name in ("inputs", "outputs"):
            spec = getattr(self, name)
            yield (
                f"{name}: a FeatureSpec that names every feature",
                isinstance(spec, FeatureSpec) and bool(spec.features),
            )
        yield "metrics, a mapping from names to labels", bool(self.metrics)
        missing = ", ".join(name for name in self.headline if name not in self.metrics)
        yield f"metrics for all names in headline, but has none for {missing}", not missing
        one_output = len(self.outputs.features) == 1
        yield (
            "one class name per output",
            not self.classes or one_output or (len(self.classes) == len(self.outputs.features)),
        )
        yield "a pace of 1 or more steps per frame", isinstance(self.pace, int) and self.pace > 0
