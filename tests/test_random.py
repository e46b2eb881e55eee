"""The lesson on random numbers: seeds repeat, and draws follow what was asked for."""

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from charts import browser
from charts.blocks import Note, PythonSession, Table
from charts.chart import Band, Line, Points
from charts.text import said
from lab.lesson import View
from nets.random import FORMS, LESSON, RandomConfig, draw, draw_many, repeat, requested
from tests.sessions import replayed, shown

SEEDS = [0, 1, 2, 3, 4]


def viewed(**settings: object) -> View:
    with torch.random.fork_rng(devices=[]):
        return LESSON.compute(LESSON.config.parse(settings))


def misses(form: str, seed: int, draws: int) -> torch.Tensor:
    """How far each sample mean lies from the mean asked for, in standard deviations: (N,)."""
    mean, std = requested(form)
    with torch.random.fork_rng(devices=[]):
        return (draw_many(form, seed, draws).mean(dim=0) - mean).abs() / std


@pytest.mark.parametrize("form", FORMS)
def test_sessions_show_what_python_prints(form: str) -> None:
    view = viewed(form=form, seed=3)
    with torch.random.fork_rng(devices=[]):
        assert replayed(shown(view.blocks), torch=torch, np=np, nn=nn) == shown(view.blocks)


def test_the_defaults_are_the_tutorials() -> None:
    assert RandomConfig().seed == 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        theirs = [
            torch.normal(mean=torch.arange(1.0, 11.0), std=torch.arange(1, 0, -0.1)),
            torch.normal(mean=0.5, std=torch.arange(1.0, 6.0)),
            torch.normal(mean=torch.arange(1.0, 6.0)),
            torch.normal(2, 3, size=(1, 4)),
        ]
    (session,) = (
        block for block in viewed().blocks if isinstance(block, PythonSession) and FORMS["mean"] in dict(block.lines)
    )
    assert [dict(session.lines)[code] for code in FORMS.values()] == [repr(tensor) for tensor in theirs]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_seed_gives_the_same_numbers_and_going_on_gives_others(form: str, seed: int) -> None:
    with torch.random.fork_rng(devices=[]):
        first, second, again = repeat(form, seed)
        assert torch.equal(first, again)
        assert not torch.isclose(first, second).all()
        assert torch.equal(draw_many(form, seed, 3), draw_many(form, seed, 3))


@pytest.mark.parametrize("form", FORMS)
def test_a_generator_of_ones_own_leaves_the_shared_one_alone(form: str) -> None:
    state = torch.get_rng_state()
    own = [draw(form, torch.Generator().manual_seed(1)) for _ in range(2)]
    np.random.default_rng(1).normal()
    random.Random(1).random()
    assert torch.equal(own[0], own[1])
    assert torch.equal(state, torch.get_rng_state())


def test_initial_weights_dropout_and_shuffling_draw_from_the_shared_generator() -> None:
    numbers = DataLoader(TensorDataset(torch.ones(5)), shuffle=True)
    with torch.random.fork_rng(devices=[]):
        for use in (lambda: nn.Linear(1, 1), lambda: nn.Dropout()(torch.ones(5)), lambda: list(numbers)):
            state = torch.get_rng_state()
            use()
            assert not torch.equal(state, torch.get_rng_state())


