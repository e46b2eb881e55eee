"""The tab of the shipped nets: what it shows was checked by this server, and can be taken away or trained again."""

import asyncio
import io
import json
import os
import re
import shutil
import zipfile
from collections import Counter
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from export.bundle import Bundle
from export.cases import Parity
from export.layout import find
from lab.settings import SettingError
from nets import TRAININGS
from runs.pool import LostError, NoWorkerError
from runs.run import verified
from tabs import checkpoints_tab
from tabs.checkpoints_tab import CHECKPOINTS
from tests.conftest import follow
from tests.test_page import Tab
from tests.test_runs import go

NAMES = [folder.relative_to(CHECKPOINTS).as_posix() for folder in find(CHECKPOINTS)]


@pytest.fixture
def shown(page: Page) -> Page:
    """The page with the tab open, its cards there."""
    page.get_by_role("tab", name="Checkpoints", exact=True).click()
    expect(page.locator("[data-checkpoint]")).to_have_count(len(NAMES))
    return page


def choose(page: Page, name: str) -> None:
    page.locator(f'[data-checkpoint="{name}"]').click()
    expect(page.locator(f'[data-checkpoint="{name}"]')).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".checkpoint .actions")).to_be_visible()


def test_every_shipped_net_is_shown_with_its_plot_its_figures_and_the_verdict_of_this_server(shown: Page) -> None:
    for name in NAMES:
        card = shown.locator(f'[data-checkpoint="{name}"]')
        card.scroll_into_view_if_needed()
        expect(card.locator(".verdict.passed")).to_have_text("52 comparisons agree", use_inner_text=True)
        expect(card.locator(".figures")).to_contain_text("loss")
        card.locator("img").evaluate("image => image.decode()")  # fails for one that is no picture
    first = shown.locator("[data-checkpoint]").first
    assert first.get_attribute("data-checkpoint") == next(iter(TRAININGS))


def test_its_files_and_the_zip_of_them_download_as_they_are_shipped(shown: Page) -> None:
    choose(shown, "optimizers/adam")
    folder = CHECKPOINTS / "optimizers" / "adam"
    links = shown.locator(".checkpoint .files a")
    assert sorted(links.all_inner_texts()) == sorted(path.name for path in folder.iterdir())
    with shown.expect_download() as download:
        shown.get_by_role("link", name="net.onnx", exact=True).click()
    assert download.value.suggested_filename == "net.onnx"
    assert Path(download.value.path()).read_bytes() == (folder / "net.onnx").read_bytes()
    with shown.expect_download() as download:
        shown.get_by_role("link", name="Download all").click()
    assert download.value.suggested_filename == "live-nets-optimizers-adam.zip"
    with zipfile.ZipFile(io.BytesIO(Path(download.value.path()).read_bytes())) as archive:
        assert {name.removeprefix("optimizers/adam/") for name in archive.namelist()} == {
            path.name for path in folder.iterdir()
        }


def test_it_opens_in_its_lesson_with_the_same_settings_whatever_stood_there(shown: Page) -> None:
    tab = Tab(shown, "classification")
    rate = shown.locator("#classification .setting-learning_rate input")
    rate.fill("0.3")
    rate.press("Tab")
    expect(tab.status).to_contain_text("Ready: 100 steps")
    tab.press("Step")
    tab.expect_state("paused")
    shown.get_by_role("tab", name="Checkpoints", exact=True).click()
    choose(shown, "classification")
    shown.get_by_role("link", name="Open in its lesson").click()
    tab.expect_state("idle")
    tab.expect_step(0)
    expect(rate).to_have_value("0.02")
    tab.choose("full speed")
    tab.press("Train")
    tab.expect_state("done")
    shipped = json.loads((CHECKPOINTS / "classification" / "manifest.json").read_text(encoding="utf-8"))
    expect(tab.chart.locator(".live-status")).to_contain_text(f"loss {shipped['metrics']['loss']:.4f}")


def test_it_opens_in_a_lesson_that_was_never_seen(shown: Page) -> None:
    choose(shown, "dropout/dropout")
    shown.get_by_role("link", name="Open in its lesson").click()
    expect(shown.locator('[data-lesson="dropout"] .live-status')).to_contain_text("Ready: 500 steps")
    expect(shown).to_have_url(re.compile("#dropout$"))  # whose settings are those of the lesson
    expect(shown.locator("#dropout .setting-hidden_units input").first).to_have_value("300")


