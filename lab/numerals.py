"""Numbers as people type them: in the digits and with the separators of any country, keyboard or input method.

A text is read as one number or refused, never guessed. `1,000` is a thousand to some readers and one to others, so it
is refused; `0,5`, `1,000.5` and `1 000 000` have only one reading. Separators are those of
https://cldr.unicode.org/translation/number-currency-formats/number-symbols.
"""

import re
import unicodedata
from decimal import Decimal

LONGEST = 100  # characters; also bounds the time to match

# Format characters that nobody sees: soft hyphen, zero-width spaces and joiners, direction marks and isolates. Not the
# overrides U+202D and U+202E: they show the digits in another order.
_UNSEEN = re.compile("[\u00ad\u061c\u200b-\u200f\u202a-\u202c\u2060\u2066-\u2069\ufeff]")

_SAME = {
    "-": "\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d",  # hyphens, en dash, minus
    "+": "\ufe62\uff0b",
    ".": "\u066b\u3002\ufe52\uff0e\uff61",  # Arabic decimal separator, ideographic and full-width full stops
    ",": "\u060c\ufe50\uff0c",
    "'": "\u066c\u2018\u2019\u02bc\uff07",  # Arabic thousands separator, apostrophes
    " ": "\u00a0\u2007\u2008\u2009\u202f\u3000",
    "_": "\uff3f",
    "^": "\uff3e",
    "*": "\u00d7\u2715\u22c5\ufe61\uff0a",  # times
    "e": "E\uff25\uff45",
    "[": "\uff3b\u3010",
    "]": "\uff3d\u3011",
}
_PLAIN = {ord(other): plain for plain, others in _SAME.items() for other in others}
_RAISED = str.maketrans("⁺⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "+-0123456789")
_TEN_TO = re.compile("10([⁺⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)$")

_SIMPLE = r"(?P<simple>[0-9]+[.,]?[0-9]*|[.,][0-9]+)"
_GROUPED = r"(?P<grouped>[1-9][0-9]{0,2}(?P<group>[ '_.,])[0-9]{3}(?:(?P=group)[0-9]{3})*(?:(?!(?P=group))[.,][0-9]*)?)"
_POWER = r"(?:e(?P<e>[+-]?[0-9]{1,6})| ?[*x] ?10(?:\^|\*\*)(?P<times>[+-]?[0-9]{1,6}))"
_NUMBER = re.compile(rf"(?P<sign>[+-]?)(?:(?:{_SIMPLE}|{_GROUPED}){_POWER}?|10(?:\^|\*\*)(?P<ten>[+-]?[0-9]{{1,6}}))")

# As many digits after the separator as a group may have, three or in China four: a decimal fraction to some, thousands
# to others. After a 0 it can only be a fraction.
_EITHER = re.compile(r"[+-]?[1-9][0-9]{0,3}(?P<mark>[.,])(?:[0-9]{3}|[0-9]{4})(?![0-9])")


class NumeralError(ValueError):
    """A text that is no number, or that has two readings (`ambiguous`)."""

    def __init__(self, ambiguous: bool = False) -> None:
        super().__init__("a number with two readings" if ambiguous else "not a number")
        self.ambiguous = ambiguous


def plain(text: str) -> str:
    """`text` with ASCII digits, signs, separators and brackets, without characters that nobody sees.

    Raises NumeralError where digits of several scripts are mixed: some look alike and differ in value.
    """
    text = _UNSEEN.sub("", text).translate(_PLAIN).strip()
    digits = {letter: unicodedata.decimal(letter) for letter in text if letter.isdecimal()}
    scripts = {ord(letter) - value for letter, value in digits.items()} - {ord("0"), ord("\uff10")}
    if len(scripts) > 1 or (scripts and any(letter.isascii() for letter in digits)):
        raise NumeralError
    return text.translate({ord(letter): str(value) for letter, value in digits.items()})


def read(text: str, whole: bool = False) -> Decimal:
    """The number that `text` says, exactly. Raises NumeralError.

    Where a `whole` number is wanted, `1.000` is as ambiguous as `1,000`. Elsewhere the point is the decimal point, as
    in Python and on the page.
    """
    if len(text) > LONGEST:
        raise NumeralError
    text = _TEN_TO.sub(lambda match: f"10^{match[1].translate(_RAISED)}", plain(text))
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise NumeralError
    either = _EITHER.match(text)
    alone = either is not None and text[either.end() :][:1] not in (".", ",")  # 1,000.5 and 1,000,000 are clear
    if either is not None and alone and (whole or either["mark"] == ","):
        raise NumeralError(ambiguous=True)
    if match["ten"]:
        return Decimal(f"{match['sign']}1e{match['ten']}")
    if match["grouped"] and not (alone and match["group"] == "."):
        number = match["grouped"].replace(match["group"], "").replace(",", ".")
    else:
        number = (match["simple"] or match["grouped"]).replace(",", ".")
    power = match["e"] or match["times"]
    return Decimal(f"{match['sign']}{number}" + (f"e{power}" if power else ""))
