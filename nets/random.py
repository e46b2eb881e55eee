"""Random numbers: the seed, and the four forms of torch.normal. Tutorial, random."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from charts.blocks import Note, Session, Table
from charts.chart import Band, Chart, Line, Panel, Points, as_array
from charts.text import Text
from lab.lesson import Computation, Idea, View
from lab.settings import Config, choice, number, seed

# The tutorial's four calls, as it writes them; `draw` makes them.
FORMS = {
    "both": "torch.normal(mean=torch.arange(1., 11.), std=torch.arange(1, 0, -0.1))",
    "std": "torch.normal(mean=0.5, std=torch.arange(1., 6.))",
    "mean": "torch.normal(mean=torch.arange(1., 6.))",
    "size": "torch.normal(2, 3, size=(1, 4))",
}
REACH = 4.0  # standard deviations that the histogram shows: beyond lies one number in 16 000
BINS = 32

SUMMARY = Text(
    """
**Random numbers that can be repeated.** torch computes them one after the other, and they only look random: they are
pseudo random. The seed says where the row begins, so the same seed gives the same numbers. `torch.normal` draws from
normal distributions; its four forms differ in where mean and standard deviation come from.
""",
    """
**可以重复的随机数**。torch 的随机数是一个接一个算出来的，只是看起来随机，所以叫伪随机。
种子决定从哪里开始：种子相同，得到的数就相同。`torch.normal` 按正态分布抽样，
四种写法的区别在于均值和标准差从哪里来。
""",
)

TEXT = Text(
    """
### What you see

On the left is one draw: a point for each element, the line its mean, the band one standard deviation to either side.
About two points in three fall into the band. On the right are all draws together, each number minus its mean and
divided by its standard deviation: whatever the form, the same bell. The table compares what was asked for with what
came. The mean of many draws misses by about the standard deviation divided by √draws, so four times as many draws halve
the error.

### One generator for all

`torch.manual_seed` sets the generator that the whole process shares. Initial weights, dropout and shuffling draw from
it, too, so one more draw anywhere changes all that follow. Who needs numbers of their own makes a `torch.Generator` and
passes it on. numpy and Python's `random` have generators of their own, which `torch.manual_seed` does not touch. Many
visitors share this server, so the page puts the state of the shared generator back after each computation.

The same seed gives the same numbers with the same torch on the same kind of device. Another version or a graphics card
may give others.

### Then and now

The four lines of the old notes run unchanged. Mind the points in `torch.arange(1., 6.)`: without them the means are
int64, and the call raises *NotImplementedError: "normal_kernel_cpu" not implemented for 'Long'*. Two plain numbers need
a `size`: `torch.normal(2, 3)` raises *TypeError: normal() received an invalid combination of arguments*.
""",
    """
### 看什么

左图是一次抽样：每个元素一个点，线是它的均值，色带是均值上下各一个标准差。大约三分之二的点落在色带里。
右图把所有抽样放在一起，每个数减去均值、再除以标准差：不管哪种写法，都是同一条钟形曲线。
表格把要求的值与实际抽到的值放在一起比较。多次抽样的平均值大约偏离“标准差除以 √抽样次数”，
所以抽样次数变成四倍，误差减半。

### 大家共用一个生成器

`torch.manual_seed` 设置的是整个进程共用的生成器。权重的初始化、dropout 和打乱数据也从它那里取数，
所以任何地方多抽一次，后面的数就全变了。想要自己专用的随机数，就建一个 `torch.Generator` 传进去。
numpy 和 Python 的 `random` 各有自己的生成器，`torch.manual_seed` 管不到它们。
许多访问者共用这台服务器，所以本页面每次计算之后都会把共用生成器的状态恢复原样。

同样的种子，在同一版 torch、同一种设备上给出同样的数；换了版本或者换成显卡，就可能不同。

### 过去与现在

