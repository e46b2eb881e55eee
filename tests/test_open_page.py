"""Commands of an open page, links, and files at URLs that carry a recipe, without a browser and without a network."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, cast
from urllib.parse import parse_qsl, urlencode

import httpx
import pytest
from starlette.applications import Starlette

from export.cases import ExportError
from lab.lesson import Lesson, Training
from lab.recipe import Change, Recipe
from lab.settings import Choice, Choices, Number, SettingError, Switch
from nets import LESSONS, TRAININGS, read_recipe
from runs import registry, turns
from runs import run as run_module
from runs.admission import FullError, SpentError
from runs.pool import LostError
from runs.run import Run, TooLongError
from runs.turns import Allowance
from server.live_channel import Channel
from tabs import links, run_files
from tabs.open_page import OpenPage
from tests.conftest import lessons_with, short
from tests.test_runs import go

LESSON = TRAININGS["regression"]
STEPS = 12
CHANGED = Recipe("regression", LESSON.config.parse({"steps": STEPS}), (Change(2, "learning_rate", 0.1),))

Message = dict[str, Any]

_names = (f"{number:032x}" for number in itertools.count())


def _refuse_constant(token: str) -> float:
    raise AssertionError(f"{token} is not JSON")


class Browser:
    """What the page's scripts do with one lesson, and the channel to them."""

    def __init__(self, lesson: str = "regression") -> None:
        self.page = OpenPage(next(_names), "192.0.2.1")
        self.lesson = lesson
        self.settings: dict[str, Any] = {}
        self.received: list[Message] = []
        self._came = asyncio.Event()
        self._counted = itertools.count(1)
        self.run = 0
        self.page.attach(cast(Channel, self))

    def send(self, message: str) -> None:
        """Called by the page, as is `send_frame`."""
        self.received.append(json.loads(message, parse_constant=_refuse_constant))
        self._came.set()

    def send_frame(self, kind: str, message: str) -> None:
        self.send(message)

    async def ask(self, do: str, /, **fields: Any) -> list[Message]:
        """The messages until the command is done."""
        return await self.give(self.command(do, **fields))

    async def ask_for_a_run(self, do: str, /, **fields: Any) -> list[Message]:
        self.run = next(self._counted)
        return await self.ask(do, fresh=True, **fields)

    def command(self, do: str, /, **fields: Any) -> Message:
        number = next(self._counted)
        command = {"do": do, "lesson": self.lesson, "n": number, "run": self.run, "settings": self.settings, "speed": 1}
        return {**command, "language": "en", **fields}

    async def give(self, command: Message) -> list[Message]:
        before = len(self.received)
        self.page.receive(command)
        await self.until({"lesson": command["lesson"], "done": command["n"]}, before)
        return self.received[before:]

    async def until(self, wanted: Message, since: int = 0) -> Message:
        """The first message that has all that is wanted."""
        async with asyncio.timeout(30):
            while True:
                for message in self.received[since:]:
                    if wanted.items() <= message.items():
                        return message
                self._came.clear()
                await self._came.wait()

    async def until_state(self, state: str, since: int = 0) -> Message:
        """The first frame in that state."""
        async with asyncio.timeout(60):
            while True:
                for message in self.received[since:]:
                    if "frame" in message and "base" not in message and message["frame"]["state"] == state:
                        return cast(Message, message["frame"])
                self._came.clear()
                await self._came.wait()

    async def files(self) -> str:
        """What is offered of the run that is done, as HTML."""
        async with asyncio.timeout(60):
            while True:
                for message in self.received:
                    if "files" in message and "role=status" not in message["files"]:
                        return str(message["files"])
                self._came.clear()
                await self._came.wait()

    @property
    def recipe(self) -> Any:
        """The recipe of the run on show."""
        return [message["recipe"] for message in self.received if "recipe" in message][-1]

    def close(self) -> None:
        self.page.close()


@pytest.fixture(autouse=True)
def empty() -> Iterator[None]:
    yield
    for name, lesson in list(registry._runs):
        registry.discard(name, lesson)
    run_files._kept.clear()


def frames(messages: list[Message]) -> list[Message]:
    return [message["frame"] for message in messages if "frame" in message]


def sentences(messages: list[Message]) -> list[str]:
    """What went wrong, in English; each has a Chinese text as well."""
    found = []
    for message in messages:
        for each in [message["problem"]] if "problem" in message else message.get("left_out", []):
            assert each["zh"]
            assert each["zh"] != each["en"]
            found.append(each["en"])
    return found


