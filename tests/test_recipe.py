"""A run as a value: it survives JSON, is checked, and gives the same run wherever it is read."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from export import manifest
from export.__main__ import main
from export.verify import verify
from lab.lesson import Training
from lab.recipe import Change, Recipe, read_changes
from lab.settings import SettingError
from lab.training import Trainer
from nets import TRAININGS, read_recipe
from tests.conftest import short

REGRESSION = TRAININGS["regression"]
trainings = pytest.mark.parametrize("lesson", TRAININGS.values(), ids=TRAININGS.keys())


def a_weight(lesson: Training) -> str:
    learner = Trainer(lesson, lesson.recipe()).learners[0]
    name, weight = next(learner.net.named_parameters(prefix=learner.name))
    return ".".join([name, *("0" for _ in weight.shape)])


def changed(lesson: Training) -> Recipe:
    """A short run that is changed on the way and stopped."""
    changes = (
        Change(0, "learning_rate", 0.001),
        Change(2, a_weight(lesson), 0.25),
        Change(4, "learning_rate", 0.002),
    )
    return replace(lesson.recipe(short(lesson.key)), changes=changes, stop=5)


def losses(recipe: Recipe) -> list[list[float]]:
    return [each.losses for each in Trainer(TRAININGS[recipe.lesson], recipe).finish().learners]


@trainings
def test_a_recipe_survives_json_and_gives_the_same_run(lesson: Training) -> None:
    recipe = changed(lesson)
    again = read_recipe(json.loads(json.dumps(recipe.to_dict())))
    assert again == recipe
    assert hash(again) == hash(recipe)
    assert losses(again) == losses(recipe)
    assert [len(each) for each in losses(again)] == [5] * len(losses(again))


@trainings
def test_what_is_changed_by_hand_is_told_by_the_recipe_and_replayed_bit_for_bit(lesson: Training) -> None:
    trainer = Trainer(lesson, lesson.recipe(short(lesson.key)))
    trainer.apply("learning_rate", 0.001)
    trainer.step()
    trainer.step()
    trainer.apply(a_weight(lesson), 0.25)
    trainer.step()
    trainer.stop()
    assert trainer.done
    assert trainer.recipe.stop == 3
    again = Trainer(lesson, trainer.recipe).finish()
    assert again.recipe == trainer.recipe
    for one, other in zip(trainer.learners, again.learners, strict=True):
        assert one.losses == other.losses
        assert all(map(torch.equal, one.net.state_dict().values(), other.net.state_dict().values()))


def test_a_run_cut_off_earlier_is_the_beginning_of_the_run() -> None:
    recipe = changed(REGRESSION)
    whole, cut = losses(recipe)[0], losses(recipe.until(3))[0]
    assert cut == whole[:3]
    assert recipe.until(3).changes == recipe.changes[:2]


def test_a_changed_learning_rate_and_weight_make_a_difference_from_their_step_on() -> None:
    plain = losses(REGRESSION.recipe({"steps": 20}))[0]
    rate = losses(replace(REGRESSION.recipe({"steps": 20}), changes=(Change(7, "learning_rate", 0.01),)))[0]
    weight = losses(replace(REGRESSION.recipe({"steps": 20}), changes=(Change(7, "net.hidden.weight.3.0", 5.0),)))[0]
    assert plain[:8] == rate[:8]  # the loss of step 8 is computed before the step is taken
    assert plain[8:] != rate[8:]
    assert plain[:7] == weight[:7]
    assert plain[7] != weight[7]


def test_a_look_shows_the_settings_as_they_stand() -> None:
    trainer = Trainer(REGRESSION, replace(REGRESSION.recipe(), changes=(Change(2, "learning_rate", 0.25),)))
    trainer.step()
    assert trainer.config == REGRESSION.config()
    trainer.step()
    assert trainer.config == REGRESSION.config.parse({"learning_rate": 0.25})
    assert trainer.recipe.settings == REGRESSION.config()


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ([], "recipe must be an object, not a value of type list."),
        ({"run": 1}, "recipe must be an object with the keys version, lesson, settings, changes, stop, not 'run'."),
        ({"lesson": "regression", "version": 2}, "version must be 1, not 2."),
        ({"lesson": "tensors"}, "lesson must be one of regression, classification, "),
        ({"lesson": "regression", "settings": {"steps": 0}}, "steps must be a whole number from 1 to 2000, not 0."),
        ({"lesson": "regression", "changes": {}}, "changes must be a list of at most 100 changes, not a value of"),
        ({"lesson": "regression", "changes": [[1, "seed", 2]]}, "changes must be objects with the keys step, name"),
        ({"lesson": "regression", "stop": -1}, "stop must be a whole number from 0 to 1000000, not -1."),
        ({"lesson": "regression", "stop": 101}, "stop must be at most 100, the steps of this run, not 101."),
        ({"lesson": "regression", "changes": [(101, "learning_rate", 1)]}, "changes must be at most 100, the steps of"),
        ({"lesson": "regression", "changes": [(0, "seed", 1)]}, "changes must be one of learning_rate or a weight"),
        ({"lesson": "regression", "changes": [(0, "learning_rate", 99)]}, "learning_rate must be a number from 0.0001"),
        ({"lesson": "regression", "changes": [(0, "net.hidden.weight.0.0", 1e7)]}, "must be a number from -1e+06 to"),
        ({"lesson": "regression", "changes": [(0, "net.hidden.weight.10.0", 1)]}, "such as net.hidden.weight.0.0, not"),
        ({"lesson": "regression", "changes": [(0, "net.hidden.weight.0", 1)]}, "such as net.hidden.weight.0.0, not"),
        ({"lesson": "regression", "changes": [(0, "net.hidden.weight.-1.0", 1)]}, "such as net.hidden.weight.0.0, not"),
        ({"lesson": "regression", "changes": [(0, "net.__class__.0", 1)]}, "such as net.hidden.weight.0.0, not"),
        ({"lesson": "regression", "changes": [(0, "net.hidden.weight.٠.0", 1)]}, "such as net.hidden.weight.0.0, not"),
    ],
)
def test_a_recipe_that_breaks_a_rule_is_refused_in_a_sentence(told: Any, sentence: str) -> None:
    if isinstance(told, dict) and isinstance(told.get("changes"), list):
        named = ("step", "name", "value")
        told["changes"] = [
            dict(zip(named, each, strict=True)) if type(each) is tuple else each for each in told["changes"]
        ]
    with pytest.raises(SettingError) as error:
        Trainer(TRAININGS[told["lesson"]] if read_recipe(told) else REGRESSION, read_recipe(told))
    assert sentence in str(error.value)


def test_changes_are_read_as_people_type_them_in_the_order_of_their_steps() -> None:
    config = REGRESSION.config()
    read = read_changes(["55:net.hidden.weight.3.0 = 0,8", "40:learning_rate=１"], config)
    assert read == (Change(40, "learning_rate", 1.0), Change(55, "net.hidden.weight.3.0", 0.8))
    for text in ("40", "40:learning_rate", "x:learning_rate=1", "learning_rate=1"):
        with pytest.raises(SettingError, match="changes must be "):
            read_changes([text], config)


def test_the_command_line_changes_and_stops_a_run_and_its_bundle_trains_again(tmp_path: Path) -> None:
    asked = ["--change", "3:learning_rate=0.1", "--change", "5:net.hidden.weight.3.0=0.8", "--stop", "9"]
    assert main(["run", "regression", *asked, "--out", str(tmp_path)]) == 0
    found = verify(tmp_path / "regression", retrain=True)
    assert found.parity.passed
    assert found.unchecked == {}
    assert found.manifest["recipe"]["changes"] == [
        {"step": 3, "name": "learning_rate", "value": 0.1},
        {"step": 5, "name": "net.hidden.weight.3.0", "value": 0.8},
    ]
    assert (found.manifest["steps"], found.manifest["recipe"]["stop"]) == (9, 9)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (["--change", "x"], "changes must be at most 100, each STEP:NAME=VALUE, not 'x'."),
        (["--change", "0:net.hidden.weight.9=1"], "changes must be a weight of this run, such as"),
        (["--stop", "x"], "stop must be a whole number from 0 to 1000000, not 'x'."),
        (["--stop", "101"], "stop must be at most 100, the steps of this run, not 101."),
    ],
)
def test_the_command_line_refuses_what_the_run_does_not_have(
    asked: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "regression", *asked, "--out", str(tmp_path)]) == 1
    assert told in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


OLD = Path(__file__).parent / "format2" / "regression"


def test_a_bundle_of_format_2_verifies_and_trains_again() -> None:
    found = verify(OLD, retrain=True)
    assert found.manifest["format"] == 2
    assert found.parity.passed
    assert found.unchecked.keys() == {"README.md", "net.py", "parity.json", "try.html"}
    assert manifest.recipe(found.manifest) == REGRESSION.recipe()


def test_a_setting_matters_only_beside_those_it_depends_on() -> None:
    config = TRAININGS["optimizers"].config
    assert config().matters("momentum")
    assert not config.parse({"optimizers": ["sgd", "adam"]}).matters("momentum")
    assert config.parse({"optimizers": ["nesterov"]}).matters("momentum")
    assert config.parse({"optimizers": ["nesterov"]}).matters("learning_rate")
