"""Random numbers: the seed, and the four forms of torch.normal. Tutorial, random."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from charts.blocks import Note, PythonSession, Table
from charts.chart import Band, Chart, Line, Panel, Points, as_array
from charts.text import Text
from lab import prose
from lab.lesson import Computation, View
from lab.settings import Config, choice, number, seed
from lab.transcript import Prompt

# Code of the tutorial's four calls, which `draw` executes.
FORMS = {
    "both": "torch.normal(mean=torch.arange(1., 11.), std=torch.arange(1, 0, -0.1))",
    "std": "torch.normal(mean=0.5, std=torch.arange(1., 6.))",
    "mean": "torch.normal(mean=torch.arange(1., 6.))",
    "size": "torch.normal(2, 3, size=(1, 4))",
}
REACH = 4.0  # range of the histogram in standard deviations; 1 value in 16 000 lies outside
BINS = 32


PROSE = prose.read(__file__)

IDEAS: dict[str, dict[str, Any]] = {
    "ten_draws_only": {"draws": 10},
    "another_seed": {"seed": 2},
    "wider_and_wider": {"form": "std"},
}


@dataclass(frozen=True, kw_only=True)
class RandomConfig(Config):
    """The form of the call, the number of draws and the seed."""

    form: str = choice("both", Text("Form", "写法"), FORMS, info=Text("Call that draws the values", "用哪一种写法抽样"))
    draws: int = number(
        500,
        Text("Draws", "抽样次数"),
        2,
        1000,
        step=1,
        info=Text("Number of calls for the histogram", "为直方图抽样多少次"),
    )
    seed: int = seed(1)


def draw(form: str, generator: torch.Generator | None = None) -> Tensor:
    """One draw. Uses the default generator, which the whole process shares, unless one is given."""
    match form:
        case "both":  # a mean and a standard deviation for each element: (10,)
            return torch.normal(mean=torch.arange(1.0, 11.0), std=torch.arange(1, 0, -0.1), generator=generator)
        case "std":  # one mean for all elements: (5,)
            return torch.normal(mean=0.5, std=torch.arange(1.0, 6.0), generator=generator)
        case "mean":  # the standard deviation defaults to 1: (5,)
            return torch.normal(mean=torch.arange(1.0, 6.0), generator=generator)
        case _:  # two numbers have no shape, so `size` is required: (1, 4)
            return torch.normal(2, 3, size=(1, 4), generator=generator)


def draw_many(form: str, seed: int, draws: int) -> Tensor:
    """The first `draws` draws after setting the seed, (draws, N). The same seed gives the same values."""
    torch.manual_seed(seed)
    return torch.stack([draw(form).flatten() for _ in range(draws)])


def repeat(form: str, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """The first and second draw, and the draw after setting the seed again, which equals the first."""
    torch.manual_seed(seed)
    first = draw(form)
    second = draw(form)  # the generator's state has advanced
    torch.manual_seed(seed)
    again = draw(form)
    return first, second, again


def requested(form: str) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each element: (N,), (N,)."""
    match form:
        case "both":
            return torch.arange(1.0, 11.0), torch.arange(1, 0, -0.1)
        case "std":
            return torch.full((5,), 0.5), torch.arange(1.0, 6.0)
        case "mean":
            return torch.arange(1.0, 6.0), torch.ones(5)
        case _:
            return torch.full((4,), 2.0), torch.full((4,), 3.0)


def compute(config: RandomConfig) -> View:
    """Compare one draw and many with the requested distribution; sessions show the effect of a seed."""
    mean, std = requested(config.form)
    drawn = draw_many(config.form, config.seed, config.draws)
    misses = (drawn.mean(dim=0) - mean).abs() / (std / config.draws**0.5)
    prompt = Prompt(np=np, torch=torch)
    return View(
        Chart((_one_draw(drawn[0], mean, std), _all_draws((drawn - mean) / std))),
        {},
        (
            _same_seed(prompt, config),
            _table(drawn, mean, std),
            Note(PROSE.notes["misses"].format(draws=config.draws, most=misses.max().item())),
            _own_generator(prompt, config),
            _four_forms(prompt, config.seed),
        ),
    )


