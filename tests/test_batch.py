"""Batch: pack() against a layout written row by row, and parts against packing their examples alone."""

from itertools import accumulate

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from softcue.batch import Batch, Example, pack, runs_of
from softcue.errors import BatchError

some_example = st.integers(2, 9).flatmap(
    lambda length: st.builds(
        Example,
        token=st.lists(st.integers(1, 50), min_size=length, max_size=length),
        segment=st.lists(st.integers(0, 1), min_size=length, max_size=length),
        special=st.sets(st.integers(1, length - 1), max_size=3).map(lambda places: [0, *sorted(places)]),
        word=st.sets(st.integers(0, length - 1), max_size=4).map(sorted),
    )
)
requests = st.lists(
    st.tuples(some_example, st.integers(0, 3), st.integers(0, 4), st.integers(0, 5)), min_size=1, max_size=6
)


@given(requests)
@settings(max_examples=60, deadline=None)
def test_every_row_is_where_a_slow_layout_puts_it(request_: list[tuple[Example, int, int, int]]) -> None:
    examples, seats, reserve, shift = (list(column) for column in zip(*request_, strict=True))
    batch = pack(examples, seats, reserve, shift)
    start = 0
    assert sorted(batch.order) == list(range(len(examples)))
    assert list(batch.seats) == sorted(seats)
    word_at = 0
    for b, i in enumerate(batch.order):
        example, r, s = examples[i], reserve[i], shift[i]
        rows = slice(start, start + r + len(example.token))
        assert batch.token[rows].tolist() == [0] * r + list(example.token)
        assert batch.segment[rows].tolist() == [0] * r + list(example.segment)
        assert batch.position[rows].tolist() == [*range(r), *range(s, s + len(example.token))]
        assert batch.index[rows].tolist() == list(range(r + len(example.token)))
        assert set(batch.owner[rows].tolist()) == {b}
        assert batch.is_text[rows].tolist() == [False] * r + [True] * len(example.token)
        assert [row for row in batch.special[b].tolist() if row >= 0] == [
            start + r + place for place in example.special
        ]
        assert [row for row in batch.reserved[b].tolist() if row >= 0] == list(range(start, start + r))
        assert batch.word[word_at : word_at + len(example.word)].tolist() == [
            start + r + place for place in example.word
        ]
        assert (batch.seat[b], batch.group[b], batch.words[b]) == (seats[i], i, len(example.word))
        word_at += len(example.word)
        start = rows.stop
    assert (start, word_at) == (len(batch.token), len(batch.word))
    assert batch.reach == int(batch.position.max()) + 1
    assert batch.longest == max(batch.lengths)


@given(requests, st.data())
@settings(max_examples=60, deadline=None)
def test_a_part_reads_what_packing_its_examples_alone_would_read(
    request_: list[tuple[Example, int, int, int]], data: st.DataObject
) -> None:
    examples, seats, reserve, shift = (list(column) for column in zip(*request_, strict=True))
    whole = pack(examples, seats, reserve, shift)
    chosen = sorted(data.draw(st.sets(st.integers(0, len(examples) - 1), min_size=1)))
    part = whole.part(chosen, [seat + 7 for seat in (whole.seats[b] for b in chosen)])
    origin = [int(whole.order[b]) for b in chosen]
    alone = pack(
        *([column[i] for i in origin] for column in (examples, [seat + 7 for seat in seats], reserve, shift))
    )
    assert_same(part, alone, whole)
    again = part.part(range(len(chosen)), part.seats)  # a part of a part
    assert_same(again, alone, whole)
    assert part.order == tuple(origin)


def assert_same(part: Batch, alone: Batch, whole: Batch) -> None:
    assert part.rows is not None
    assert torch.equal(part.take(whole.token), alone.token)
    assert torch.equal(part.take(whole.position), alone.position)
    assert torch.equal(part.is_text, alone.is_text)
    assert torch.equal(part.owner, alone.owner)
    assert torch.equal(whole.token[part.word], alone.token[alone.word])
    for ours, theirs in ((part.special, alone.special), (part.reserved, alone.reserved)):
        mine = [[int(whole.token[row]) for row in rows if row >= 0] for rows in ours.tolist()]
        assert mine == [[int(alone.token[row]) for row in rows if row >= 0] for rows in theirs.tolist()]
    assert (part.lengths, part.words, part.seats) == (alone.lengths, alone.words, alone.seats)
    assert (part.runs, part.row_runs, part.word_runs) == (alone.runs, alone.row_runs, alone.word_runs)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), max_size=12))
def test_runs_cover_every_thing_once_under_its_own_seat(things: list[tuple[int, int]]) -> None:
    seats, counts = [seat for seat, _ in things], [count for _, count in things]
    runs = runs_of(seats, counts)
    flat = [seat for seat, a, b in runs for _ in range(a, b)]
    assert flat == [seat for seat, count in things for _ in range(count)]
    assert all(a < b for _, a, b in runs)
    assert [a for _, a, _ in runs] == [0, *accumulate(b - a for _, a, b in runs)][:-1] if runs else True


def test_examples_of_one_seat_keep_their_order() -> None:
    examples = [Example([2, 10 + i, 3], [0] * 3, [0, 2]) for i in range(6)]
    assert pack(examples, [1, 0, 1, 0, 1, 0]).order == (1, 3, 5, 0, 2, 4)


def test_the_choices_of_a_question_keep_its_number() -> None:
    examples = [Example([2, 3], [0, 0], [0, 1])] * 5
    batch = pack(examples, [1, 1, 0, 0, 0], group=[0, 0, 1, 1, 1])
    assert batch.group.tolist() == [1, 1, 1, 0, 0]


def test_an_empty_request_is_a_batch_error() -> None:
    with pytest.raises(BatchError, match="no examples"):
        pack([])


def test_an_example_without_tokens_is_named() -> None:
    with pytest.raises(BatchError, match="example 1 has no tokens"):
        pack([Example([2, 3], [0, 0], [0]), Example([], [], [])])


def test_a_batch_on_another_device_keeps_what_stays_on_the_host() -> None:
    moved = pack([Example([2, 7, 3], [0] * 3, [0, 2], [1])], reserve=2, shift=2, device="meta")
    assert moved.token.device.type == moved.special.device.type == "meta"
    assert (moved.lengths, moved.reach, moved.runs) == ((5,), 5, ((0, 0, 1),))
