"""Splits: rows that train, select and report are never the same."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softcue.errors import RequestError
from softcue.readers.records import Data, Record
from softcue.readers.splits import cut, select

SPLITS = [("train", "dev", "test"), ("train", "dev"), ("train", "test"), ("train",)]


def records(split: str, count: int, per_group: int = 0) -> list[Record]:
    return [
        Record(
            text=f"{split} {i}",
            label="a",
            group=str(i // per_group) if per_group else None,
            where=f"{split}:{i}",
        )
        for i in range(count)
    ]


def data(**counts: int) -> Data:
    splits = {split: records(split, count) for split, count in counts.items()}
    return Data("classify", splits, ("a",), False, "set", ("accuracy",))


def where(rows: list[Record]) -> set[str]:
    return {row.where for row in rows}


@pytest.mark.parametrize("names", SPLITS, ids="+".join)
@pytest.mark.parametrize("from_train", [False, True])
@given(count=st.integers(3, 60), seed=st.integers(0, 5))
@settings(max_examples=15, deadline=None)
def test_no_row_serves_two_ends(names: tuple[str, ...], from_train: bool, count: int, seed: int) -> None:
    given_ = data(**{name: count if name == "train" else 7 for name in names})
    chosen = select(given_, seed, from_train)
    parts = [where(chosen.train), where(chosen.select), where(chosen.report)]
    assert all(parts)
    assert sum(map(len, parts)) == len(set.union(*parts))
    assert set.union(*parts) <= {row.where for rows in given_.splits.values() for row in rows}
    assert {row.split(":")[0] for row in parts[0]} == {"train"}


def test_dev_selects_and_test_is_reported_where_there_are_both() -> None:
    given_ = data(train=9, dev=4, test=5)
    chosen = select(given_, 0)
    assert (chosen.train, chosen.select, chosen.report) == tuple(given_.splits.values())
    assert chosen.measured == "selected on dev, reported on test"


@pytest.mark.parametrize(("names", "reported"), [(("train", "dev"), "dev"), (("train", "test"), "test")])
def test_without_one_of_them_a_tenth_of_train_selects_and_the_other_is_reported(
    names: tuple[str, ...], reported: str
) -> None:
    chosen = select(data(**dict.fromkeys(names, 40)), 3)
    assert where(chosen.report) == {f"{reported}:{i}" for i in range(40)}
    assert (len(chosen.train), len(chosen.select)) == (36, 4)
    assert "tenth of train (seed 3)" in chosen.measured
    assert reported in chosen.measured


def test_from_train_leaves_dev_alone() -> None:
    chosen = select(data(train=40, dev=6, test=6), 0, from_train=True)
    assert {row.where.split(":")[0] for row in chosen.select} == {"train"}
    assert {row.where.split(":")[0] for row in chosen.report} == {"test"}


def test_the_seed_decides_and_nothing_else() -> None:
    given_ = data(train=50)
    once, twice, other = select(given_, 1), select(given_, 1), select(given_, 2)
    assert once == twice
    assert where(once.select) != where(other.select)


@given(groups=st.integers(2, 20), per_group=st.integers(1, 4), seed=st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_rows_of_one_question_stay_together(groups: int, per_group: int, seed: int) -> None:
    kept, aside = cut(records("train", groups * per_group, per_group), seed, "set")
    assert kept and aside
    assert not {row.group for row in kept} & {row.group for row in aside}
    assert len(kept) + len(aside) == groups * per_group


def test_a_question_named_like_a_row_number_is_no_row() -> None:
    rows = [Record(text=str(i), group="1" if i in (0, 5) else None, where=str(i)) for i in range(6)]
    for seed in range(20):
        kept, aside = cut(rows, seed, "set")
        assert len(aside) == (2 if {"0", "5"} & where(aside) else 1)
        assert len(kept) + len(aside) == 6


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_rows_to_set_some_aside_are_refused(count: int) -> None:
    with pytest.raises(RequestError, match="at least 2 questions are needed"):
        select(data(train=count), 0)


def test_rows_of_a_single_question_cannot_be_cut() -> None:
    with pytest.raises(RequestError, match="9 rows of 1 questions"):
        cut(records("train", 9, 9), 0, "set")


def test_a_data_set_without_train_rows_is_refused() -> None:
    with pytest.raises(RequestError, match="no train split; it has dev"):
        select(data(dev=5), 0)
    for name in ("train", "dev", "test"):
        with pytest.raises(RequestError, match=f"no rows in {name}"):
            select(data(**{"train": 5, "dev": 5, "test": 5, name: 0}), 0)