def _one_draw(drawn: Tensor, mean: Tensor, std: Tensor) -> Panel:
    x = as_array(range(1, len(mean) + 1))
    low, high = as_array(mean - std), as_array(mean + std)
    return Panel(
        Text("One draw", "一次抽样"),
        Text("element", "元素"),
        Text("value", "值"),
        (
            Band(Text("mean ± std", "均值 ± 标准差"), x, low, high, color=0),
            Line(Text("mean", "均值"), x, as_array(mean), color=0),
            Points(Text("drawn", "抽到的数"), x, as_array(drawn), color=1, size=9),
        ),
    )


def _all_draws(standardized: Tensor) -> Panel:
    density, edges = torch.histogram(standardized, bins=BINS, range=(-REACH, REACH), density=True)
    stairs = as_array(edges).repeat(2)[1:-1]  # left and right edge of each bin
    x = torch.linspace(-REACH, REACH, 161)
    bell = torch.distributions.Normal(0.0, 1.0).log_prob(x).exp()
    return Panel(
        Text("All draws", "所有抽样"),
        Text("(value - mean) / std", "（值 - 均值）/ 标准差"),
        Text("density", "密度"),
        (
            Band(Text("drawn", "抽到的数"), stairs, np.zeros_like(stairs), as_array(density).repeat(2), color=1),
            Line(Text("normal distribution", "正态分布"), as_array(x), as_array(bell), color=0),
        ),
        x_range=(-REACH, REACH),
    )


def _same_seed(prompt: Prompt, config: RandomConfig) -> PythonSession:
    form = FORMS[config.form]
    source = f"""
        generator = torch.manual_seed({config.seed})
        generator is torch.default_generator  # shared by the whole process
        first = {form}
        first
        second = {form}  # continues the sequence
        torch.equal(first, second)
        generator = torch.manual_seed({config.seed})  # restarts the sequence
        again = {form}
        torch.equal(first, again)
    """
    return prompt.session(source, Text("Same seed, same numbers", "种子相同，数就相同"))


def _own_generator(prompt: Prompt, config: RandomConfig) -> PythonSession:
    source = f"""
        state = torch.get_rng_state()  # state of the shared generator
        own = torch.Generator().manual_seed({config.seed})
        torch.equal(first, {FORMS[config.form][:-1]}, generator=own))
        np.random.default_rng({config.seed}).normal(2, 3, size=4)
        torch.equal(state, torch.get_rng_state())  # unchanged by both
    """
    return prompt.session(source, Text("A separate generator, and numpy's", "自己的生成器，和 numpy 的生成器"))


def _four_forms(prompt: Prompt, seed: int) -> PythonSession:
    lines = [
        f"generator = torch.manual_seed({seed})",
        *FORMS.values(),
        "torch.normal(mean=torch.arange(1, 6))  # integers",
    ]
    title = Text("The tutorial's four forms, in turn", "教程的四种写法，依次运行")
    return prompt.session("\n".join(lines), title, errors=(NotImplementedError,))


def _table(drawn: Tensor, mean: Tensor, std: Tensor) -> Table:
    columns = (mean, drawn.mean(dim=0), std, drawn.std(dim=0))
    rows = tuple(
        (str(number), *(f"{value:.3f}" for value in values))
        for number, values in enumerate(torch.stack(columns, dim=1).tolist(), start=1)
    )
    head = (
        Text("Element", "元素"),
        Text("mean requested", "要求的均值"),
        Text("mean drawn", "抽到的均值"),
        Text("std requested", "要求的标准差"),
        Text("std drawn", "抽到的标准差"),
    )
    return Table(head, rows, Text("Requested and drawn", "要求的与抽到的"))


LESSON = Computation(
    key="random",
    group="basics",
    prose=PROSE,
    config=RandomConfig,
    ideas=IDEAS,
    sources=(draw, draw_many, repeat),
    compute=compute,
)
