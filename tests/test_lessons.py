"""What every lesson promises, whichever it is."""

import math
from dataclasses import fields
from typing import Any

import pytest
import torch

from charts import browser, figure
from charts.chart import Chart
from nets import LESSONS
from nets.lesson import Config, Lesson, SettingError
from nets.training import Trainer
from tests.conftest import Train, short

lessons = pytest.mark.parametrize("lesson", LESSONS.values(), ids=LESSONS)
settings = pytest.mark.parametrize(
    ("lesson", "name"),
    [(lesson, name) for lesson in LESSONS.values() for name in lesson.config.controls()],
    ids=[f"{key}-{name}" for key, lesson in LESSONS.items() for name in lesson.config.controls()],
)

BAD_VALUES: list[object] = [
    math.nan,
    math.inf,
    -math.inf,
    None,
    True,
    "1",
    "x" * 10_000,
    [],
    {},
    10**30,
    10**5000,
    -1e300,
]

TUTORIAL = {
    "regression": {"learning_rate": 0.5, "steps": 100, "hidden_units": 10, "points": 100, "noise": 0.2},
    "classification": {"learning_rate": 0.02, "steps": 100, "hidden_units": 10, "points": 100, "noise": 1.0},
}


def weights(trainer: Trainer[Any]) -> bytes:
    return b"".join(t.numpy().tobytes() for each in trainer.learners for t in each.net.state_dict().values())


def shape_of(chart: Chart) -> str:
    return browser.structure(chart)


def test_lessons_come_in_the_tutorials_order() -> None:
    order = "install tensors random operations autograd activations regression classification sequential saving"
    promised = [*order.split(), "batches", "optimizers", "dropout", "batchnorm"]
    assert list(LESSONS) == [key for key in promised if key in LESSONS]


@lessons
def test_defaults_are_the_tutorials(lesson: Lesson) -> None:
    assert lesson.config().to_dict().items() >= TUTORIAL.get(lesson.key, {}).items()


@lessons
def test_settings_survive_json_and_back(lesson: Lesson) -> None:
    config = lesson.config.parse({"seed": 7})
    assert lesson.config.parse(config.to_dict()) == config


@settings
def test_a_default_lies_in_its_controls_range(lesson: Lesson, name: str) -> None:
    control = lesson.config.controls()[name]
    assert control.minimum <= lesson.config().to_dict()[name] <= control.maximum


@settings
@pytest.mark.parametrize("value", BAD_VALUES, ids=lambda value: type(value).__name__)
def test_a_bad_value_is_refused_by_name_rule_and_value(lesson: Lesson, name: str, value: object) -> None:
    with pytest.raises(SettingError, match=rf"^{name} must be a (whole )?number from .* to .*, not .*\.$") as error:
        lesson.config.parse({name: value})
    assert len(str(error.value)) < 200
    assert "\n" not in str(error.value)


@settings
@pytest.mark.parametrize("end", ["minimum", "maximum"])
def test_the_ends_of_a_range_count_and_what_lies_beyond_does_not(lesson: Lesson, name: str, end: str) -> None:
    limit = getattr(lesson.config.controls()[name], end)
    assert lesson.config.parse({name: limit}).to_dict()[name] == limit
    with pytest.raises(SettingError, match=name):
        lesson.config.parse({name: limit + (1 if end == "maximum" else -1)})


@lessons
@pytest.mark.parametrize("given", [None, "seed", 3, [["seed", 1]]])
def test_settings_that_are_no_object_are_refused(lesson: Lesson, given: object) -> None:
    with pytest.raises(SettingError, match="settings must be an object"):
        lesson.config.parse(given)


@lessons
def test_unknown_settings_are_refused_with_those_there_are(lesson: Lesson) -> None:
    with pytest.raises(SettingError, match=r"settings must be among .*seed.*, not 'sed'\."):
        lesson.config.parse({"sed": 1})


@lessons
def test_a_seed_repeats_a_run_exactly_and_another_does_not(lesson: Lesson, train: Train) -> None:
    assert weights(train(lesson.key, seed=3)) == weights(train(lesson.key, seed=3))
    assert weights(train(lesson.key, seed=3)) != weights(train(lesson.key, seed=4))


@lessons
def test_a_run_that_was_looked_at_equals_one_that_was_not(lesson: Lesson, train: Train) -> None:
    looked_at = lesson.trainer(lesson.config.parse(short(lesson.key)))
    while not looked_at.done:
        for _ in range(5):
            looked_at.snapshot()
        looked_at.step()
    assert weights(looked_at) == weights(train(lesson.key))


@lessons
def test_runs_side_by_side_give_the_losses_of_each_alone(lesson: Lesson, train: Train) -> None:
    runs = [lesson.trainer(lesson.config.parse({**short(lesson.key), "seed": seed})) for seed in (1, 2)]
    while not all(run.done for run in runs):
        for run in runs:
            run.step()
            torch.rand(3)  # somebody else in the process draws, too
    for run, seed in zip(runs, (1, 2), strict=True):
        alone = train(lesson.key, seed=seed)
        assert [each.losses for each in run.learners] == [each.losses for each in alone.learners]


@lessons
def test_the_chart_keeps_its_structure_through_a_run_and_over_seeds(lesson: Lesson, train: Train) -> None:
    first = lesson.trainer(lesson.config()).snapshot().chart
    assert shape_of(train(lesson.key).snapshot().chart) == shape_of(first)
    assert shape_of(train(lesson.key, seed=5).snapshot().chart) == shape_of(first)


@lessons
def test_every_frame_has_the_arrays_of_the_first(lesson: Lesson, train: Train) -> None:
    base = browser.arrays(lesson.trainer(lesson.config()).snapshot().chart)
    now = browser.arrays(train(lesson.key).snapshot().chart)
    assert now.keys() == base.keys()
    changed = browser.changed(base, now)
    assert 0 < len(changed) < len(now)  # the data stays, what is learned moves


@lessons
@pytest.mark.parametrize(("kind", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_the_chart_is_drawn_to_files_that_repeat(lesson: Lesson, train: Train, kind: Any, magic: bytes) -> None:
    chart = train(lesson.key).snapshot().chart
    drawn = figure.save(chart, kind)
    assert drawn.startswith(magic)
    assert drawn == figure.save(chart, kind)


@lessons
def test_what_goes_in_and_out_is_named_feature_by_feature(lesson: Lesson) -> None:
    trainer = lesson.trainer(lesson.config())
    assert len(lesson.inputs.features) == trainer.x.shape[1]
    for learner in trainer.learners:
        assert learner.net(trainer.x).shape == (len(trainer.x), len(lesson.outputs.features))


@lessons
def test_a_learners_arguments_make_a_net_of_its_shape(lesson: Lesson) -> None:
    for learner in lesson.trainer(lesson.config()).learners:
        again = type(learner.net)(**learner.arguments)
        assert str(again) == str(learner.net)


@lessons
def test_config_fields_all_carry_controls(lesson: Lesson) -> None:
    assert issubclass(lesson.config, Config)
    assert [f.name for f in fields(lesson.config)] == list(lesson.config.controls())