# Commands.


def test_a_command_that_is_sent_twice_is_done_once_and_acknowledged_each_time() -> None:
    async def story() -> None:
        browser = Browser()
        browser.run = 1
        command = browser.command("step", fresh=True)
        browser.page.receive(command)
        browser.page.receive(command)  # before it is done
        await browser.until({"done": command["n"]})
        assert [message for message in browser.received if "done" in message] == [
            {"lesson": "regression", "done": command["n"]}
        ]
        again = await browser.give(command)
        assert [frame["step"] for frame in frames(again)] == [1]  # the page may not have seen it
        (run,) = [entry.run for entry in registry._runs.values()]
        assert run.frame.encoded.step == 1
        browser.close()
        assert run.is_over

    go(story())


def test_commands_of_a_lesson_are_done_in_their_order() -> None:
    async def story() -> None:
        browser = Browser()
        browser.run = 1
        commands = [browser.command("step", fresh=number == 0) for number in range(4)]
        for command in commands:
            browser.page.receive(command)
        await browser.until({"done": commands[-1]["n"]})
        done = [message["done"] for message in browser.received if "done" in message]
        assert done == [command["n"] for command in commands]
        assert frames(browser.received)[-1]["step"] == 4

    go(story())


async def at_step_five(recipe: Recipe) -> Browser:
    browser = Browser()
    browser.settings = recipe.settings.to_dict()
    await browser.ask_for_a_run("step", recipe=recipe.to_dict())
    for _ in range(4):
        await browser.ask("step")
    return browser


@pytest.mark.parametrize("recipe", [LESSON.recipe({"steps": STEPS}), CHANGED], ids=["plain", "changed"])
@pytest.mark.parametrize("do", ["step", "pause", "stop", "reset", "train"])
def test_a_server_without_the_run_answers_as_the_one_that_had_it(do: str, recipe: Recipe) -> None:
    async def story() -> None:
        here = await at_step_five(recipe)
        there = Browser()
        there.run, there.settings = here.run, here.settings
        before = len(here.received)
        answers = []
        for browser in (here, there):
            shown = {"recipe": here.recipe, "step": 5} if browser is there else {}
            await browser.ask(do, **shown)
            if do == "train":
                await browser.until_state("done", before if browser is here else 0)
            answers.append(frames(browser.received[before if browser is here else 0 :])[-1:])
        assert answers[0] == answers[1]
        assert [message["base"] for message in here.received if "base" in message][-1] == [
            message["base"] for message in there.received if "base" in message
        ][-1]
        assert here.recipe == there.recipe
        assert sentences(here.received + there.received) == []

    go(story())


def test_a_page_that_comes_back_finds_its_run_paused_and_goes_on_with_the_same_losses() -> None:
    async def story() -> None:
        browser = Browser()
        browser.settings = {"steps": 40}
        await browser.ask_for_a_run("train")
        browser.page.detach()
        browser.page.attach(cast(Channel, browser))
        before = len(browser.received)
        await browser.ask("open", recipe=browser.recipe, step=1)
        assert frames(browser.received[before:])[-1]["state"] == "paused"
        await browser.ask("train", speed=0)
        last = await browser.until_state("done", before)
        alone = Browser()
        alone.settings = {"steps": 40}
        await alone.ask_for_a_run("train", speed=0)
        assert (await alone.until_state("done"))["metrics"] == last["metrics"]

    go(story())


def test_a_page_that_comes_back_at_once_goes_on_training() -> None:
    async def story() -> None:
        browser = Browser()
        browser.settings = {"steps": 40}
        await browser.ask_for_a_run("train")
        browser.page.detach()
        browser.page.attach(cast(Channel, browser))
        await browser.ask("train", speed=0, recipe=browser.recipe, step=0)
        assert (await browser.until_state("done"))["step"] == 40

    go(story())