旧笔记的四行代码现在照样能运行。注意 `torch.arange(1., 6.)` 里的小数点：没有它，均值是 int64，会报错
*NotImplementedError: "normal_kernel_cpu" not implemented for 'Long'*。均值和标准差都是普通的数时必须写 `size`：
`torch.normal(2, 3)` 会报错 *TypeError: normal() received an invalid combination of arguments*。
""",
)

IDEAS = (
    Idea(
        Text("Ten draws only", "只抽十次"),
        Text(
            "The histogram grows ragged and the means miss by more: about seven times as far as with 500 draws.",
            "直方图变得参差不齐，平均值也偏得更远：大约是抽 500 次时的七倍。",
        ),
        {"draws": 10},
    ),
    Idea(
        Text("Another seed", "换一个种子"),
        Text(
            "Every number changes, and the distribution does not: same band, same bell.",
            "每个数都变了，分布却没有变：色带和钟形曲线还是原来的样子。",
        ),
        {"seed": 2},
    ),
    Idea(
        Text("Wider and wider", "越来越宽"),
        Text(
            "One mean, 0.5, and standard deviations from 1 to 5: the band opens, and the points scatter with it.",
            "均值都是 0.5，标准差从 1 到 5：色带越来越宽，点也越来越分散。",
        ),
        {"form": "std"},
    ),
)

MISSES = Text(
    "Over {draws} draws the mean that misses most is {most:.1f} times std / √draws away from what was asked for;"
    " more than 4 times would be a rare accident.",
    "抽 {draws} 次，偏得最远的平均值与要求的均值相差 {most:.1f} 倍的“标准差 / √抽样次数”；超过 4 倍的情况极少发生。",
)


@dataclass(frozen=True, kw_only=True)
class RandomConfig(Config):
    """The tutorial's seed and forms, and how often to draw."""

    form: str = choice("both", Text("Form", "写法"), FORMS, info=Text("Which call draws", "用哪一种写法抽样"))
    draws: int = number(
        500,
        Text("Draws", "抽样次数"),
        2,
        1000,
        step=1,
        info=Text("How often the call is made for the histogram", "为直方图抽样多少次"),
    )
    seed: int = seed(1)


def draw(form: str, generator: torch.Generator | None = None) -> Tensor:
    """One draw. Without a generator of its own it takes the numbers from the one that the whole process shares."""
    match form:
        case "both":  # a mean and a standard deviation for each element: (10,)
            return torch.normal(mean=torch.arange(1.0, 11.0), std=torch.arange(1, 0, -0.1), generator=generator)
        case "std":  # one mean for all: (5,)
            return torch.normal(mean=0.5, std=torch.arange(1.0, 6.0), generator=generator)
        case "mean":  # the standard deviation is 1 unless it is given: (5,)
            return torch.normal(mean=torch.arange(1.0, 6.0), generator=generator)
        case _:  # two numbers do not say how many to draw, so the size does: (1, 4)
            return torch.normal(2, 3, size=(1, 4), generator=generator)


def draw_many(form: str, seed: int, draws: int) -> Tensor:
    """The first `draws` draws from this seed on, (draws, N): the same ones every time."""
    torch.manual_seed(seed)
    return torch.stack([draw(form).flatten() for _ in range(draws)])


