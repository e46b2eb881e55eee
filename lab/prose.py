"""Parser for a lesson's text: one Markdown file per language, for teachers and translators to edit.

`texts/KEY.en.md` and `texts/KEY.zh.md` next to the lesson have the same structure::

    # Title

    The summary of the lesson, in two or three sentences.

    ## What you see
    ## Then and now                    any number of sections of the text

    ## Try this {#ideas}
    ### Label of a button {#id}        what to watch for; the lesson defines the settings under the same id

    ## Remarks {#notes}
    ### For translators {#id}          a note that the lesson shows conditionally; {name} is a placeholder

Python code refers to the ids, so a heading may be reworded but its id must not change.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Formatter

from markdown_it import MarkdownIt

from charts.text import LANGUAGES, Text

IDEAS, NOTES = "ideas", "notes"  # ids of the two sections that are not part of the text

_MARKDOWN = MarkdownIt("commonmark").enable("table")
_ID = re.compile(r"^(?P<words>.*?)\s*\{#(?P<id>[a-z][a-z0-9_]*)\}$")

# Chinese has no spaces between words, so a line break in the source is removed, not replaced by a space.
_CHINESE_LINE_BREAK = re.compile(
    r"(?<=[\u2e80-\u9fff\uff00-\uffef\u3000-\u303f”])\n(?=[\u2e80-\u9fff\uff00-\uffef\u3000-\u303f“])"
)


class LessonError(TypeError):
    """An invalid lesson definition. The message is one sentence for the lesson's author."""


@dataclass(frozen=True)
class Prose:
    """Text of a lesson. `summary` and `text` are Markdown; ideas and notes are single paragraphs by id."""

    title: Text
    summary: Text
    text: Text
    ideas: Mapping[str, tuple[Text, Text]]  # id -> (label of the button, what to watch for)
    notes: Mapping[str, Text]


@dataclass(frozen=True)
class _Section:
    """A heading, its optional id, and the Markdown up to the next heading."""

    level: int
    words: str
    name: str
    body: str


def read(module: str | Path) -> Prose:
    """Prose of the lesson in the file `module`, usually `__file__`. Raises LessonError for missing or invalid files."""
    lesson = Path(module)
    files = {language: lesson.parent / "texts" / f"{lesson.stem}.{language}.md" for language in LANGUAGES}
    parsed = {language: _parse(file) for language, file in files.items()}
    for part in ("headings", IDEAS, NOTES):
        en, zh = (list(getattr(parsed[language], part)) for language in LANGUAGES)
        if en != zh:
            raise LessonError(f"{files['zh']} must have the same {part} as {files['en'].name}: {en}, not {zh}.")

    def both(part: str, name: str, number: int) -> Text:
        return Text(*(getattr(parsed[language], part)[name][number] for language in LANGUAGES))

    prose = Prose(
        Text(parsed["en"].title, parsed["zh"].title),
        Text(parsed["en"].summary, parsed["zh"].summary),
        Text(parsed["en"].text, parsed["zh"].text),
        {name: (both(IDEAS, name, 0), both(IDEAS, name, 1)) for name in parsed["en"].ideas},
        {name: both(NOTES, name, 1) for name in parsed["en"].notes},
    )
    for name, note in prose.notes.items():
        if _placeholders(note.en) != _placeholders(note.zh):
            raise LessonError(f"{files['zh']} must have the same placeholders in {name!r} as {files['en'].name}.")
    return prose


@dataclass(frozen=True)
class _ParsedFile:
    """Contents of one file."""

    title: str
    summary: str
    text: str
    headings: tuple[str, ...]  # levels of the text's headings, which must match between languages
    ideas: Mapping[str, tuple[str, str]]
    notes: Mapping[str, tuple[str, str]]


def _parse(file: Path) -> _ParsedFile:
    if not file.is_file():
        raise LessonError(f"{file} is missing: a lesson needs a file for each of {', '.join(LANGUAGES)}.")
    first, *sections = _sections(file.read_text(encoding="utf-8"))
    if first.level != 1 or not first.words or not first.body:
        raise LessonError(f"{file} must begin with a heading '# Title' and a summary below it.")
    text: list[str] = []
    headings: list[str] = []
    paragraphs: dict[str, dict[str, tuple[str, str]]] = {IDEAS: {}, NOTES: {}}
    part = ""
    for each in sections:
        if each.level <= 2:
            part = each.name
            if part and part not in paragraphs:
                raise LessonError(f"{file}: a section's id must be one of {IDEAS}, {NOTES}, not {part!r}.")
        if not part:
            headings.append("#" * each.level)
            text.append(f"#{'#' * each.level} {each.words}\n\n{each.body}")  # one level below the page's headings
        elif each.level > 2:
            if not each.name or not each.body or each.name in paragraphs[part]:
                raise LessonError(f"{file}: {each.words!r} must have a unique id, like {{#name}}, and a text.")
            paragraphs[part][each.name] = each.words, _join_lines(each.body)
    if not text:
        raise LessonError(f"{file} must have a section '## ...' of text.")
    return _ParsedFile(
        first.words, first.body, "\n\n".join(text), tuple(headings), paragraphs[IDEAS], paragraphs[NOTES]
    )


def _sections(markdown: str) -> Iterator[_Section]:
    lines = markdown.splitlines()
    starts = [
        (token.map, int(token.tag[1:]))
        for token in _MARKDOWN.parse(markdown)
        if token.type == "heading_open" and token.map and not token.level
    ]
    if not starts or "".join(lines[: starts[0][0][0]]).strip():
        yield _Section(0, "", "", "")
        return
    ends = [start[0] for start, _ in starts[1:]] + [len(lines)]
    for ((start, below), level), end in zip(starts, ends, strict=True):
        words = lines[start].lstrip("#").strip()
        found = _ID.match(words)
        body = "\n".join(lines[below:end]).strip()
        yield _Section(level, found["words"] if found else words, found["id"] if found else "", body)


def _join_lines(paragraph: str) -> str:
    """Join the lines of a paragraph."""
    return _CHINESE_LINE_BREAK.sub("", paragraph).replace("\n", " ")


def _placeholders(template: str) -> set[str | None]:
    return {name for _, name, _, _ in Formatter().parse(template) if name is not None}