@pytest.mark.parametrize("do", ["train", "step", "reset", "idea"])
def test_what_was_pressed_before_a_cut_is_done_once_when_the_page_is_back(do: str) -> None:
    async def story() -> None:
        browser = await at_step_five(LESSON.recipe({"steps": STEPS}))
        shown = {"recipe": browser.recipe, "step": 5}
        fresh = {"fresh": True, "run": 9} if do in ("reset", "idea") else {}
        command = browser.command(do, idea=len(LESSON.ideas), speed=0, **{**shown, **fresh})
        browser.page.receive(command)
        browser.page.detach()
        while browser.page._pending:
            await asyncio.sleep(0)
        before = len(browser.received)
        browser.page.attach(cast(Channel, browser))
        messages = await browser.give(command)
        if do == "step":
            assert frames(messages)[-1]["step"] == 6
        elif do == "reset":
            assert [message["base"]["step"] for message in messages if "base" in message] == [0]
        else:
            assert (await browser.until_state("done", before))["step"] == (STEPS if do == "train" else 100)

    go(story())


def test_a_setting_that_is_changed_on_the_way_is_in_the_recipe_at_its_step() -> None:
    async def story() -> None:
        browser = await at_step_five(LESSON.recipe({"steps": STEPS}))
        settings = {"steps": STEPS, "learning_rate": "0.1"}
        await browser.ask("settings", settings=settings)
        run = registry.current(browser.page.key, "regression")
        assert run is not None
        assert run.recipe.changes == ()  # a paused run is changed when it goes on
        assert read_recipe(browser.recipe).changes == (Change(5, "learning_rate", 0.1),)  # as a link has it already
        await browser.ask("step", settings=settings)
        assert read_recipe(browser.recipe).changes == (Change(5, "learning_rate", 0.1),)
        messages = await browser.ask("settings", settings={"steps": 9, "learning_rate": "0.1"})
        assert [message["same"] for message in messages if "same" in message][-1] is False  # needs a new run
        assert "Settings have changed" in frames(messages)[-1]["text"]["en"]
        assert sentences(browser.received) == []

    go(story())


def test_a_number_that_is_being_typed_does_not_disturb_a_run() -> None:
    async def story() -> None:
        browser = await at_step_five(LESSON.recipe({"steps": STEPS}))
        messages = await browser.ask("settings", settings={"steps": STEPS, "learning_rate": "0."})
        assert sentences(messages) == []
        typed = await browser.ask("settings", settings={"steps": STEPS, "learning_rate": "0"})
        assert sentences(typed) == []
        assert "refused" in typed[0]["judged"]["learning_rate"]
        assert frames(await browser.ask("step", settings={"learning_rate": "0"}))[-1]["step"] == 6
        await browser.ask("stop")
        (sentence,) = sentences(await browser.ask("settings", settings={"learning_rate": "0"}))
        assert sentence.startswith("Learning rate must be a number from 0.0001 to 10, not 0")

    go(story())


def test_a_reset_to_bad_settings_keeps_the_run() -> None:
    async def story() -> None:
        browser = await at_step_five(LESSON.recipe({"steps": STEPS}))
        run = registry.current(browser.page.key, "regression")
        messages = await browser.ask_for_a_run("reset", settings={"learning_rate": "11"})
        assert sentences(messages) == ["Learning rate must be a number from 0.0001 to 10, not 11."]
        assert registry.current(browser.page.key, "regression") is run
        await browser.ask_for_a_run("reset")
        assert registry.current(browser.page.key, "regression") is None

    go(story())


# Bad input.

