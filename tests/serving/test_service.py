"""Service: any mix of requests is answered as each adapter alone, by exactly the version that was asked for,
or not at all.
"""

import asyncio
import itertools
import threading
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from softcue.answering.predict import Predictor
from softcue.errors import (
    BusyError,
    ClosingError,
    DeadlineError,
    RequestError,
    UnknownAdapterError,
)
from softcue.serving import engine as engine_module
from tests.answering.test_predict import same, zoo
from tests.serving.serving_cases import MemorySource, named_adapter, serving
from tests.tiny_base import tiny_base

TEXT = "the apple and a quiet owl"


def plain(name: str) -> str:
    """A name that a source takes."""
    return "".join(mark if mark.isalnum() else "-" for mark in name)


def test_a_mix_of_all_methods_and_kinds_is_answered_as_by_each_adapter_alone() -> None:
    adapters, requests = zoo("bert")
    predictor = Predictor(tiny_base(), adapters)
    asked = [{**request, "adapter": plain(request["adapter"])} for request in requests]

    async def main() -> list[Any]:
        async with serving(MemorySource({plain(name): own for name, own in adapters.items()})) as service:
            return list(await service.answer(asked))

    for answer, request, expected in zip(
        asyncio.run(main()), asked, [predictor([one])[0] for one in requests], strict=True
    ):
        assert answer.entry.name == request["adapter"]
        same(answer.value, expected)


def test_with_few_seats_for_many_adapters_each_answers_for_itself_and_memory_is_bounded() -> None:
    base = tiny_base()
    methods = ("pasta", "spt", "lora")
    adapters = {f"a{i}": named_adapter(base, f"a{i}", methods[i % 3], seed=i) for i in range(120)}
    seat = sum(tensor.nbytes for own in (adapters["a1"].cue, adapters["a1"].head) for tensor in own.values())

    async def main() -> None:
        async with serving(MemorySource(adapters), memory=seat) as service:
            for start in range(0, 240, 60):
                names = [f"a{(7 * i) % 120}" for i in range(start, start + 60)]
                answers = await service.answer([{"adapter": name, "text": TEXT} for name in names])
                assert [answer.value["label"] for answer in answers] == names
            facts = service.facts()
            assert facts["evictions_total"] > 100
            assert facts["hot_adapters"] <= 3 * 8
            assert facts["seat_bytes"] <= 3 * 8 * 3 * seat

    asyncio.run(main())


def test_pinned_adapters_keep_their_seats() -> None:
    base = tiny_base()
    source = MemorySource({f"a{i}": named_adapter(base, f"a{i}", seed=i) for i in range(40)})

    async def main() -> None:
        async with serving(source, memory=1, pinned=("a0",)) as service:
            for i in range(40):
                await service.answer([{"adapter": f"a{i}", "text": TEXT}])
            loads = source.loads
            await service.answer([{"adapter": "a0", "text": TEXT}])
            assert source.loads == loads

    asyncio.run(main())


def test_versions_and_aliases_answer_as_themselves_and_what_is_gone_is_an_error() -> None:
    base = tiny_base()
    source = MemorySource({"spam": named_adapter(base, "old")})

    async def label(service: Any, name: str) -> str:
        return str((await service.answer([{"adapter": name, "text": TEXT}]))[0].value["label"])

    async def main() -> None:
        async with serving(source) as service:
            assert await label(service, "spam") == "old"
            source.add("spam", named_adapter(base, "new", seed=1))
            source.alias("spam", "prod", 1)
            assert [await label(service, name) for name in ("spam", "spam@1", "spam@2", "spam@prod")] == [
                "new",
                "old",
                "new",
                "old",
            ]
            source.remove("spam@1")
            for name in ("spam@1", "spam@prod", "spam@3", "ham", "spam@test"):
                with pytest.raises(UnknownAdapterError):
                    await label(service, name)
            with pytest.raises(RequestError):
                await label(service, "../spam")
            assert await label(service, "spam") == "new"

    asyncio.run(main())


