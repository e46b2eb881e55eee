"""Render words, code and blocks as HTML in both languages; the page's style sheet hides the inactive one."""

import re
from collections.abc import Iterable
from functools import lru_cache
from html import escape

from markdown_it import MarkdownIt
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer, get_lexer_by_name

from charts.blocks import Block, Graph, Node, Note, PythonSession, Table
from charts.text import LANGUAGES, Language, Words, said

_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")
_LEXER = PythonLexer()
_FORMATTER = HtmlFormatter(nowrap=True)

# Chinese has no spaces between words, so a line break in the source is removed, not replaced by a space.
_CHINESE_LINE_BREAK = re.compile(
    r"(?<=[\u2e80-\u9fff\uff00-\uffef\u3000-\u303f”])\n(?=[\u2e80-\u9fff\uff00-\uffef\u3000-\u303f“])"
)

_ERROR = re.compile(r"[A-Z]\w*Error: ")

BOX_HEIGHT, BOX_GAP, ROW_GAP = 34, 24, 34  # of a graph's nodes, in pixels
DETAIL_HEIGHT = 15
CHAR_WIDTH, DETAIL_CHAR_WIDTH = 8.2, 7.0  # maximum width of a character in a label and in a detail, in pixels


def words(text: Words, tag: str = "span") -> str:
    """Escaped plain text in an element `tag` per language."""
    if isinstance(text, str):
        return escape(text)
    return _bilingual({language: escape(said(text, language)) for language in LANGUAGES}, tag)


def markdown(text: Words) -> str:
    """Rendered Markdown with paragraphs, lists, tables and code. Embedded HTML is escaped."""
    if isinstance(text, str):
        return f'<div class="prose">{_render(text)}</div>'
    return f'<div class="prose">{_bilingual({each: _render(said(text, each)) for each in LANGUAGES}, "div")}</div>'


def inline(text: Words) -> str:
    """Rendered inline Markdown, such as emphasis and code."""
    if isinstance(text, str):
        return _protect_code(_MARKDOWN.renderInline(text))
    lines = {each: _protect_code(_MARKDOWN.renderInline(_join_chinese_lines(said(text, each)))) for each in LANGUAGES}
    return _bilingual(lines, "span")


def code(source: str, language: str = "python") -> str:
    """Highlighted code; `language` is the name of a Pygments lexer."""
    highlighted = highlight(source, get_lexer_by_name(language), _FORMATTER)
    return f'<pre class="code notranslate" translate="no" tabindex="0"><code>{highlighted}</code></pre>'


def blocks(each: Iterable[Block]) -> str:
    """HTML of the blocks, one below the other."""
    return "".join(map(_block, each))


def _bilingual(parts: dict[Language, str], tag: str) -> str:
    return "".join(f'<{tag} lang="{language}">{part}</{tag}>' for language, part in parts.items())


def _render(text: str) -> str:
    html = _protect_code(_MARKDOWN.render(_join_chinese_lines(text)))
    # Wide tables scroll in their own container instead of the page.
    return html.replace("<table>", '<div class="wide" tabindex="0"><table>').replace("</table>", "</table></div>")


def _protect_code(html: str) -> str:
    """Mark code in rendered Markdown so that browser translation skips it."""
    marked = re.sub("<code(?=[ >])", '<span class="notranslate" translate="no"><code', html)
    return marked.replace("</code>", "</code></span>")


def _join_chinese_lines(text: str) -> str:
    return _CHINESE_LINE_BREAK.sub("", text)


@lru_cache(maxsize=512)  # most blocks stay the same from frame to frame
def _block(block: Block) -> str:
    match block:
        case Note():
            return f'<p class="note {block.kind}">{inline(block.text)}</p>'
        case Table():
            return _titled(block.title, _table(block))
        case PythonSession():
            return _titled(block.title, _session(block))
        case Graph():
            return _titled(block.title, _graph(block))


def _titled(title: Words, content: str) -> str:
    heading = f"<h4>{words(title)}</h4>" if title else ""
    return f'<section class="block">{heading}{content}</section>'


def _table(table: Table) -> str:
    head = "".join(f"<th>{inline(cell)}</th>" for cell in table.head)
    rows = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in table.rows)
    return f'<div class="wide" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _cell(cell: Words) -> str:
    # A plain string is a number, a name or code, which browser translation must not change.
    kept = ' class="notranslate" translate="no"' if isinstance(cell, str) else ""
    return f"<td{kept}>{inline(cell)}</td>"


