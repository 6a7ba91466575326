"""The engine's queue: fair to short and long, and one bad question fails nobody else."""

import threading
import time
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import pytest
import torch

from softcue.batch import Example
from softcue.errors import BusyError, ClosingError, DeadlineError
from softcue.readers.items import Item
from softcue.serving import engine as engine_module
from softcue.serving.engine import Engine
from softcue.text.tokens import Encoded


class Runs:
    """In place of the forward: notes batches, waits at a gate, and refuses seat 13."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate, self.began = threading.Event(), threading.Event()
        self.rows_a_second = 0  # how quick it is, 0 for no pause
        self.start = 0.0  # seconds that any batch takes

    def __call__(self, model: Any, items: list[Item], seats: list[int], budget: int) -> list[torch.Tensor]:
        self.batches.append(list(seats))
        self.began.set()
        assert self.gate.wait(20)
        if self.rows_a_second:
            time.sleep(self.start + sum(item.rows for item in items) / self.rows_a_second)
        if 13 in seats:
            raise ValueError("seat 13")
        return [torch.tensor(float(seat)) for seat in seats]


@pytest.fixture
def runs() -> Iterator[Runs]:
    with patch.object(engine_module, "run", made := Runs()):
        yield made


def item(rows: int) -> Item:
    example = Example([1] * rows, [0] * rows, [0])
    return Item((Encoded(example, (), 0, 0),), (0,))


def far() -> float:
    return time.monotonic() + 30


def busy(runs: Runs, **settings: Any) -> Engine:
    """An engine whose thread is in a forward, so that what comes now waits."""
    engine = Engine(None, **{"budget": 512, "delay": 0.0, **settings})  # type: ignore[arg-type]
    engine.enter(1)
    engine.submit([(item(4), 0)], far())[0].add_done_callback(lambda _: engine.leave(1))
    assert runs.began.wait(20)
    return engine


@pytest.fixture
def whole_budget() -> Iterator[None]:
    """Let batches be of the whole budget, however slow the forward is."""
    with patch.object(engine_module, "LEAST_ROWS", 512):
        yield


@pytest.mark.usefixtures("whole_budget")
def test_neither_lane_starves(runs: Runs) -> None:
    engine = busy(runs)
    long = engine.submit([(item(256), 1)] * 40, far())
    short = engine.submit([(item(4), 2)] * 400, far())
    huge = engine.submit([(item(2_000), 3)], far())
    runs.gate.set()
    for future in (*long, *short, *huge):
        future.result(20)
    assert 1 in runs.batches[1] and runs.batches[1].count(2) == 64
    assert len(runs.batches) < 45
    engine.close()


def test_a_bad_question_fails_alone(runs: Runs) -> None:
    engine = busy(runs)
    futures = engine.submit([(item(4), seat) for seat in (12, 13, 14)], far())
    runs.gate.set()
    assert [float(futures[i].result(20)) for i in (0, 2)] == [12, 14]
    with pytest.raises(ValueError, match="seat 13"):
        futures[1].result(20)
    assert float(engine.submit([(item(4), 5)], far())[0].result(20)) == 5
    engine.close()


def test_what_is_cancelled_or_late_is_not_computed(runs: Runs) -> None:
    engine = busy(runs)
    cancelled, late, other = (
        engine.submit([(item(4), seat)], until)[0]
        for seat, until in ((6, far()), (7, time.monotonic() - 1), (8, far()))
    )
    assert cancelled.cancel()
    runs.gate.set()
    assert float(other.result(20)) == 8
    with pytest.raises(DeadlineError):
        late.result(20)
    assert runs.batches == [[0], [8]]
    engine.close()


def test_a_full_room_refuses_at_once_and_closing_answers_what_was_let_in(runs: Runs) -> None:
    engine = busy(runs, room=3)
    engine.enter(2)
    began = time.monotonic()
    with pytest.raises(BusyError) as refused:
        engine.enter(1)
    assert time.monotonic() - began < 1
    assert refused.value.retry_after > 0
    closing = threading.Thread(target=engine.close)
    closing.start()
    while not engine._closing:
        time.sleep(0.001)
    with pytest.raises(ClosingError):
        engine.enter(1)
    futures = engine.submit([(item(4), 1), (item(4), 2)], far())
    runs.gate.set()
    assert [float(future.result(20)) for future in futures] == [1, 2]
    engine.leave(2)
    closing.join(20)
    assert not closing.is_alive()


def test_a_batch_takes_a_quarter_of_a_second(runs: Runs) -> None:
    runs.gate.set()
    runs.rows_a_second = 2_000
    engine = busy(runs, budget=4_096)
    futures = [engine.submit([(item(8), 1)], far())[0] for _ in range(300)]
    for future in futures:
        future.result(20)
    engine.close()
    sizes = [len(batch) for batch in runs.batches[3:-1]]
    assert sizes and max(sizes) <= 500 // 8 + 8, runs.batches
    assert sum(map(len, runs.batches)) == 301


def test_what_would_wait_too_long_is_refused_at_once(runs: Runs) -> None:
    runs.gate.set()
    runs.rows_a_second = 2_000
    engine = busy(runs, patience=0.5)
    answers, refused = [], 0
    began = time.monotonic()
    for number in range(3_000):  # 1,000 questions a second for an engine of 250, however seldom we are woken
        time.sleep(max(0.0, began + number / 1_000 - time.monotonic()))
        try:
            engine.enter(1)
        except BusyError:
            refused += 1
            continue
        answers.append(engine.submit([(item(8), 1)], time.monotonic() + 3.0)[0])
        answers[-1].add_done_callback(lambda _: engine.leave(1))
    for future in answers:
        # all 1,024 places would be 4 seconds of work; what half a second has room for is far from late,
        # even where the machine is too busy to wake the engine in time
        future.result(20)
    engine.close()
    assert refused > len(answers) > 300


def test_small_batches_do_not_say_how_many_questions_there_is_time_for(runs: Runs) -> None:
    runs.gate.set()
    runs.rows_a_second, runs.start = 20_000, 0.05
    engine = busy(runs, budget=4_096, patience=1.0)
    for _ in range(8):  # one by one, 20 a second
        engine.enter(1)
        engine.submit([(item(4), 1)], far())[0].result(20)
        engine.leave(1)
    futures = []
    for _ in range(400):  # all at once, which is 5 batches
        engine.enter(1)
        futures += engine.submit([(item(4), 1)], far())
    for future in futures:
        future.result(20)
        engine.leave(1)
    engine.close()
    assert engine.refused == 0
