"""Numbers as people type them: understood or refused, never another number."""

import pytest

from charts.text import LANGUAGES, Text, said
from lab.lesson import Lesson
from lab.settings import Number, SettingError, Typed, shown
from nets import LESSONS, TRAININGS

CONFIG = TRAININGS["regression"].config
BOX, SLIDER = "learning_rate", "steps"

UNDERSTOOD = {
    "decimal comma": ("0,5", 0.5),
    "decimal comma after a zero": ("0,125", 0.125),
    "full-width digits": ("０．５", 0.5),
    "full-width comma": ("０，５", 0.5),
    "Chinese full stop": ("0。5", 0.5),
    "half-width Chinese full stop": ("0｡5", 0.5),
    "full-width point alone": ("0．5", 0.5),
    "Arabic-Indic": ("٠٫٥", 0.5),
    "Persian": ("۱٫۵", 1.5),
    "Devanagari": ("२.५", 2.5),
    "no zero": (".5", 0.5),
    "no zero, comma": (",5", 0.5),
    "no fraction": ("5.", 5.0),
    "plus": ("+5", 5.0),
    "full-width plus": ("＋5", 5.0),
    "zeros before": ("005", 5.0),
    "exponent": ("1e-3", 0.001),
    "exponent with a minus sign": ("1E−3", 0.001),
    "full-width exponent": ("１Ｅ－３", 0.001),
    "times a power": ("1×10^-3", 0.001),
    "times a power, spaced": ("1 × 10^−3", 0.001),
    "times a power, raised": ("2,5×10⁻³", 0.0025),
    "a power": ("10⁻³", 0.001),
    "a power of Python": ("10**-3", 0.001),
    "point and three digits": ("1.125", 1.125),
    "spaces": (" \u00a0\u30000.5\t\n", 0.5),
    "zero-width": ("\ufeff0\u200b.5\u200f", 0.5),
}

WHOLE = {
    "Swiss": ("1'000", 1000),
    "typographic apostrophe": ("1’000", 1000),
    "Arabic thousands": ("١٬٠٠٠", 1000),
    "thin space": ("1\u2009000", 1000),
    "narrow space": ("1\u202f000", 1000),
    "space that does not break": ("1\u00a0000", 1000),
    "space": ("1 000", 1000),
    "Python": ("1_000", 1000),
    "full-width": ("１０００", 1000),
    "grouped with a fraction": ("1.000,0", 1000),
    "grouped with a fraction, English": ("1,000.0", 1000),
    "exponent": ("1e3", 1000),
    "fraction of zero": ("100.0", 100),
}

REFUSED = ["½", "2½", "10²3", "1/2", "50%", "0x10", "NaN", "nan", "inf", "-Infinity", "∞", "1e999", "-1e999", "9" * 400]
REFUSED += [
    "1e-999",
    "1,125",
    "1,0000",
    "1,00,000",
    "1 1",
    "1_0",
    "1''000",
    "0.5.",
    "0..5",
    "0,5,5",
    "--5",
    "5-",
    "(5)",
]
REFUSED += [
    "5e",
    "e5",
    "1e",
    "1e0.5",
    "1×10-3",
    "1٢",
    "五",
    "Ⅴ",
    "²",
    "5️⃣",
    "\u202e5",
    "0.5 0.5",
    "−5",
    "－5",
    "–5",
    "null",
    "true",
]
REFUSED += ["", " ", "\u200b", ".", ",", "-", "+", "[0.5]", "0;5", "1k", "$5"]


def _read(name: str, typed: str) -> object:
    return CONFIG.read({name: typed}).to_dict()[name]


@pytest.mark.parametrize(("typed", "meant"), UNDERSTOOD.values(), ids=UNDERSTOOD)
def test_a_number_is_understood_as_it_is_typed(typed: str, meant: float) -> None:
    assert _read(BOX, typed) == meant


@pytest.mark.parametrize(("typed", "meant"), WHOLE.values(), ids=WHOLE)
def test_a_whole_number_is_understood_with_its_thousands(typed: str, meant: int) -> None:
    assert _read(SLIDER, typed) == meant