GOOD = LESSON.recipe({"steps": STEPS}).to_dict()


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"recipe": "x", "step": 1}, "Recipe must be an object, not 'x'."),
        ({"recipe": [], "step": 1}, "Recipe must be an object, not empty."),
        ({"recipe": {**GOOD, "version": 2}, "step": 1}, "Version must be 1, not 2."),
        ({"recipe": {**GOOD, "more": 1}, "step": 1}, "Recipe must be an object with the keys version,"),
        ({"recipe": {**GOOD, "lesson": "nope"}, "step": 1}, "Lesson must be one of regression, "),
        ({"recipe": {**GOOD, "lesson": "batches", "settings": {}}, "step": 1}, "Lesson must be regression, not 'batc"),
        ({"recipe": {**GOOD, "settings": {"noise": float("nan")}}, "step": 1}, "Noise must be a number from 0 to 1"),
        ({"recipe": {**GOOD, "settings": {"nope": 1}}, "step": 1}, "Settings must be one of learning_rate, "),
        ({"recipe": {**GOOD, "changes": [GOOD] * 10_000}, "step": 1}, "Changes must be a list of at most 100 changes"),
        ({"recipe": {**GOOD, "changes": [{"step": 1, "name": "seed", "value": 1}]}, "step": 1}, "Changes must be one"),
        (
            {"recipe": {**GOOD, "changes": [{"step": 0, "name": "net.no.weight.0", "value": 1}]}, "step": 1},
            "Changes must be a weight of this run, such as net.hidden.weight.0.0, not 'net.no.weight.0'.",
        ),
        ({"recipe": {**GOOD, "stop": STEPS + 1}, "step": 1}, "Stop must be at most 12, the steps of this run, not 13."),
        ({"recipe": GOOD, "step": STEPS + 1}, "Step must be at most 12, the steps of this run, not 13."),
        ({"settings": {"changes": "1:nope=2"}}, "Changes must be one of learning_rate or a weight"),
        ({"settings": {"changes": "0:net.no.weight.0=1"}}, "Changes must be a weight of this run"),
        ({"settings": {"changes": ",".join(["1:learning_rate=1"] * 101)}}, "Changes must be at most 100, each STEP:N"),
        ({"settings": {"changes": ",".join(["1:learning_rate=1"] * 10_000)}}, "Link must be at most 8000 characters"),
        ({"settings": {"stop": "1e9"}}, "Stop must be a whole number"),
        ({"settings": {"stop": "101"}}, "Stop must be at most 100, the steps of this run, not 101."),
        ({"settings": {"noise": "nan"}}, "Noise must be a number from 0 to 1"),
        ({"settings": {"nope": "1"}}, "Settings must be one of learning_rate, "),
    ],
)
def test_what_is_bad_in_a_link_or_in_storage_is_told_in_one_sentence_and_the_page_goes_on(
    fields: Mapping[str, Any], told: str
) -> None:
    async def story() -> None:
        browser = Browser()
        browser.run = 1
        (sentence,) = sentences(await browser.ask("open", **fields))
        assert sentence.startswith(told)
        shown = read_recipe(browser.recipe)
        assert shown == LESSON.recipe({"steps": shown.settings.by_name()["steps"]})
        messages = await browser.ask_for_a_run("step", recipe=browser.recipe, step=0)
        assert frames(messages)[-1]["step"] == 1
        assert sentences(messages) == []

    go(story())


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"lesson": "nope"}, "lesson must be one of install, "),
        ({"lesson": ["regression"]}, "lesson must be one of install, "),
        ({"lesson": None}, "lesson must be one of install, "),
        ({"do": "dance"}, "Do must be one of open, settings, "),
        ({"speed": 3}, "Speed must be one of 1, 2, 5, 20, 0, not 3."),
        ({"language": "fr"}, "Language must be one of en, zh, not 'fr'."),
        ({"language": ["en"]}, "Language must be one of en, zh, not a value of type list."),
        ({"settings": [1]}, "Settings must be an object of names and values, not a value of type list."),
        ({"settings": {"steps": 10**9}}, "Steps must be a whole number from 1 to 2000, not 1000000000."),
        ({"step": -1}, "Step must be a whole number of at least 0, not -1."),
        ({"run": "1"}, "Run must be a whole number of at least 0, not '1'."),
        ({"do": "idea", "idea": 99}, "Idea must be the number of an idea of this lesson, not 99."),
        ({"do": "pause", "recipe": GOOD, "step": 99}, "Step must be at most 12, the steps of this run, not 99."),
        ({"do": "train", "lesson": "tensors"}, "Lesson must be a lesson that trains, not 'tensors'."),
    ],
)
def test_a_command_that_makes_no_sense_is_told_in_one_sentence_and_the_page_goes_on(
    fields: Mapping[str, Any], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        browser = Browser()
        browser.run = 1
        (sentence,) = sentences(await browser.ask("step", **{"fresh": True, **fields}))
        assert sentence.startswith(told)
        messages = await browser.ask_for_a_run("step")
        assert frames(messages)[-1]["step"] == 1

    go(story())
    assert not caplog.records


@pytest.mark.parametrize("number", [None, 0, -1, 1.5, True, "1", 2**53, [1]])
def test_a_command_without_a_good_number_is_told_in_one_sentence(number: object) -> None:
    async def story() -> None:
        browser = Browser()
        browser.page.receive({"do": "open", "lesson": "regression", "n": number})
        assert len(sentences(browser.received)) == 1
        assert await browser.ask("open")

    go(story())


def test_a_link_is_used_as_far_as_it_is_good_and_what_is_left_out_is_named() -> None:
    async def story() -> None:
        browser = Browser()
        link = {"steps": "7", "noise": "x", "nope": "1", "seed": "3", "changes": "3:learning_rate=0.1", "stop": "5"}
        messages = await browser.ask("open", settings=link)
        noise, nope = sentences(messages)
        assert noise.startswith("Noise must be")
        assert nope.endswith("not 'nope'.")
        recipe = read_recipe(browser.recipe)
        assert recipe == Recipe(
            "regression", LESSON.config.parse({"steps": 7, "seed": 3}), (Change(3, "learning_rate", 0.1),), 5
        )
        (values,) = [message["values"] for message in messages if "values" in message]
        assert (values["steps"], values["seed"], values["noise"]) == (7, 3, LESSON.config().by_name()["noise"])
        browser.settings = values
        await browser.ask_for_a_run("train", recipe=browser.recipe, speed=0)
        assert (await browser.until_state("done"))["step"] == 5
        assert read_recipe(browser.recipe) == recipe

    go(story())


def test_no_more_than_five_sentences_say_what_was_left_out() -> None:
    async def story() -> None:
        messages = await Browser().ask("open", settings={f"unknown{number}": "1" for number in range(50)})
        assert len(sentences(messages)) == 5

    go(story())


def test_a_run_of_the_browser_that_takes_too_long_to_train_again_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async def create(recipe: Recipe, step: int = 0) -> Run:
        raise TooLongError

    monkeypatch.setattr(Run, "create", create)

    async def story() -> None:
        browser = Browser()
        messages = await browser.ask("open", recipe=GOOD, step=5)
        assert sentences(messages) == [run_module.TOO_LONG.en]
        assert [message["base"]["state"] for message in messages if "base" in message] == ["idle"]

    go(story())


# Links.


def other_settings(lesson: Lesson) -> dict[str, Any]:
    """Settings of a lesson that differ from its defaults, and from those in the form of JSON."""
    made: dict[str, Any] = {}
    for name, control in lesson.config.controls().items():
        match control:
            case Number(minimum=minimum, maximum=maximum, default=default):
                made[name] = minimum if default != minimum else maximum
            case Switch(default=default):
                made[name] = not default
            case Choice(options=options, default=default):
                made[name] = next(each for each in options if each != default)
            case Choices(options=options, default=default, least=least):
                made[name] = list(options)[: max(1, least)] if len(default) != max(1, least) else list(options)
    return made


@pytest.mark.parametrize("lesson", LESSONS.values(), ids=LESSONS)
def test_a_recipe_comes_whole_out_of_its_link(lesson: Lesson) -> None:
    for settings in ({}, other_settings(lesson), *lesson.ideas.values()):
        recipe = Recipe(lesson.key, lesson.config.parse(settings))
        if isinstance(lesson, Training):
            changes = [Change(0, "net.hidden.weight.0.0", -1e-7), Change(3, "net.a_b.2.bias.1", 0.1 + 0.2)]
            live = [name for name, control in lesson.config.controls().items() if control.live]
            changes += [Change(40, name, 0.125) for name in live]
            recipe = replace(recipe, changes=tuple(changes), stop=60)
        found = dict(parse_qsl(links.query(recipe, speed=5), keep_blank_values=True))
        assert found.pop("speed") == "5"
        assert links.read(lesson, found) == recipe
        assert {*found} - {"changes", "stop"} == {*lesson.config.controls()}  # all settings are written out


def test_a_bad_link_to_a_file_is_refused() -> None:
    with pytest.raises(SettingError, match=r"noise must be .*not 2\."):
        links.read(LESSON, {"noise": "2"})
    with pytest.raises(SettingError, match="not 'changes'"):
        links.read(LESSONS["tensors"], {"changes": "1:a=1"})


# Files.


@asynccontextmanager
async def server() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(Starlette(routes=run_files.ROUTES))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield client


async def done(key: str, **settings: Any) -> Browser:
    browser = Browser(key)
    browser.settings = {**short(key), **settings}
    await browser.ask_for_a_run("train", speed=0)
    await browser.until_state("done")
    return browser


@pytest.mark.parametrize("key", lessons_with("regression", "optimizers"))
def test_files_are_the_same_bytes_on_a_server_that_never_had_the_run(key: str) -> None:
    async def story() -> None:
        browser = await done(key)
        urls = [part.partition('"')[0].replace("&amp;", "&") for part in (await browser.files()).split('href="')[1:]]
        urls = [url for url in urls if url.startswith("files/")]
        assert len(urls) in (1, 5)  # several nets are in the zip alone
        async with server() as client:
            here = [(await client.get(url)).raise_for_status().content for url in urls]
            browser.close()
            run_files._kept.clear()
            there = [(await client.get(url)).raise_for_status().content for url in urls]
        assert here == there
        assert len(run_files._kept) == 1  # all files are of one training

    go(story())


@pytest.mark.parametrize("key", lessons_with("saving"))
@pytest.mark.parametrize(
    "state", [*(pytest.param(each, marks=pytest.mark.long) for each in ("idle", "paused")), "done"]
)
def test_figures_are_the_same_bytes_on_a_server_that_never_had_the_run(key: str, state: str) -> None:
    async def story() -> None:
        if state == "done":
            browser = await done(key)
            await browser.files()
        else:
            browser = Browser(key)
            browser.settings = short(key)
            await (browser.ask_for_a_run("step") if state == "paused" else browser.ask("open"))
        recipe = read_recipe(browser.recipe)
        step = max((frame["step"] for frame in frames(browser.received)), default=0)
        query = links.query(recipe, step=step, page=browser.page.key, run=browser.run, language="zh")
        async with server() as client:
            urls = [f"files/{key}/figure.{kind}?{query}" for kind in run_files.FIGURES]
            here = [(await client.get(url)).raise_for_status() for url in urls]
            browser.close()
            there = [(await client.get(url)).raise_for_status() for url in urls]
        assert [each.content for each in here] == [each.content for each in there]
        assert [each.headers["content-type"].partition(";")[0] for each in there] == [*run_files.FIGURES.values()]

    go(story())


@pytest.mark.parametrize(
    ("url", "status", "told"),
    [
        ("nope/net.onnx", 404, "There is no such file."),
        ("regression/passwords", 404, "There is no such file."),
        ("tensors/net.onnx", 404, "There is no such file."),
        ("install/figure.png", 404, "There is no such file."),
        ("regression/net.onnx?noise=2", 422, "Noise must be a number from 0 to 1"),
        ("regression/net.onnx?nope=1", 422, "Settings must be one of"),
        ("regression/net.onnx?stop=101", 422, "Stop must be at most 100, the steps of this run, not 101."),
        ("regression/net.onnx?language=fr", 422, "Language must be one of en, zh, not 'fr'."),
        (f"regression/net.onnx?{urlencode({'changes': '1:learning_rate=1,' * 1000})}", 422, "Link must be at most"),
        ("regression/net.onnx?learning_rate=10", 422, "Diverged at step"),
        ("regression/figure.png?step=101", 422, "Step must be at most 100, the steps of this run, not 101."),
        ("regression/figure.png?step=x", 422, "Step must be a whole number, not 'x'."),
        ("regression/figure.png?run=-1", 422, "Run must be a whole number, not '-1'."),
        ("tensors/figure.png?nope=1", 422, "Settings must be one of"),
    ],
)
def test_a_file_that_cannot_be_had_is_refused_in_a_sentence_in_both_languages(url: str, status: int, told: str) -> None:
    async def story() -> None:
        async with server() as client:
            answer = await client.get(f"files/{url}")
        assert answer.status_code == status
        english, chinese = answer.text.splitlines()
        assert english.startswith(told)
        assert not chinese.isascii()

    go(story())


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (FullError("full"), 503),
        (LostError("lost"), 503),
        (TooLongError("long"), 422),
        (SpentError(run_files.BUSY), 429),
        (ExportError("cannot be exported"), 422),
        (OSError("the disk is full"), 500),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("name", ["net.onnx", "figure.png"])
def test_a_server_that_cannot_train_now_says_so_in_a_sentence(
    name: str, error: Exception, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def create(recipe: Recipe, step: int = 0) -> Run:
        raise error

    monkeypatch.setattr(Run, "create", create)

    async def story() -> None:
        async with server() as client:
            answer = await client.get(
                f"files/regression/{name}?step=1" if name == "figure.png" else f"files/regression/{name}"
            )
        assert answer.status_code == status
        assert len(answer.text.splitlines()) in (1, 2)

    go(story())


def test_a_client_that_has_used_its_processor_time_gets_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    allowance = Allowance(60, lambda: 0.0)
    monkeypatch.setattr(turns, "training", allowance)
    allowance.spend("127.0.0.1", 61)

    async def story() -> None:
        async with server() as client:
            assert (await client.get("files/regression/net.onnx")).status_code == 429
            assert (await client.get("files/regression/figure.png?step=1")).status_code == 429

    go(story())