def test_many_requests_for_a_cold_adapter_wait_for_one_load_and_hot_ones_do_not_wait() -> None:
    base = tiny_base()
    source = MemorySource({name: named_adapter(base, name) for name in ("hot", "cold")})

    async def main() -> None:
        async with serving(source) as service:
            await service.answer([{"adapter": "hot", "text": TEXT}])
            source.seconds = 0.5
            cold = [
                asyncio.create_task(service.answer([{"adapter": "cold", "text": TEXT}])) for _ in range(5)
            ]
            await asyncio.sleep(0.05)
            await asyncio.wait_for(service.answer([{"adapter": "hot", "text": TEXT}]), 0.4)
            assert not any(task.done() for task in cold)
            await asyncio.gather(*cold)
            assert source.loads == 2

    asyncio.run(main())


def test_one_text_for_many_adapters_is_read_once_and_answered_by_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base = tiny_base()
    source = MemorySource({f"a{i}": named_adapter(base, f"a{i}", seed=i) for i in range(8)})

    async def main() -> None:
        async with serving(source) as service:
            read, reads = service._read, itertools.count()

            def counted(*given: Any) -> Any:
                next(reads)
                return read(*given)

            monkeypatch.setattr(service, "_read", counted)
            names = [f"a{i}" for i in range(8)]
            answers = await service.fan_out(names, {"text": TEXT})
            assert [answer.value["label"] for answer in answers] == names
            assert next(reads) == 1

    asyncio.run(main())


def test_a_row_that_is_wrong_is_named_and_its_neighbours_free_their_seats() -> None:
    base = tiny_base()
    source = MemorySource({"a": named_adapter(base, "a")})

    async def main() -> None:
        async with serving(source) as service:
            with pytest.raises(RequestError, match="adapter 'a@1': text is ''"):
                await service.answer([{"adapter": "a", "text": TEXT}, {"adapter": "a", "text": ""}])
            await asyncio.sleep(0.05)
            assert [held.leases for held in service.hot.held.values()] == [0]

    asyncio.run(main())


@dataclass
class Held:
    """The engine's forward passes, which wait until they are let go."""

    go: threading.Event
    sizes: list[int]


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    own, run = Held(threading.Event(), []), engine_module.run

    def waiting(model: Any, items: Any, seats: Any, budget: int) -> Any:
        own.sizes.append(len(items))
        own.go.wait(20)
        return run(model, items, seats, budget)

    monkeypatch.setattr(engine_module, "run", waiting)
    return own


async def under_way(held: Held) -> None:
    """Wait until the engine's thread is in a forward pass."""
    while not held.sizes:
        await asyncio.sleep(0.01)


def test_beyond_the_queue_is_busy_at_once_and_a_cancelled_request_frees_its_place(held: Held) -> None:
    source = MemorySource({"a": named_adapter(tiny_base(), "a")})
    one = [{"adapter": "a", "text": TEXT}]

    async def main() -> None:
        async with serving(source, room=3) as service:
            first = asyncio.create_task(service.answer(one))
            await under_way(held)
            waiting = [asyncio.create_task(service.answer(one)) for _ in range(3)]
            await asyncio.sleep(0.05)
            with pytest.raises(BusyError) as told:
                await service.answer(one)
            assert told.value.retry_after >= 1
            waiting[0].cancel()
            await asyncio.sleep(0)
            again = asyncio.create_task(service.answer(one))
            await asyncio.sleep(0.05)
            held.go.set()
            assert len(await asyncio.gather(first, *waiting[1:], again)) == 4
        assert held.sizes == [1, 3]

    asyncio.run(main())


def test_a_request_past_its_deadline_is_an_error_and_is_not_computed(held: Held) -> None:
    source = MemorySource({"a": named_adapter(tiny_base(), "a")})
    one = [{"adapter": "a", "text": TEXT}]

    async def main() -> None:
        async with serving(source, deadline=2.0) as service:
            tasks = [asyncio.create_task(service.answer(one))]
            await under_way(held)
            tasks.append(asyncio.create_task(service.answer(one)))
            for task in tasks:
                with pytest.raises(DeadlineError):
                    await task
            held.go.set()
        assert held.sizes == [1]

    asyncio.run(main())


