"""Sessions: what is shown is what the code gave."""

import pytest

from charts.blocks import PythonSession
from lab.transcript import Prompt


def test_each_statement_is_shown_with_what_it_gave() -> None:
    prompt = Prompt(start=3)
    made = prompt.session(
        """
        # counts
        n = start  # from outside
        n + 1
        for each in range(2):
            print(each, n)

        None
        """,
        "Counting",
    )
    assert made == PythonSession(
        (
            ("# counts\nn = start  # from outside", ""),
            ("n + 1", "4"),
            ("for each in range(2):\n    print(each, n)", "0 3\n1 3"),
            ("None", ""),
        ),
        "Counting",
    )
    assert prompt.names["n"] == 3
    assert prompt.session("n * 2").lines == (("n * 2", "6"),)


def test_an_error_that_is_expected_is_shown_and_the_session_goes_on() -> None:
    made = Prompt().session("x = 1\nx / 0  # no\nx", errors=(ZeroDivisionError,))
    assert made.lines == (("x = 1", ""), ("x / 0  # no", "ZeroDivisionError: division by zero"), ("x", "1"))


def test_an_error_that_is_not_expected_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        Prompt().session("1 / 0", errors=(KeyError,))
    with pytest.raises(SyntaxError):
        Prompt().session("x =")
