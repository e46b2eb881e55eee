"""What every lesson promises, whichever it is."""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest
import torch
from torch import nn

from charts import browser, figure, html
from charts.chart import Chart, Mark
from charts.text import LANGUAGES, Text, said
from lab import plots
from lab.experiment import Samples
from lab.lesson import GROUPS, Computation, FeatureSpec, Lesson, Training
from lab.prose import LessonError
from lab.settings import Choice, Choices, Config, Control, Number, Numbers, SettingError, Switch
from lab.training import Trainer
from nets import LESSONS, TRAININGS
from tests.conftest import Train, short

COMPUTATIONS = {key: lesson for key, lesson in LESSONS.items() if isinstance(lesson, Computation)}

lessons = pytest.mark.parametrize("lesson", LESSONS.values(), ids=LESSONS)
trainings = pytest.mark.parametrize("lesson", TRAININGS.values(), ids=TRAININGS)
computations = pytest.mark.parametrize("lesson", COMPUTATIONS.values(), ids=COMPUTATIONS)


def of_kind(*kinds: type[Control]) -> pytest.MarkDecorator:
    """Every setting of every lesson whose control is of one of the kinds."""
    found = [
        (key, name)
        for key, lesson in LESSONS.items()
        for name, control in lesson.config.controls().items()
        if isinstance(control, kinds)
    ]
    cases = [(LESSONS[key], name) for key, name in found]
    return pytest.mark.parametrize(("lesson", "name"), cases, ids=[f"{key}-{name}" for key, name in found])


BAD_VALUES: list[object] = [
    math.nan,
    math.inf,
    -math.inf,
    None,
    "1",
    "x" * 10_000,
    "[" * 400,
    {},
    10**30,
    10**5000,
    -1e300,
    [[1], [1, 2]],
    ["x"] * 1000,
    [[math.nan]],
    [[1e30]],
]

TUTORIAL: dict[str, dict[str, Any]] = {
    "tensors": {"array": [[0, 1, 2], [3, 4, 5]]},
    "operations": {"a": [[1, 2], [3, 4]], "b": [[1, 2], [3, 4]]},
    "regression": {"learning_rate": 0.5, "steps": 100, "hidden_units": 10, "points": 100, "noise": 0.2},
    "classification": {"learning_rate": 0.02, "steps": 100, "hidden_units": 10, "points": 100, "noise": 1.0},
}


def weights(trainer: Trainer) -> bytes:
    return b"".join(t.numpy().tobytes() for each in trainer.learners for t in each.net.state_dict().values())


def shape_of(chart: Chart) -> str:
    return browser.structure(chart)


def test_lessons_come_in_the_tutorials_order() -> None:
    order = "install tensors random operations autograd activations regression classification sequential saving"
    assert list(LESSONS) == [*order.split(), "batches", "optimizers", "dropout", "batchnorm"]


@pytest.mark.parametrize("key", TUTORIAL)
def test_defaults_are_the_tutorials(key: str) -> None:
    assert LESSONS[key].config().to_dict().items() >= TUTORIAL[key].items()


@lessons
def test_a_lesson_has_its_group_and_two_or_three_things_to_try(lesson: Lesson) -> None:
    assert lesson.group in GROUPS
    assert 2 <= len(lesson.suggestions) <= 3
    for idea in lesson.suggestions:
        assert lesson.config.parse(idea.settings) != lesson.config()


@lessons
def test_settings_survive_json_and_back(lesson: Lesson) -> None:
    config = lesson.config.parse(lesson.suggestions[0].settings)
    assert lesson.config.parse(json.loads(json.dumps(config.to_dict()))) == config


@of_kind(Number, Switch, Choice, Choices, Numbers)
def test_bad_values_are_refused_by_name_rule_and_value(lesson: Lesson, name: str) -> None:
    for value in BAD_VALUES:
        with pytest.raises(SettingError, match=rf"^{name} must be .*, not .*\.$") as error:
            lesson.config.parse({name: value})
        for told in (error.value.told(name).en, error.value.told(name).zh):
            assert len(told) < 300
            assert "\n" not in told


@of_kind(Number)
@pytest.mark.parametrize("end", ["minimum", "maximum"])
def test_the_ends_of_a_range_count_and_what_lies_beyond_does_not(lesson: Lesson, name: str, end: str) -> None:
    limit = getattr(lesson.config.controls()[name], end)
    assert lesson.config.parse({name: limit}).to_dict()[name] == limit
    for wrong in (limit + (1 if end == "maximum" else -1), True, "1"):
        with pytest.raises(SettingError, match=name):
            lesson.config.parse({name: wrong})