def test_its_graph_and_its_snippets_are_in_the_page(shown: Page) -> None:
    choose(shown, "batchnorm/batch_norm")
    shown.get_by_text("The ONNX graph").click()
    graph = shown.locator(".checkpoint .tall")
    expect(graph.locator("rect")).to_have_count(26 + 2)  # operators, and the input and output
    expect(graph).to_contain_text("BatchNormalization norms.7")
    expect(graph).to_contain_text("weight 10 × 10, bias 10")
    shown.get_by_text("How to use it").click()
    shown.get_by_role("button", name="C#, Microsoft.ML.OnnxRuntime").click()
    expect(shown.locator(".checkpoint .snippet > div:visible")).to_contain_text('InferenceSession("net.onnx")')
    expect(shown.locator(".checkpoint .snippet > div:visible")).to_have_count(1)


def test_a_snippet_is_copied_whole(shown: Page) -> None:
    shown.context.grant_permissions(["clipboard-read", "clipboard-write"])
    choose(shown, "regression")
    shown.get_by_text("How to use it").click()
    copy = shown.locator(".checkpoint .snippet > div:visible [data-copy]:visible").last
    copy.click()
    expect(copy).to_have_text("Copied", use_inner_text=True)
    copied = shown.evaluate("navigator.clipboard.readText()")
    readme = (CHECKPOINTS / "regression" / "README.md").read_text(encoding="utf-8")
    assert copied.strip() == re.findall(r"```python\n(.*?)```", readme, re.DOTALL)[0].strip()


def test_the_page_to_try_it_is_served(shown: Page) -> None:
    choose(shown, "regression")
    address = shown.get_by_role("link", name="Try it in the browser").get_attribute("href")
    answer = shown.request.get(f"{shown.url.partition('#')[0]}{address}")
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.body() == (CHECKPOINTS / "regression" / "try.html").read_bytes()


def test_nothing_of_it_scrolls_sideways_on_a_phone(shown: Page) -> None:
    shown.set_viewport_size({"width": 390, "height": 844})
    choose(shown, "batchnorm/batch_norm")
    for summary in shown.locator(".checkpoint summary").all():
        summary.click()
    assert shown.evaluate("document.documentElement.scrollWidth") == 390


def test_after_a_choice_the_keyboard_goes_on_from_its_details(shown: Page) -> None:
    shown.locator('[data-checkpoint="regression"]').focus()
    shown.keyboard.press("Enter")
    expect(shown.locator(".checkpoint h3")).to_be_focused()
    shown.keyboard.press("Tab")
    expect(shown.get_by_role("link", name="Download all")).to_be_focused()


def test_a_link_opens_a_lesson_with_settings(page: Page, app_url: str) -> None:
    follow(page, f"{app_url}#classification?steps=7&learning_rate=0.5")
    expect(page.locator('[data-lesson="classification"] .live-status')).to_contain_text("Ready: 7 steps")
    expect(page.locator("#classification .setting-learning_rate input")).to_have_value("0.5")


def test_a_link_opens_a_lesson_that_computes_with_settings_too(page: Page, app_url: str) -> None:
    follow(page, f"{app_url}#activations?which=[%22tanh%22]")
    expect(page.locator("#activations .setting-which input:checked")).to_have_count(1)


def test_a_link_with_a_bad_setting_says_so_and_shows_the_lesson(page: Page, app_url: str) -> None:
    follow(page, f"{app_url}#regression?steps=0")
    lesson = page.locator('[data-lesson="regression"]')
    expect(lesson.locator(".live-notice")).to_contain_text("Steps must be a whole number from 1 to 2000, not 0.")
    expect(lesson.locator(".live-status")).to_contain_text("Ready: 100 steps")
    expect(page.locator("#regression .bk-Figure")).to_have_count(2)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the tab's bundles: two, one of them altered. Nothing is verified yet."""
    for name in ("regression", "classification"):
        shutil.copytree(CHECKPOINTS / name, tmp_path / name)
    (tmp_path / "classification" / "net.pkl").write_bytes(b"altered")
    monkeypatch.setattr(checkpoints_tab, "CHECKPOINTS", tmp_path)
    for name in ("_verified", "_details", "_archives"):
        monkeypatch.setattr(checkpoints_tab, name, {})
    monkeypatch.setattr(checkpoints_tab, "_crashes", Counter())
    return tmp_path


async def cards() -> str:
    """What the tab shows at the end."""
    return [shown async for shown in checkpoints_tab.cards()][-1]