def repeat(form: str, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """A draw, the next one, and one after the seed was set again, which is the first once more."""
    torch.manual_seed(seed)
    first = draw(form)
    second = draw(form)  # the generator goes on
    torch.manual_seed(seed)
    again = draw(form)
    return first, second, again


def asked_for(form: str) -> tuple[Tensor, Tensor]:
    """The mean and the standard deviation of each element: (N,), (N,)."""
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
    """One draw and many, beside what was asked for; sessions that show what a seed does."""
    mean, std = asked_for(config.form)
    drawn = draw_many(config.form, config.seed, config.draws)
    misses = (drawn.mean(dim=0) - mean).abs() / (std / config.draws**0.5)
    return View(
        Chart((_one_draw(drawn[0], mean, std), _all_draws((drawn - mean) / std))),
        {},
        (
            _same_seed(config),
            _table(drawn, mean, std),
            Note(MISSES.format(draws=config.draws, most=misses.max().item())),
            _own_generator(config),
            _four_forms(config.seed),
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
    stairs = as_array(edges).repeat(2)[1:-1]  # each bin from its left edge to its right one
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


def _same_seed(config: RandomConfig) -> Session:
    first, second, again = repeat(config.form, config.seed)
    form, shared = FORMS[config.form], torch.manual_seed(config.seed)
    lines = (
        (f"generator = torch.manual_seed({config.seed})", ""),
        (
            "generator is torch.default_generator  # the one that the process shares",
            repr(shared is torch.default_generator),
        ),
        (f"first = {form}", ""),
        ("first", repr(first)),
        (f"second = {form}  # goes on", ""),
        ("torch.equal(first, second)", repr(torch.equal(first, second))),
        (f"generator = torch.manual_seed({config.seed})  # from the start", ""),
        (f"again = {form}", ""),
        ("torch.equal(first, again)", repr(torch.equal(first, again))),
    )
    return Session(lines, Text("Same seed, same numbers", "种子相同，数就相同"))


def _own_generator(config: RandomConfig) -> Session:
    first = repeat(config.form, config.seed)[0]
    state = torch.get_rng_state()
    own = draw(config.form, torch.Generator().manual_seed(config.seed))
    other = np.random.default_rng(config.seed).normal(2, 3, size=4)
    untouched = torch.equal(state, torch.get_rng_state())
    lines = (
        ("state = torch.get_rng_state()  # where the shared generator stands", ""),
        (f"own = torch.Generator().manual_seed({config.seed})", ""),
        (f"torch.equal(first, {FORMS[config.form][:-1]}, generator=own))", repr(torch.equal(first, own))),
        (f"np.random.default_rng({config.seed}).normal(2, 3, size=4)", repr(other)),
        ("torch.equal(state, torch.get_rng_state())  # neither has moved it", repr(untouched)),
    )
    return Session(lines, Text("A generator of one's own, and numpy's", "自己的生成器，和 numpy 的生成器"))


def _four_forms(seed: int) -> Session:
    torch.manual_seed(seed)
    forms = [(code, repr(draw(form))) for form, code in FORMS.items()]
    try:
        whole = repr(torch.normal(mean=torch.arange(1, 6)))
    except NotImplementedError as error:
        whole = f"{type(error).__name__}: {str(error).splitlines()[0]}"
    lines = (
        (f"generator = torch.manual_seed({seed})", ""),
        *forms,
        ("torch.normal(mean=torch.arange(1, 6))  # whole numbers", whole),
    )
    return Session(lines, Text("The tutorial's four forms, in a row", "教程的四种写法，依次运行"))


def _table(drawn: Tensor, mean: Tensor, std: Tensor) -> Table:
    columns = (mean, drawn.mean(dim=0), std, drawn.std(dim=0))
    rows = tuple(
        (str(number), *(f"{value:.3f}" for value in values))
        for number, values in enumerate(torch.stack(columns, dim=1).tolist(), start=1)
    )
    head = (
        Text("Element", "元素"),
        Text("mean asked for", "要求的均值"),
        Text("mean drawn", "抽到的均值"),
        Text("std asked for", "要求的标准差"),
        Text("std drawn", "抽到的标准差"),
    )
    return Table(head, rows, Text("Asked for and drawn", "要求的与抽到的"))


LESSON = Computation(
    key="random",
    title=Text("Random numbers", "随机数"),
    group="basics",
    summary=SUMMARY,
    text=TEXT,
    config=RandomConfig,
    ideas=IDEAS,
    sources=(draw, draw_many, repeat),
    compute=compute,
)