@of_kind(Choice)
def test_every_option_is_taken(lesson: Lesson, name: str) -> None:
    control = lesson.config.controls()[name]
    assert isinstance(control, Choice)
    assert [lesson.config.parse({name: each}).to_dict()[name] for each in control.options] == list(control.options)


@lessons
@pytest.mark.parametrize("given", [None, "seed", 3, [["seed", 1]]])
def test_settings_that_are_no_object_are_refused(lesson: Lesson, given: object) -> None:
    with pytest.raises(SettingError, match="settings must be an object"):
        lesson.config.parse(given)


@lessons
def test_unknown_settings_are_refused_with_those_there_are(lesson: Lesson) -> None:
    with pytest.raises(SettingError, match=r"settings must be one of .*, not 'sed'\."):
        lesson.config.parse({"sed": 1})


def texts(value: object, seen: set[int] | None = None) -> Iterator[Text]:
    """Every Text within a value, however deep."""
    seen = set() if seen is None else seen
    if isinstance(value, Text):
        yield value
    elif isinstance(value, dict | tuple | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from texts(each, seen)
    elif is_dataclass(value) and not isinstance(value, type) and id(value) not in seen:
        seen.add(id(value))
        for each in fields(value):
            yield from texts(getattr(value, each.name), seen)


CHINESE = re.compile("[\u4e00-\u9fff]")


def shown_by(lesson: Lesson) -> list[object]:
    """All that a lesson says: of itself, of its settings, and in what it shows."""
    said_always: list[object] = [lesson, list(lesson.config.controls().values())]
    if isinstance(lesson, Computation):
        return [*said_always, lesson.compute(lesson.config())]
    assert isinstance(lesson, Training)
    trainer = Trainer(lesson, lesson.recipe(short(lesson.key)))
    beginning = trainer.snapshot()
    trainer.finish()
    return [*said_always, beginning, trainer.snapshot(), trainer.advice]


@lessons
def test_all_that_a_lesson_says_is_there_in_both_languages(lesson: Lesson) -> None:
    found = [text for each in shown_by(lesson) for text in texts(each) if text.en.strip()]
    assert len(found) > 20
    for text in found:
        assert text.zh.strip()
        # Names such as "SGD" or "Dropout" may stand in both; whatever has English words has Chinese ones.
        assert CHINESE.search(text.zh) or len(text.en.split()) <= 3, text
        assert not CHINESE.search(text.en), text


@lessons
def test_words_that_need_translating_are_not_plain_strings(lesson: Lesson) -> None:
    for name, control in lesson.config.controls().items():
        assert isinstance(control.label, Text), name
        assert isinstance(control.info, Text), name


@lessons
def test_markdown_comes_out_whole_in_both_languages(lesson: Lesson) -> None:
    for text in (lesson.prose.summary, lesson.prose.text, *(idea.why for idea in lesson.suggestions)):
        for language in LANGUAGES:
            made = html.markdown(said(text, language))
            # Stars that are left over stand where CommonMark saw no emphasis: Chinese stops go outside of it.
            assert "**" not in re.sub("<code>.*?</code>", "", made, flags=re.DOTALL)


@computations
def test_a_computation_keeps_its_charts_structure_whatever_the_settings(lesson: Computation) -> None:
    first = browser.structure(lesson.compute(lesson.config()).chart)
    for idea in lesson.suggestions:
        assert browser.structure(lesson.compute(lesson.config.parse(idea.settings)).chart) == first


@computations
def test_a_computation_gives_the_same_twice(lesson: Computation) -> None:
    one, two = (lesson.compute(lesson.config()) for _ in range(2))
    assert browser.arrays(one.chart) == browser.arrays(two.chart)


@trainings
def test_a_seed_repeats_a_run_exactly_and_another_does_not(lesson: Training, train: Train) -> None:
    assert weights(train(lesson.key, seed=3)) == weights(train(lesson.key, seed=3))
    assert weights(train(lesson.key, seed=3)) != weights(train(lesson.key, seed=4))


MIDDLE = 9


def live_settings() -> list[Any]:
    """Every setting that can change on the way, with and without an effect."""
    cases: list[tuple[str, str, dict[str, Any]]] = [
        (key, name, {})
        for key, each in TRAININGS.items()
        for name, control in each.config.controls().items()
        if control.live
    ]
    cases += [("optimizers", name, {"optimizers": ["sgd"]}) for name in ("momentum", "alpha", "beta1", "beta2")]
    return [
        pytest.param(TRAININGS[key], name, settings, id="-".join([key, name, *("no effect" for _ in settings)]))
        for key, name, settings in cases
    ]


@pytest.mark.parametrize(("lesson", "name", "settings"), live_settings())
def test_a_setting_changed_on_the_way_acts_from_the_next_step_on_and_is_replayed(
    lesson: Training, name: str, settings: dict[str, Any]
) -> None:
    recipe, control = lesson.recipe({**short(lesson.key), **settings}), lesson.config.controls()[name]
    plain, changed = Trainer(lesson, recipe), Trainer(lesson, recipe)
    for _ in range(MIDDLE):
        plain.step()
        changed.step()
    assert isinstance(control, Number)
    changed.apply(name, (recipe.settings.by_name()[name] + control.minimum) / 2)
    assert weights(changed) == weights(plain)
    plain.step()
    changed.step()
    assert (weights(changed) != weights(plain)) == recipe.settings.matters(name)
    changed.finish()
    for one, other in zip(changed.learners, plain.finish().learners, strict=True):
        assert one.losses[:MIDDLE] == other.losses[:MIDDLE]
    again = Trainer(lesson, changed.recipe)
    while not again.done:
        again.step()
        again.snapshot()
    assert [each.losses for each in again.learners] == [each.losses for each in changed.learners]
    assert weights(again) == weights(changed)
    assert browser.arrays(again.snapshot().chart) == browser.arrays(changed.snapshot().chart)


@trainings
def test_the_loss_panel_marks_the_steps_of_changes(lesson: Training) -> None:
    trainer = Trainer(lesson, lesson.recipe(short(lesson.key)))
    plain = trainer.snapshot().chart
    for value in (0.002, 0.003):
        trainer.step()
        trainer.apply("learning_rate", value)
    trainer.apply("learning_rate", 0.004)
    chart = trainer.snapshot().chart
    assert shape_of(chart) == shape_of(plain)
    assert [list(mark.x) for mark in changes_in(plain)] == [[] for _ in changes_in(chart)]
    assert [list(mark.x) for mark in changes_in(chart)] == [[1, 2] for _ in changes_in(plain)]
    assert len(changes_in(chart)) == (lesson.key != "saving")  # it plots no losses
    for one, drawn in ((plain, False), (chart, True)):
        assert (">change<" in figure.save(one, "svg").decode()) == (drawn and lesson.key != "saving")


def changes_in(chart: Chart) -> list[Mark]:
    return [mark for panel in chart.panels for mark in panel.marks if mark.name == plots.CHANGE]


@trainings
def test_a_run_that_was_looked_at_equals_one_that_was_not(lesson: Training, train: Train) -> None:
    looked_at = Trainer(lesson, lesson.recipe(short(lesson.key)))
    while not looked_at.done:
        for _ in range(5):
            looked_at.snapshot()
        looked_at.step()
    assert weights(looked_at) == weights(train(lesson.key))


@trainings
def test_runs_side_by_side_give_the_losses_of_each_alone(lesson: Training, train: Train) -> None:
    runs = [Trainer(lesson, lesson.recipe({**short(lesson.key), "seed": seed})) for seed in (1, 2)]
    while not all(run.done for run in runs):
        for run in runs:
            run.step()
            torch.rand(3)  # somebody else in the process draws, too
    for run, seed in zip(runs, (1, 2), strict=True):
        alone = train(lesson.key, seed=seed)
        assert [each.losses for each in run.learners] == [each.losses for each in alone.learners]


@trainings
def test_the_chart_keeps_its_structure_through_a_run_and_over_seeds(lesson: Training, train: Train) -> None:
    first = Trainer(lesson, lesson.recipe()).snapshot().chart
    assert shape_of(train(lesson.key).snapshot().chart) == shape_of(first)
    assert shape_of(train(lesson.key, seed=5).snapshot().chart) == shape_of(first)


@trainings
def test_every_frame_has_the_arrays_of_the_first(lesson: Training, train: Train) -> None:
    base = browser.arrays(Trainer(lesson, lesson.recipe()).snapshot().chart)
    now = browser.arrays(train(lesson.key).snapshot().chart)
    assert now.keys() == base.keys()
    changed = browser.changed(base, now)
    assert 0 < len(changed) < len(now)  # the data stays, what is learned moves


MAGIC: dict[figure.Format, bytes] = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}