def test_manual_seed_does_not_touch_the_generators_of_numpy_and_python() -> None:
    pythons, numpys = random.getstate(), np.random.get_state(legacy=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
    assert random.getstate() == pythons
    np.testing.assert_equal(np.random.get_state(legacy=False), numpys)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seed", SEEDS)
def test_samples_have_the_mean_and_std_asked_for(form: str, seed: int) -> None:
    draws = 500
    mean, std = requested(form)
    with torch.random.fork_rng(devices=[]):
        drawn = draw_many(form, seed, draws)
    assert drawn.shape == (draws, len(mean))
    assert ((drawn.mean(dim=0) - mean).abs() < 4 * std / draws**0.5).all()
    assert ((drawn.std(dim=0) / std - 1).abs() < 4 / (2 * draws) ** 0.5).all()


def test_two_points_in_three_fall_into_the_band() -> None:
    mean, std = requested("both")
    with torch.random.fork_rng(devices=[]):
        drawn = draw_many("both", 1, 1000)
    assert ((drawn - mean).abs() < std).double().mean().item() == pytest.approx(2 / 3, abs=0.03)


@pytest.mark.parametrize("form", FORMS)
def test_the_histogram_follows_the_bell_whatever_the_form(form: str) -> None:
    histogram, bell = viewed(form=form, draws=1000).chart.panels[1].marks
    assert isinstance(histogram, Band)
    assert isinstance(bell, Line)
    expected = np.interp((histogram.x[::2] + histogram.x[1::2]) / 2, bell.x, bell.y)
    np.testing.assert_allclose(histogram.high[::2], expected, atol=0.08)
    assert np.sum(histogram.high[::2] * np.diff(histogram.x)[::2]) == pytest.approx(1)


@pytest.mark.parametrize("form", FORMS)
def test_the_first_draw_is_shown_in_its_band(form: str) -> None:
    band, line, points = viewed(form=form).chart.panels[0].marks
    assert isinstance(band, Band)
    assert isinstance(line, Line)
    assert isinstance(points, Points)
    mean, std = requested(form)
    with torch.random.fork_rng(devices=[]):
        first = repeat(form, 1)[0].flatten()
    np.testing.assert_array_equal(points.y, first)
    np.testing.assert_array_equal(line.y, mean)
    np.testing.assert_allclose(band.high - band.low, 2 * std, rtol=1e-5)


def test_the_table_has_a_row_for_each_element() -> None:
    for form in FORMS:
        (table,) = (block for block in viewed(form=form).blocks if isinstance(block, Table))
        assert len(table.rows) == len(requested(form)[0])


def test_the_note_tells_the_largest_miss() -> None:
    (note,) = (block for block in viewed(draws=100).blocks if isinstance(block, Note))
    assert f"{misses('both', 1, 100).max().item() * 10:.1f} times" in said(note.text, "en")


def test_errors_are_as_the_text_says() -> None:
    with pytest.raises(NotImplementedError, match=r"^\"normal_kernel_cpu\" not implemented for 'Long'$"):
        torch.normal(mean=torch.arange(1, 6))
    with pytest.raises(TypeError, match=r"^normal\(\) received an invalid combination of arguments"):
        torch.normal(2, 3)  # type: ignore[call-overload]


def test_the_chart_keeps_its_structure_whatever_the_settings() -> None:
    settings = [{"form": form, "draws": draws, "seed": seed} for form in FORMS for draws, seed in ((2, 1), (50, 2))]
    assert len({browser.structure(viewed(**each).chart) for each in settings}) == 1


def test_ten_draws_miss_about_seven_times_as_far_as_five_hundred() -> None:
    few, many = (torch.stack([misses("both", seed, draws) for seed in range(20)]) for draws in (10, 500))
    assert LESSON.suggestions[0].settings == {"draws": 10}
    assert RandomConfig().draws == 500
    assert (few.mean() / many.mean()).item() == pytest.approx(7, rel=0.2)


def test_another_seed_changes_every_number_and_not_the_distribution() -> None:
    one, two = viewed().chart, viewed(**LESSON.suggestions[1].settings).chart
    (band, _, points), (other_band, _, other_points) = one.panels[0].marks, two.panels[0].marks
    assert isinstance(band, Band)
    assert isinstance(other_band, Band)
    assert isinstance(points, Points)
    assert isinstance(other_points, Points)
    np.testing.assert_array_equal(band.high, other_band.high)
    assert not np.isclose(points.y, other_points.y).any()


def test_wider_bands_scatter_more() -> None:
    form = LESSON.suggestions[2].settings["form"]
    mean, std = requested(form)
    assert mean.tolist() == [0.5] * 5
    assert std.tolist() == [1, 2, 3, 4, 5]
    for seed in SEEDS:
        with torch.random.fork_rng(devices=[]):
            assert (draw_many(form, seed, 500).std(dim=0).diff() > 0).all()
