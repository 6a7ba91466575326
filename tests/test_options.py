"""What every method's config refuses, and how it says so."""

from dataclasses import dataclass
from typing import Any, Literal

import pytest

from softcue.errors import RequestError
from softcue.options import Options, per_seat_setting, setting


@dataclass(frozen=True)
class Sample(Options):
    count: int = setting(3, least=1)
    rate: float = per_seat_setting(0.1, least=0, below=1)
    word: Literal["one", "two"] = "one"
    flag: bool = False
    table: tuple[tuple[int, ...], ...] = ()
    budget: int | None = None

    def problems(self) -> list[str]:
        return ["flag needs a budget"] if self.flag and self.budget is None else []


def test_lists_become_tuples_so_that_a_config_survives_json_and_can_be_compared() -> None:
    table: Any = [[0, 1], [2]]
    assert Sample(table=table) == Sample(table=((0, 1), (2,)))
    assert hash(Sample(table=table)) == hash(Sample(table=((0, 1), (2,))))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"count": 0}, "count is 0; expected at least 1"),
        ({"count": True}, "count is True; expected a whole number"),
        ({"count": 1.5}, "count is 1.5; expected a whole number"),
        ({"rate": 1}, "rate is 1; expected less than 1"),
        ({"rate": float("inf")}, "rate is inf; expected a number"),
        ({"rate": "high"}, "rate is 'high'; expected a number"),
        ({"word": "three"}, "word is 'three'; expected 'one' or 'two'"),
        ({"word": ["one"]}, "word is ('one',); expected 'one' or 'two'"),
        ({"flag": 1}, "flag is 1; expected true or false"),
        ({"table": [0]}, "table is (0,); expected a list of a list of a whole number"),
        ({"budget": "x"}, "budget is 'x'; expected a whole number or nothing"),
        ({"flag": True}, "flag needs a budget"),
        ({"count": 0, "rate": -1}, "count is 0; expected at least 1; rate is -1; expected at least 0"),
    ],
)
def test_wrong_types_and_ranges_are_one_message_that_names_them_all(
    options: dict[str, Any], says: str
) -> None:
    with pytest.raises(RequestError) as caught:
        Sample(**options)
    assert str(caught.value) == f"Sample: {says}"
