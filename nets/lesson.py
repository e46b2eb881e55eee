"""What a lesson is: its words, its settings, what it shows, and the trainer that runs it, if it trains."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from charts.blocks import Block, Note
from charts.chart import Chart
from charts.text import Text, Words
from nets.settings import Config

if TYPE_CHECKING:
    from nets.training import Trainer

Group = Literal["basics", "first", "practice", "better"]

GROUPS: dict[Group, Text] = {
    "basics": Text("Basics", "基础"),
    "first": Text("First nets", "入门网络"),
    "practice": Text("Practice", "实践"),
    "better": Text("Training better", "训练技巧"),
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
    """What a net takes or gives: the meaning of each feature, in order, with its unit."""

    features: tuple[str, ...]
    unit: str


@dataclass(frozen=True)
class Scaling:
    """How a run's data were scaled before a net saw them: scaled = (value - mean) / std."""

    mean: float
    std: float


@dataclass(frozen=True)
class Idea:
    """Something to try: a button's label, what to watch for, and the settings that differ from the defaults."""

    label: Text
    why: Text
    settings: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """A lesson: its key (file names, links, the API), its tab, its words and its settings.

    `summary` and `text` are Markdown: what happens here, in two or three sentences, and then what, why, and how
    the old notes differ. `sources` are the functions and classes whose code is shown, the very code that runs.
    """

    key: str
    title: Text
    group: Group
    summary: Text
    text: Text
    config: type[Config]
    ideas: tuple[Idea, ...]
    sources: tuple[Callable[..., Any], ...]


@dataclass(frozen=True, kw_only=True)
class Computation(Lesson):
    """A lesson that trains nothing: `compute` makes what it shows of its settings, in milliseconds.

    The chart's structure, or its having no panel, is the same for all settings. Random numbers may be drawn from
    torch's process-wide generator: whoever calls `compute` puts its state back.
    """

    compute: Callable[[Any], View]


@dataclass(frozen=True, kw_only=True)
class Training(Lesson):
    """A lesson that trains: its trainer, what its nets are for, and what its metrics are called on the page."""

    trainer: "type[Trainer[Any]]"
    task: str  # as the model card names it
    inputs: Port
    outputs: Port
    metrics: Mapping[str, Words]
    classes: tuple[str, ...] = ()  # for classifiers: what each output stands for
    headline: tuple[str, ...] = ()  # the metrics that the page tells in its line, if not all of them
    pace: int = 1  # steps a frame, unless the visitor chooses another
