"""Hot adapters: leases keep seats, the bound holds, and a forward in flight is right while seats change."""

import threading
import time
from collections.abc import Iterator

import pytest

from softcue.answering.evaluation import run
from softcue.answering.served import question_of
from softcue.errors import AdapterError
from softcue.serving.hot import HotAdapters
from tests.answering.test_predict import random_adapter
from tests.serving.memory_source import MemorySource
from tests.tiny_base import tiny_base

TEXT = {"text": "the apple and a very quiet owl"}


@pytest.fixture
def hots() -> Iterator[list[HotAdapters]]:
    made: list[HotAdapters] = []
    yield made
    for hot in made:
        hot.close()


def source(count: int = 40, method: str = "pasta") -> MemorySource:
    return MemorySource(
        **{f"a{number}": random_adapter(tiny_base(), method, seed=number) for number in range(count)}
    )


def test_who_is_leased_or_pinned_stays(hots: list[HotAdapters]) -> None:
    held = source()
    hots.append(hot := HotAdapters(tiny_base(), held, 20_000, pinned=["a0"]))
    one = hot.lease(held.find("a1")).result(20)
    for _ in range(3):
        for number in range(2, 40):
            hot.release(hot.lease(held.find(f"a{number}")).result(20))
    assert hot.evictions
    assert hot.bytes <= 20_000
    assert hot.lease(held.find("a0")).done()
    again = hot.lease(held.find("a1"))
    assert again.done() and again.result().seat == one.seat


def test_a_full_house_of_leases_makes_the_next_wait(hots: list[HotAdapters]) -> None:
    held = source(200)
    hots.append(hot := HotAdapters(tiny_base(), held, 20_000))
    leased = []
    for number in range(200):
        future = hot.lease(held.find(f"a{number}"))
        try:
            leased.append(future.result(1.0))
        except TimeoutError:
            break
    assert len(leased) < 200 and not future.done()
    hot.release(leased[0])
    assert future.result(20).seat == leased[0].seat


def test_an_adapter_of_another_shape_gets_room(hots: list[HotAdapters]) -> None:
    held = source()
    held.add("wide", random_adapter(tiny_base(), "lora", seed=1, kind="tag"))
    hots.append(hot := HotAdapters(tiny_base(), held, 60_000))
    for number in range(40):
        hot.release(hot.lease(held.find(f"a{number}")).result(20))
    hot.release(hot.lease(held.find("wide")).result(20))
    assert hot.bytes <= 60_000


def test_an_adapter_that_fits_nowhere_is_an_error(hots: list[HotAdapters]) -> None:
    held = source(1)
    hots.append(hot := HotAdapters(tiny_base(), held, 100))
    with pytest.raises(AdapterError, match="more memory"):
        hot.lease(held.find("a0")).result(20)


@pytest.mark.parametrize(("method", "memory"), [("pasta", 20_000), ("stp", 20_000), ("lora", 300_000)])
def test_a_forward_is_right_while_others_come_and_go(
    method: str, memory: int, hots: list[HotAdapters]
) -> None:
    held = source(60, method)
    hots.append(hot := HotAdapters(tiny_base(), held, memory))
    one = hot.lease(held.find("a0")).result(20)
    question = question_of(TEXT, one.adapter, tiny_base().text)
    expected = run(hot.model, [question.item], [one.seat])[0]
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            for number in range(1, 60):
                hot.release(hot.lease(held.find(f"a{number}")).result(20))

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        until = time.monotonic() + 60
        while hot.evictions < 50:
            assert time.monotonic() < until
            (answer,) = run(hot.model, [question.item], [one.seat])
            assert answer.tolist() == pytest.approx(expected.tolist(), abs=1e-5)
    finally:
        stop.set()
        thread.join(20)