def _session(session: PythonSession) -> str:
    lines = []
    for source, output in session.lines:
        first, *rest = highlight(source, _LEXER, _FORMATTER).rstrip("\n").split("\n")
        lines.append(f'<i class="prompt">&gt;&gt;&gt; </i>{first}')
        lines += [f'<i class="prompt">... </i>{line}' for line in rest]
        if output:
            # Printed tensors keep their columns; long error messages wrap.
            kind = "output error" if _ERROR.match(output) else "output"
            lines.append(f'<span class="{kind}">{escape(output)}</span>')
    attributes = 'class="code session notranslate" translate="no" tabindex="0"'
    return f"<pre {attributes}><code>{chr(10).join(lines)}</code></pre>"


def _graph(graph: Graph) -> str:
    rows = _rows(graph)
    sizes = [_width(node) for node in graph.nodes]
    heights = [BOX_HEIGHT + DETAIL_HEIGHT * len(node.details) for node in graph.nodes]
    width = max(sum(sizes[n] for n in row) + BOX_GAP * (len(row) - 1) for row in rows) + 2
    at: dict[int, tuple[float, float]] = {}  # top center of each box
    y = 1
    for row in rows:
        x = (width - sum(sizes[n] for n in row) - BOX_GAP * (len(row) - 1)) / 2
        for n in row:
            at[n] = (x + sizes[n] / 2, y)
            x += sizes[n] + BOX_GAP
        y += max(heights[n] for n in row) + ROW_GAP
    arrows = "".join(
        f'<line x1="{at[a][0]:.0f}" y1="{at[a][1] + heights[a]:.0f}" x2="{at[b][0]:.0f}" y2="{at[b][1] - 7:.0f}"/>'
        f'<path d="M{at[b][0] - 4:.0f} {at[b][1] - 8:.0f} h8 l-4 7 z"/>'
        for a, b in graph.arrows
    )
    boxes = "".join(
        f'<g class="{node.kind}"><rect x="{at[n][0] - sizes[n] / 2:.0f}" y="{at[n][1]:.0f}" width="{sizes[n]:.0f}"'
        f' height="{heights[n]}" rx="6"/>{_lines(node, *at[n])}</g>'
        for n, node in enumerate(graph.nodes)
    )
    height = y - ROW_GAP + 1
    size = f'viewBox="0 0 {width:.0f} {height}" width="{width:.0f}"'
    named = escape(", ".join(said(node.label, "en") for node in graph.nodes))  # an attribute holds only one language
    return f'<svg class="graph notranslate" translate="no" {size} role="img" aria-label="{named}">{arrows}{boxes}</svg>'


def _rows(graph: Graph) -> list[list[int]]:
    """Node indices grouped by the length of the longest path to them."""
    depth = [0] * len(graph.nodes)
    for _ in graph.nodes:  # bounds the length of the longest path
        for a, b in graph.arrows:
            depth[b] = max(depth[b], depth[a] + 1)
    return [[n for n, d in enumerate(depth) if d == row] for row in range(max(depth) + 1)]


def _width(node: Node) -> float:
    lines = [node.label, *node.details]
    return max(_char_count(line) * (DETAIL_CHAR_WIDTH if n else CHAR_WIDTH) for n, line in enumerate(lines)) + 20


def _char_count(text: Words) -> int:
    # A Chinese character is as wide as two letters.
    return max(sum(2 if ord(c) > 0x2E7F else 1 for c in said(text, language)) for language in LANGUAGES)


def _lines(node: Node, x: float, y: float) -> str:
    label = _line(node.label, x, y + BOX_HEIGHT / 2 + 5)
    first = y + BOX_HEIGHT + 5  # the first detail's baseline
    return label + "".join(
        _line(detail, x, first + DETAIL_HEIGHT * n, "detail") for n, detail in enumerate(node.details)
    )


def _line(text: Words, x: float, y: float, kind: str = "label") -> str:
    place = f'class="{kind}" x="{x:.0f}" y="{y:.0f}" text-anchor="middle"'
    if isinstance(text, str):
        return f"<text {place}>{escape(text)}</text>"
    return "".join(f'<text {place} lang="{each}">{escape(said(text, each))}</text>' for each in LANGUAGES)
