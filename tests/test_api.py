"""The API, through gradio_client, against the app as users run it."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from export.layout import find
from export.verify import verify
from lab.training import Trainer
from nets import LESSONS, TRAININGS, read_recipe
from tests.conftest import lessons_with, short, trained


@pytest.fixture(scope="module")
def client(app_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    made = Client(app_url, verbose=False, download_files=tmp_path_factory.mktemp("downloads"))
    yield made
    made.close()


def test_lessons_lists_every_lesson_with_its_controls(client: Client) -> None:
    listed = client.predict(api_name="/lessons")
    assert [(each["key"], each["title"]) for each in listed] == [(key, each.title.en) for key, each in LESSONS.items()]
    assert [each["key"] for each in listed if each["trains"]] == list(TRAININGS)
    (regression,) = [each for each in listed if each["key"] == "regression"]
    (rate,) = [each for each in regression["controls"] if each["name"] == "learning_rate"]
    assert rate == {
        "name": "learning_rate",
        "label": "Learning rate",
        "live": True,
        "view": False,
        "when": {},
        "type": "number",
        "default": 0.5,
        "minimum": 0.0001,
        "maximum": 10,
    }


@pytest.mark.parametrize("key", lessons_with("classification", "batchnorm"))
def test_train_gives_metrics_parity_and_a_bundle_that_verifies(key: str, client: Client, tmp_path: Path) -> None:
    metrics, parity, archive = client.predict(key, {**short(key), "seed": 5}, api_name="/train")
    lesson = TRAININGS[key]
    trainer = Trainer(lesson, lesson.recipe({**short(key), "seed": 5}))
    trainer.finish()
    assert metrics == trainer.snapshot().metrics
    assert {name: report["passed"] for name, report in parity.items()} == {each.name: True for each in trainer.learners}
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(tmp_path)
    for folder in find(tmp_path):
        assert verify(folder).manifest["recipe"]["settings"]["seed"] == 5
    assert len(find(tmp_path)) == len(trainer.learners)


LINK = "3:learning_rate=0.1,5:net.hidden.weight.3.0=0.8"
CHANGES = [
    {"step": 3, "name": "learning_rate", "value": 0.1},
    {"step": 5, "name": "net.hidden.weight.3.0", "value": 0.8},
]


@pytest.fixture(scope="module")
def changed_metrics() -> dict[str, float]:
    """The metrics of 20 steps of the regression with CHANGES."""
    recipe = read_recipe({"lesson": "regression", "settings": {"steps": 20}, "changes": CHANGES})
    return dict(Trainer(TRAININGS["regression"], recipe).finish().snapshot().metrics)


@pytest.mark.parametrize("changes", [CHANGES, LINK, LINK.split(",")], ids=["objects", "link", "list of text"])
def test_train_makes_changes_on_the_way(
    changes: Any, changed_metrics: dict[str, float], client: Client, tmp_path: Path
) -> None:
    metrics, _, archive = client.predict("regression", {"steps": 20}, changes, api_name="/train")
    assert metrics == changed_metrics
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(tmp_path)
    assert verify(tmp_path / "regression", retrain=True).manifest["recipe"]["changes"] == CHANGES


SETTINGS = {"steps": 20}


@pytest.mark.parametrize("changes", [[], [None], [[]], [""], [LINK]], ids=str)
@pytest.mark.parametrize("path", ["call/train", "run/train", "call/v2/train"])
def test_train_by_http_takes_changes_or_none(
    path: str, changes: list[Any], changed_metrics: dict[str, float], app_url: str
) -> None:
    values = ["regression", SETTINGS, *changes]
    body = dict(zip(("lesson", "settings", "changes"), values, strict=False)) if "v2" in path else {"data": values}
    answer = httpx.post(f"{app_url}gradio_api/{path}", json=body, timeout=20)
    assert answer.status_code == 200, answer.text
    if path == "run/train":
        metrics, *_ = answer.json()["data"]
    else:
        told = httpx.get(f"{app_url}gradio_api/call/train/{answer.json()['event_id']}", timeout=20).text
        (data,) = [line for line in told.splitlines() if line.startswith("data: [")]
        metrics, *_ = json.loads(data.removeprefix("data: "))
    plain = trained("regression", **SETTINGS).snapshot().metrics
    assert metrics == (changed_metrics if changes == [LINK] else plain)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (7, "changes must be a list of at most 100 changes, not 7."),
        ([7], "changes must be objects with the keys step, name and value, not 7."),
        ([{"step": 3}], "changes must be objects with the keys step, name and value, not a value of type dict."),
        ([{**CHANGES[0], "value": 99}], "learning_rate must be a number from 0.0001 to 10, not 99."),
        ([{**CHANGES[0], "step": -1}], "step must be a whole number from 0 to 1000000, not -1."),
        (CHANGES * 51, "changes must be a list of at most 100 changes, not a value of type list."),
        (["x"], "changes must be at most 100, each STEP:NAME=VALUE, not 'x'."),
        ("x", "changes must be at most 100, each STEP:NAME=VALUE, not 'x'."),
        ("3:steps=9", "changes must be one of learning_rate or a weight such as net.hidden.weight.0.0, not 'steps'."),
        ("3:net.hidden.weight.99.0=1", "changes must be a weight of this run, such as net.hidden.weight.0.0, not"),
        ("21:learning_rate=1", "changes must be at most 20, the steps of this run, not 21."),
    ],
)
def test_a_bad_change_is_refused_by_name_rule_and_value(client: Client, changes: Any, told: str) -> None:
    with pytest.raises(AppError) as error:
        client.predict("regression", SETTINGS, changes, api_name="/train")
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("lesson", "settings", "told"),
    [
        ("nope", {}, "lesson must be one of regression, classification, "),
        (["regression"], {}, "not a value of type list."),
        ("regression", [1], "settings must be an object of names and values, not a value of type list."),
        ("regression", "x", "settings must be an object of names and values, not 'x'."),
        ("regression", {"steps": 10**9}, "steps must be a whole number from 1 to 2000, not 1000000000."),
        ("regression", {"steps": "1"}, "steps must be a whole number from 1 to 2000, not '1'."),
        ("regression", {"steps": True}, "steps must be a whole number from 1 to 2000, not True."),
        ("regression", {"points": 1e300}, "points must be a whole number from 2 to 1000, not 1e+300."),
        ("regression", {"lr": 1}, "settings must be one of learning_rate, steps, hidden_units, points, noise, seed"),
        ("regression", {"learning_rate": 10}, "Try a smaller learning rate."),
    ],
)
def test_bad_input_is_refused_in_one_sentence(client: Client, lesson: Any, settings: Any, told: str) -> None:
    with pytest.raises(AppError) as error:
        client.predict(lesson, settings, api_name="/train")
    assert told in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "1e999"])
def test_numbers_that_json_does_not_have_are_refused(app_url: str, text: str) -> None:
    body = '{"data": ["regression", {"noise": %s}]}' % text  # noqa: UP031  # braces
    answer = httpx.post(f"{app_url}gradio_api/call/train", content=body, headers={"content-type": "application/json"})
    if answer.status_code == 200:
        event = answer.json()["event_id"]
        told = httpx.get(f"{app_url}gradio_api/call/train/{event}", timeout=20).text
        assert "event: error" in told
        assert "noise must be a number from 0 to 1" in told
    else:
        assert answer.status_code == 422


def test_only_the_api_is_open_to_clients(client: Client) -> None:
    endpoints = client.view_api(return_format="dict")
    assert isinstance(endpoints, dict)
    assert set(endpoints["named_endpoints"]) == {"/lessons", "/train"}
    assert not endpoints["unnamed_endpoints"]


def test_no_file_of_the_machine_is_served(app_url: str) -> None:
    for path in ("/etc/passwd", str(Path("app.py").resolve()), str(Path("checkpoints").resolve()), "../app.py"):
        assert httpx.get(f"{app_url}gradio_api/file={path}").status_code in (403, 404)


def call(app_url: str, handler: str, data: list[Any], session: str | None) -> httpx.Response:
    body = {"data": data, "session_hash": session}
    return httpx.post(f"{app_url}gradio_api/run/{handler}", json=body, timeout=20)


# Gradio numbers the handlers of one name, tab by tab; those of the lessons that compute belong to no page.
FIGURE = f"save_figure_{list(LESSONS).index('regression')}"


@pytest.mark.parametrize("handler", ["pause", "stop", "reset", "step", "preview", "change_speed", FIGURE])
def test_the_pages_own_handlers_answer_no_caller_without_a_page(handler: str, app_url: str) -> None:
    values = [1, *TRAININGS["regression"].config().to_dict().values()]
    data = {"pause": [], "stop": [], "change_speed": [1], FIGURE: ["en", *values]}.get(handler, values)
    answer = call(app_url, handler, data, session=None)
    assert answer.status_code >= 400
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    "values", [["x", None, [], {}, True, 1e999], ["9" * 10_000] * 6, [{"path": "/etc/passwd"}] * 6]
)
def test_the_pages_own_handlers_refuse_what_the_page_cannot_send(values: list[Any], app_url: str) -> None:
    answer = httpx.post(
        f"{app_url}gradio_api/run/reset",
        content=json.dumps({"data": [1, *values], "session_hash": "somebody"}),
        headers={"content-type": "application/json"},
        timeout=20,
    )
    assert "Traceback" not in answer.text
    assert "<function" not in answer.text  # nor any insides
    assert "must be a number from 0.0001 to 10" in answer.text or answer.status_code >= 400
    assert httpx.get(app_url).status_code == 200
