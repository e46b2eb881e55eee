"""What a lesson is: its words, its settings, what it shows and, if it trains, what it sets up."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from charts.blocks import Block, Note
from charts.chart import Chart
from charts.text import Text, Words, said
from lab.evaluation import Now
from lab.experiment import Experiment
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

# What a net of a task is called; a task that is not here goes by its own name.
TASKS: dict[str, Text] = {
    "regression": Text("regression", "回归"),
    "classification": Text("classification", "分类"),
}


@dataclass(frozen=True, eq=False)
class View:
    """What there is to see at a moment: named figures such as the loss, a chart, and blocks below it."""

    chart: Chart
    metrics: Mapping[str, float]
    blocks: tuple[Block, ...] = ()


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A look at a run: the steps taken, what there is to see, and what is to be said of how it goes."""

    step: int
    view: View
    diagnosis: tuple[Note, ...] = ()

    @property
    def metrics(self) -> Mapping[str, float]:
        """The named figures."""
        return self.view.metrics

    @property
    def chart(self) -> Chart:
        """The chart."""
        return self.view.chart


@dataclass(frozen=True)
class Port:
    """What a net takes or gives: the name of each feature, in order, and what they are, with their unit."""

    features: tuple[str, ...]
    meaning: Words

    @property
    def unit(self) -> str:
        """`meaning` for programs."""
        return said(self.meaning, "en")


@dataclass(frozen=True)
class Idea:
    """Something to try: a button's label, what to watch for, and the settings that differ from the defaults."""

    label: Text
    why: Text
    settings: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """A lesson: its key (file names, links, the API), its tab, its words and its settings.

    `prose` has its words, among them those of `ideas`, whose settings are given here by the same ids. `sources` are
    the functions and classes whose code is shown, the very code that runs. Raises LessonError for what is not so.
    """

    key: str
    group: Group
    prose: Prose
    config: type[Config]
    ideas: Mapping[str, Mapping[str, Any]]
    sources: tuple[Callable[..., Any], ...]

    @property
    def title(self) -> Text:
        """The name of its tab."""
        return self.prose.title

    @property
    def suggestions(self) -> tuple[Idea, ...]:
        """Its ideas, in the order of its prose."""
        return tuple(Idea(*words, self.ideas[name]) for name, words in self.prose.ideas.items())

    def __post_init__(self) -> None:
        for needed, holds in self._needs():
            if not holds:
                raise LessonError(f"The lesson {self.key!r} needs {needed}.")

    def _needs(self) -> Iterator[tuple[str, bool]]:
        """What the lesson has to have, each with whether it has it; what comes later may rely on what came before."""
        yield "a key of small letters, digits and '_'", re.fullmatch("[a-z][a-z0-9_]*", str(self.key)) is not None
        yield "a prose, as lab.prose.read gives it", isinstance(self.prose, Prose)
        yield f"a group: one of {', '.join(GROUPS)}", self.group in GROUPS
        yield "a config: a class derived from Config", isinstance(self.config, type) and issubclass(self.config, Config)
        worded = ", ".join(self.prose.ideas)
        yield f"ideas with the ids of its prose, {worded or 'none'}", self.ideas.keys() == self.prose.ideas.keys()
        for name, settings in self.ideas.items():
            try:
                self.config.parse(settings)
            except SettingError as error:
                yield f"ideas that its config takes, and of {name!r}, {error}".rstrip("."), False
        yield "sources, the functions and classes whose code is shown", bool(self.sources)
        yield "sources that are functions and classes", all(map(callable, self.sources))


@dataclass(frozen=True, kw_only=True)
class Computation(Lesson):
    """A lesson that trains nothing: `compute` makes what it shows of its settings, in milliseconds.

    The chart's structure, or its having no panel, is the same for all settings. Random numbers may be drawn from
    torch's process-wide generator: whoever calls `compute` puts its state back.
    """

    compute: Callable[[Any], View]


@dataclass(frozen=True, kw_only=True)
class Training(Lesson):
    """A lesson that trains: what it sets up and shows, what its nets are for, and what its metrics are called.

    `setup` makes data, nets and optimizers of its config, drawing from torch's process-wide generator as the tutorial
    does. `show` says what there is to see of an experiment now; it is called in eval mode and without gradients, and
    changes nothing.
    """

    setup: Callable[[Any], Experiment]
    show: Callable[[Experiment, Now], View]
    task: str  # as the model card names it
    inputs: Port
    outputs: Port
    metrics: Mapping[str, Words]
    classes: tuple[str, ...] = ()  # for classifiers: what each output stands for
    headline: tuple[str, ...] = ()  # the metrics that the page tells in its line, if not all of them
    pace: int = 1  # steps a frame, unless the visitor chooses another

    def recipe(self, settings: Mapping[str, Any] | None = None) -> Recipe:
        """The recipe of a run with these settings, from its beginning to its end. Raises SettingError."""
        return Recipe(self.key, self.config.parse(settings or {}))

    def _needs(self) -> Iterator[tuple[str, bool]]:
        yield from super()._needs()
        for name in ("setup", "show"):
            yield f"a function {name}", callable(getattr(self, name))
        yield "a task, such as regression", isinstance(self.task, str) and bool(self.task.strip())
        for name in ("inputs", "outputs"):
            port = getattr(self, name)
            yield f"{name}: a Port that names every feature", isinstance(port, Port) and bool(port.features)
        yield "metrics, by name what each is called on the page", bool(self.metrics)
        foreign = ", ".join(name for name in self.headline if name not in self.metrics)
        yield f"headline of names in metrics, which {foreign} is not", not foreign
        one_output = len(self.outputs.features) == 1
        yield (
            "a class for each output, as it has classes",
            not self.classes or one_output or (len(self.classes) == len(self.outputs.features)),
        )
        yield "a pace of 1 or more steps a frame", isinstance(self.pace, int) and self.pace > 0