def test_each_bundle_is_checked_once_however_many_look_at_the_same_time(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[str] = []

    async def noted(folder: Path) -> Bundle:
        checked.append(folder.name)
        return await verified(folder)

    monkeypatch.setattr(checkpoints_tab, "verified", noted)

    async def story() -> list[str]:
        return await asyncio.gather(*(cards() for _ in range(5)))

    assert len(set(go(story()))) == 1
    assert checked == ["regression", "classification"]


def test_a_bundle_that_lacks_what_the_page_shows_is_told_of_and_the_others_are_shown(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lacking(folder: Path) -> Bundle:
        found = await verified(folder)
        del found.manifest["metrics"]
        return found

    monkeypatch.setattr(checkpoints_tab, "verified", lacking)
    shown = go(cards())
    assert "regression/manifest.json cannot be displayed: KeyError(" in unescape(shown)
    assert "net.pkl has 7 bytes and not" in shown


def test_whatever_lies_among_the_bundles_the_others_are_shown(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(folder / "classification")
    (folder / "a-file").write_bytes(b"x")
    (folder / "loop").symlink_to("loop")
    (folder / "gone").symlink_to("nowhere")
    (folder / "around").mkdir()
    (folder / "around" / "again").symlink_to(folder)
    for name in ("no-json", "a-folder", "a-pipe", "missing", "no-label", os.fsdecode(b"odd-\xff")):
        (folder / name).mkdir()
        (folder / name / "manifest.json").write_bytes(b"{")
    (folder / "a-folder" / "manifest.json").unlink()
    (folder / "a-folder" / "manifest.json").mkdir()
    (folder / "a-folder" / "net.onnx").write_bytes(b"x")
    (folder / "a-pipe" / "manifest.json").unlink()
    os.mkfifo(folder / "a-pipe" / "manifest.json")
    (folder / "a-pipe" / "net.onnx").write_bytes(b"x")
    shutil.copyfile(CHECKPOINTS / "regression" / "manifest.json", folder / "missing" / "manifest.json")
    shutil.copyfile(CHECKPOINTS / "regression" / "net.onnx", folder / "net.onnx")

    async def other(found: Path) -> Bundle:
        if found.name != "no-label":
            return await verified(found)
        described: Any = {"lesson": "dropout", "nets": ["a", "b"], "metrics": {}}
        return Bundle(found, described, Parity(()))

    monkeypatch.setattr(checkpoints_tab, "verified", other)
    shown = unescape(go(cards()))
    assert shown.count("52 comparisons agree") == 1
    shown.encode()  # or none of it could be sent
    names = {*re.findall('data-checkpoint="(.*?)"', shown)}
    assert names >= {".", "regression", "no-json", "a-folder", "a-pipe", "missing", "no-label", "odd-?"}
    assert names - {"regression"} == {*re.findall("<b>(.*?)</b><span class=.verdict failed", shown)}
    assert "no-label/manifest.json cannot be displayed: KeyError('label')" in shown


def test_a_bundle_whose_check_ends_the_process_hides_no_other_and_is_given_up(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def lost(folder: Path) -> Bundle:
        asked.append(folder.name)
        if folder.name == "classification":
            raise LostError("the worker is gone")
        return await verified(folder)

    monkeypatch.setattr(checkpoints_tab, "verified", lost)
    first, second, third = (go(cards()) for _ in range(3))
    assert "52 comparisons agree" in first
    assert "Please open this tab again in a minute" in first
    assert "classification killed the process that verified it" in second
    assert "classification killed the process that verified it" in third
    assert asked.count("classification") == 2


def test_while_no_worker_is_there_to_check_the_tab_says_so_and_checks_later(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(folder: Path) -> Bundle:
        raise NoWorkerError("no worker has come")

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints_tab, "verified", lost)
        assert "Please open this tab again in a minute" in go(cards())
    assert "52 comparisons agree" in go(cards())


def test_an_altered_bundle_is_shown_as_such_and_offers_nothing(folder: Path) -> None:
    shown = go(cards())
    assert shown.count("52 comparisons agree") == 1
    assert "net.pkl has 7 bytes and not" in shown
    detail = go(checkpoints_tab.detail("classification"))
    assert "net.pkl has 7 bytes and not" in detail
    assert "download" not in detail


@pytest.mark.parametrize("name", [None, {}, "../../etc", 3, ["regression"], "x"])
def test_a_checkpoint_that_is_not_there_is_refused(name: object, folder: Path) -> None:
    go(cards())
    with pytest.raises(SettingError, match="checkpoint must be the name of a checkpoint on this page"):
        go(checkpoints_tab.detail(name))
