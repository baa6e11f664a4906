"""A figure is reached only by numbers that were measured."""

import math

import measure
import pytest

NO_NUMBERS = [
    pytest.param([], id="none"),
    pytest.param([math.nan] * 15, id="all NaN"),
    pytest.param([1.0] * 14 + [math.nan], id="one NaN"),
    pytest.param([1.0] * 14 + [math.inf], id="one infinite"),
]


@pytest.mark.parametrize("at_least", [True, False])
@pytest.mark.parametrize("values", NO_NUMBERS)
def test_what_is_no_number_reaches_no_figure(
    values: list[float], at_least: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    figure = 0.5 if at_least else 2.0
    ones = [1.0] * len(values)
    assert not measure.verdict("over", figure, values, ones, at_least)
    assert not measure.verdict("under", figure, ones, values, at_least)
    assert not measure.bound("bound", values, 2.0, "s")
    assert capsys.readouterr().out.count("NOT REACHED") == 3


def test_a_ratio_to_nothing_reaches_no_figure() -> None:
    assert not measure.verdict("to zero", 0.5, [1.0] * 3, [0.0] * 3)


def test_numbers_reach_a_figure() -> None:
    values, ones = [1.0, 1.1, 0.9] * 5, [1.0] * 15
    assert measure.verdict("at least", 0.9, values, ones)
    assert not measure.verdict("at least", 1.2, values, ones)
    assert measure.verdict("at most", 1.1, values, ones, at_least=False)
    assert not measure.verdict("at most", 0.8, values, ones, at_least=False)
    assert measure.bound("bound", values, 1.0, "s")
    assert not measure.bound("bound", values, 0.8, "s")