def drawings() -> list[Any]:
    """Every lesson in the format that bundles have, one in each; the rest among the long tests."""
    return [
        pytest.param(
            lesson, kind, id=f"{key}-{kind}", marks=[] if kind == "png" or key == "batchnorm" else pytest.mark.long
        )
        for key, lesson in TRAININGS.items()
        for kind in MAGIC
    ]


@pytest.mark.parametrize(("lesson", "kind"), drawings())
def test_the_chart_is_drawn_to_files_that_repeat(lesson: Training, kind: figure.Format, train: Train) -> None:
    chart = train(lesson.key).snapshot().chart
    drawn = figure.save(chart, kind)
    assert drawn.startswith(MAGIC[kind])
    assert drawn == figure.save(chart, kind)


@trainings
def test_what_goes_in_and_out_is_named_feature_by_feature(lesson: Training) -> None:
    trainer = Trainer(lesson, lesson.recipe())
    assert len(lesson.inputs.features) == trainer.experiment.train.x.shape[1] == trainer.experiment.test.x.shape[1]
    for learner in trainer.learners:
        assert learner.net(trainer.experiment.train.x).shape == (
            len(trainer.experiment.train.x),
            len(lesson.outputs.features),
        )


@trainings
def test_a_learners_arguments_make_a_net_of_its_shape(lesson: Training) -> None:
    for learner in Trainer(lesson, lesson.recipe()).learners:
        if not isinstance(learner.net, nn.Sequential):  # which is built from its layers
            assert str(type(learner.net)(**learner.arguments)) == str(learner.net)


