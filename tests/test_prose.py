"""The words of lessons: both languages have the same structure, and an editor is told what is wrong with a file."""

import re
import shutil
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from charts.text import LANGUAGES, Text, said
from lab import prose
from lab.lesson import Lesson
from lab.prose import LessonError
from nets import LESSONS

NETS = Path(__file__).parent.parent / "nets"
MARKDOWN = MarkdownIt("commonmark").enable("table")
STRUCTURE = {"heading_open", "bullet_list_open", "ordered_list_open", "list_item_open", "fence", "tr_open", "hr"}


def structure(markdown: str) -> list[tuple[str, str]]:
    """Headings, lists, code and tables, in order; how sentences are divided into paragraphs is a language's own."""
    return [(token.type, token.tag) for token in MARKDOWN.parse(markdown) if token.type in STRUCTURE]


def test_every_lesson_has_its_words_in_both_languages_and_no_other_file_is_there() -> None:
    names = {f"{key}.{language}.md" for key in LESSONS for language in LANGUAGES}
    assert {path.name for path in (NETS / "texts").iterdir()} == names


@pytest.mark.parametrize("key", LESSONS)
def test_both_languages_of_a_lesson_have_the_same_structure(key: str) -> None:
    en, zh = ((NETS / "texts" / f"{key}.{language}.md").read_text(encoding="utf-8") for language in LANGUAGES)
    assert structure(en) == structure(zh)
    assert re.findall(r"\{#\w+\}", en) == re.findall(r"\{#\w+\}", zh)
    assert not re.search("[一-鿿]", en)


@pytest.mark.parametrize("lesson", LESSONS.values(), ids=LESSONS.keys())
def test_no_note_is_left_that_its_lesson_does_not_show(lesson: Lesson) -> None:
    source = (NETS / f"{lesson.key}.py").read_text(encoding="utf-8")
    assert [name for name in lesson.prose.notes if f'"{name}"' not in source] == []


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A lesson file with words beside it, to be edited."""
    (tmp_path / "texts").mkdir()
    for language in LANGUAGES:
        shutil.copy(NETS / "texts" / f"regression.{language}.md", tmp_path / "texts" / f"mine.{language}.md")
        with (tmp_path / "texts" / f"mine.{language}.md").open("a", encoding="utf-8") as file:
            file.write("\n## Remarks {#notes}\n\n### Steps {#taken}\n\nAfter {steps}\nof them.\n")
    return tmp_path / "mine.py"


def edit(lesson: Path, language: str, old: str, new: str) -> None:
    file = lesson.parent / "texts" / f"mine.{language}.md"
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


def test_edited_words_are_read(copy: Path) -> None:
    edit(copy, "en", "# Regression", "# Fitting a curve")
    edit(copy, "zh", "### 让 ReLU 死亡 {#", "### 全部死亡 {#")
    edit(copy, "en", "## What you see", "## What to look for")
    read = prose.read(copy)
    assert read.title == Text("Fitting a curve", "回归")
    assert read.ideas["kill_the_relus"][0] == Text("Kill the ReLUs", "全部死亡")
    assert read.text.en.startswith("### What to look for\n\nThe loss is")
    assert read.notes["taken"].format(steps=7) == Text("After 7 of them.", "After 7 of them.")


def test_a_line_that_begins_with_a_hash_in_code_is_no_heading(copy: Path) -> None:
    for language in LANGUAGES:
        edit(copy, language, "\n## ", "\n```python\n# not a heading {#x}\n```\n\n## ")
    assert "# not a heading {#x}\n```" in said(prose.read(copy).summary, "zh")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("# 回归", "## 回归", "mine.zh.md must begin with a heading '# Title' and a summary below it."),
        ("# 回归", "Words\n\n# 回归", "mine.zh.md must begin with a heading '# Title' and a summary below it."),
        ("## 看什么", "### 看什么", "must have the same headings as mine.en.md: "),
        ("{#ideas}", "{#idea}", "mine.zh.md: a section's id must be one of ideas, notes, not 'idea'."),
        (" {#kill_the_relus}", "", "mine.zh.md: '让 ReLU 死亡' must have a unique id, like {#name}, and a text."),
        ("{#kill_the_relus}", "{#kill}", "must have the same ideas as mine.en.md: "),
        ("{steps}", "{step}", "mine.zh.md must have the same placeholders in 'taken' as mine.en.md."),
    ],
)
def test_what_is_wrong_with_a_file_is_told_by_its_name(copy: Path, old: str, new: str, told: str) -> None:
    edit(copy, "zh", old, new)
    with pytest.raises(LessonError, match=re.escape(told)):
        prose.read(copy)


def test_a_missing_language_is_told(copy: Path) -> None:
    (copy.parent / "texts" / "mine.zh.md").unlink()
    with pytest.raises(LessonError, match=r"mine\.zh\.md is missing: a lesson needs a file for each of en, zh\."):
        prose.read(copy)