def test_closing_answers_what_was_accepted_and_refuses_the_rest() -> None:
    base = tiny_base()
    source = MemorySource({"a": named_adapter(base, "a")})
    one = [{"adapter": "a", "text": TEXT}]

    async def main() -> None:
        async with serving(source, delay=0.2) as service:
            accepted = [asyncio.create_task(service.answer(one)) for _ in range(5)]
            await asyncio.sleep(0.02)
            closing = asyncio.create_task(service.close())
            await asyncio.sleep(0)
            with pytest.raises(ClosingError):
                await service.answer(one)
            assert len(await asyncio.gather(*accepted)) == 5
            await closing

    asyncio.run(main())


def test_an_item_that_fails_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    base = tiny_base()
    good = {f"a{i}": named_adapter(base, f"a{i}") for i in range(3)}
    run = engine_module.run

    def poisoned(model: Any, items: Any, seats: Any, budget: int) -> Any:
        if any(item.rows > 20 for item in items):
            raise RuntimeError("poison")
        return run(model, items, seats, budget)

    monkeypatch.setattr(engine_module, "run", poisoned)

    async def main() -> None:
        async with serving(MemorySource(good), delay=0.1) as service:
            tasks = [asyncio.create_task(service.answer([{"adapter": name, "text": TEXT}])) for name in good]
            bad = asyncio.create_task(service.answer([{"adapter": "a0", "text": TEXT * 10}]))
            assert [(await task)[0].value["label"] for task in tasks] == list(good)
            with pytest.raises(RuntimeError, match="poison"):
                await bad
            assert (await service.answer([{"adapter": "a1", "text": TEXT}]))[0].value["label"] == "a1"

    asyncio.run(main())


def test_long_texts_and_short_ones_share_each_batch() -> None:
    lanes = engine_module._Lanes()
    for rows in [500] * 20 + [20] * 20:
        lanes.add(engine_module.Work(_sized(rows), 0, 0.0, None))  # type: ignore[arg-type]
    batch = [work.item.rows for work in lanes.take(2_000)]
    assert batch.count(500) == 3  # half of the budget, and what the short ones leave
    assert batch.count(20) == 20
    assert sum(batch) <= 2_000


def test_an_item_longer_than_the_budget_goes_alone() -> None:
    lanes = engine_module._Lanes()
    for rows in (5_000, 10, 10):
        lanes.add(engine_module.Work(_sized(rows), 0, 0.0, None))  # type: ignore[arg-type]
    taken = [[work.item.rows for work in lanes.take(1_000)] for _ in range(2)]
    assert sorted(map(sorted, taken)) == [[10, 10], [5_000]]


def _sized(rows: int) -> Any:
    class Sized:
        pass

    item: Any = Sized()
    item.rows = rows
    return item


@pytest.mark.parametrize("count", [5_000, pytest.param(1_000_000, marks=pytest.mark.soak)])
def test_no_row_of_a_large_mixed_load_is_answered_by_another_adapter(count: int) -> None:
    base = tiny_base()
    template = {method: named_adapter(base, "x", method) for method in ("pasta", "stp", "spt", "lora", "apt")}
    adapters = {}
    for i in range(1_000):
        own = template[list(template)[i % 5]]
        adapters[f"a{i}"] = replace(own, labels=(f"a{i}", *own.labels[1:]))
    chance = torch.Generator().manual_seed(0)
    # each adapter's answer is a place of its own in the head's bias: its label alone could not be confused
    for i, (name, own) in enumerate(adapters.items()):
        bias = torch.tensor([50.0 + i / 100, 0.0, 0.0])
        adapters[name] = replace(own, head={**own.head, "bias": bias})

    async def main() -> int:
        wrong = 0
        async with serving(MemorySource(adapters), room=10_000, memory=2**22) as service:
            for _ in range(count // 500):
                drawn = torch.randint(1_000, (500,), generator=chance).tolist()
                answers = await service.answer([{"adapter": f"a{i}", "text": "owl"} for i in drawn])
                wrong += sum(a.value["label"] != f"a{i}" for a, i in zip(answers, drawn, strict=True))
        return wrong

    assert asyncio.run(main()) == 0