@trainings
def test_every_metric_has_a_name_for_people(lesson: Training, train: Train) -> None:
    assert set(train(lesson.key).snapshot().metrics) <= set(lesson.metrics)
    assert set(lesson.headline) <= set(lesson.metrics)


@lessons
def test_config_fields_all_carry_controls(lesson: Lesson) -> None:
    assert issubclass(lesson.config, Config)
    assert list(lesson.config().by_name()) == list(lesson.config.controls()) == list(lesson.config().to_dict())


REGRESSION = TRAININGS["regression"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"key": "My lesson"}, "The lesson 'My lesson' needs a key of lowercase letters, digits and '_'."),
        ({"prose": "English"}, "The lesson 'regression' needs prose returned by lab.prose.read."),
        ({"group": "more"}, "needs a group: one of basics, first, practice, better."),
        ({"config": dict}, "needs a config: a class derived from Config."),
        ({"ideas": {"go": {}}}, "needs ideas with the ids of its prose, kill_the_relus, leap_across_the_valley, "),
        (
            {"ideas": {**REGRESSION.ideas, "kill_the_relus": {"steps": 0}}},
            "ideas with valid settings; in 'kill_the_relus', steps must be a whole number from 1 to 2000, not 0.",
        ),
        ({"sources": ()}, "needs sources, the functions and classes whose code is shown."),
        ({"sources": ("Net",)}, "needs sources that are functions and classes."),
        ({"setup": None}, "needs a function setup."),
        ({"show": "loss"}, "needs a function show."),
        ({"config": TRAININGS["dropout"].config}, "needs a function retune that applies p."),
        ({"task": ""}, "needs a task, such as regression."),
        ({"inputs": None}, "needs inputs: a FeatureSpec that names every feature."),
        ({"outputs": FeatureSpec((), "y")}, "needs outputs: a FeatureSpec that names every feature."),
        ({"metrics": {}}, "needs metrics, a mapping from names to labels."),
        ({"headline": ("accuracy",)}, "needs metrics for all names in headline, but has none for accuracy."),
        ({"outputs": FeatureSpec(("a", "b"), "y"), "classes": ("a",)}, "needs one class name per output."),
        ({"pace": 0}, "needs a pace of 1 or more steps per frame."),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_lesson_that_lacks_something_is_told_what(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(LessonError, match=re.escape(told)):
        replace(REGRESSION, **changes)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"learners": []}, "create learners with unique names, not none."),
        ({"learners": "twice"}, "create learners with unique names, not net, net."),
        ({"steps": 0}, "set steps to an integer of at least 1, not 0."),
        ({"steps": None}, "set steps to an integer of at least 1, not None."),
        ({"test": Samples(torch.zeros(2, 1), torch.zeros(3, 1))}, "return test samples with as many inputs as targets"),
        (None, "return an Experiment, not NoneType."),
    ],
    ids=str,
)
def test_a_setup_that_lacks_something_is_told_what(changes: dict[str, Any] | None, told: str) -> None:
    def setup(config: Config) -> Any:
        made = REGRESSION.setup(config)
        twice = {"learners": made.learners * 2} if changes and changes.get("learners") == "twice" else {}
        return None if changes is None else replace(made, **{**changes, **twice})

    lesson = replace(REGRESSION, setup=setup)
    with pytest.raises(LessonError, match=re.escape(f"The setup of the lesson 'regression' must {told}")):
        Trainer(lesson, lesson.recipe())