@pytest.mark.parametrize("typed", REFUSED)
@pytest.mark.parametrize("name", [BOX, SLIDER])
def test_what_is_no_number_or_out_of_range_is_refused_with_what_was_typed(name: str, typed: str) -> None:
    with pytest.raises(SettingError, match=rf"^{name} must be a (whole )?number from .*, not .*\.$") as error:
        _read(name, typed)
    assert error.value.value == typed.strip()
    assert all(said(shown(error.value.value), each) in said(error.value.told(name), each) for each in LANGUAGES)


@pytest.mark.parametrize(
    "typed", ["1,000", "1.000", "1，000", "１．０００", "١.٠٠٠", "1,0000", "1.0000", "12,000", "1.500", "1,000e0"]
)
def test_a_whole_number_with_two_readings_is_refused_and_told_how_to_write_it(typed: str) -> None:
    with pytest.raises(SettingError) as error:
        _read(SLIDER, typed)
    rule = "steps must be a whole number from 1 to 2000 without thousands separators"
    assert str(error.value) == f"{rule}, not {shown(Typed(typed))}."


def test_a_fraction_with_two_readings_is_refused_and_told_how_to_write_it() -> None:
    with pytest.raises(SettingError) as error:
        _read(BOX, "1,125")
    assert error.value.told(Text("Learning rate", "学习率")) == Text(
        "Learning rate must be a number from 0.0001 to 10 with a decimal point and no thousands separators,"
        " not '1,125'.",
        "学习率必须是 0.0001 到 10 之间的数（小数点用“.”，不用千位分隔符），不能是 '1,125'。",
    )


def test_the_largest_whole_numbers_are_exact() -> None:
    assert _read("seed", "2147483647.0") == 2**31 - 1
    for wrong in ("2147483647.00000000000000001", "2147483648", "0.99999999999999999999"):
        with pytest.raises(SettingError):
            _read("seed", wrong)


@pytest.mark.parametrize("lesson", LESSONS.values(), ids=LESSONS)
def test_every_setting_reads_what_it_shows(lesson: Lesson) -> None:
    for name, control in lesson.config.controls().items():
        if isinstance(control, Number):
            for value in (control.default, control.minimum, control.maximum):
                assert lesson.config.read({name: str(value)}).by_name()[name] == value


MATRICES = {
    "full-width": ("［［１，２］，［３．５，－４］］", ((1, 2), (3.5, -4))),
    "Chinese brackets": ("【【1，2】，【3，4】】", ((1, 2), (3, 4))),
    "signs and exponents": ("[[+1, −2], [.5, 1e3]]", ((1, -2), (0.5, 1000.0))),
    "JSON": ("[[1, 2.0], [-3e0, 4]]", ((1, 2), (-3, 4))),
}


@pytest.mark.parametrize(("typed", "meant"), MATRICES.values(), ids=MATRICES)
def test_a_matrix_is_understood_as_it_is_typed(typed: str, meant: object) -> None:
    made = LESSONS["operations"].config.read({"a": typed}).to_dict()["a"]
    assert tuple(map(tuple, made)) == meant


@pytest.mark.parametrize(
    "typed",
    [
        "[[1 200, 2], [3, 4]]",
        "[[1, ½], [3, 4]]",
        "[[1, 1e999], [3, 4]]",
        "[[1, NaN], [3, 4]]",
        "[[1; 2]]",
        "[[1, 2,], [3, 4]]",
    ],
)
def test_a_matrix_that_is_not_clear_is_refused_with_what_was_typed(typed: str) -> None:
    with pytest.raises(SettingError) as error:
        LESSONS["operations"].config.read({"a": typed})
    assert error.value.value == typed


def test_both_languages_say_the_rule() -> None:
    with pytest.raises(SettingError) as error:
        _read(SLIDER, "1e999")
    told = error.value.told("steps")
    assert [getattr(told, language) for language in LANGUAGES] == [
        "steps must be a whole number from 1 to 2000, not 1e999.",
        "steps必须是 1 到 2000 之间的整数，不能是 1e999。",
    ]
