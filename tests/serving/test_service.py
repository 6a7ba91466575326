"""The service: a mix of requests is answered as by each adapter alone, by the right adapter or not at all."""

import asyncio
import random
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest
import torch

from softcue.answering.predict import Predictor
from softcue.answering.served import with_unsure_below
from softcue.bank.entry import Entry
from softcue.errors import BusyError, ClosingError, DeadlineError, RequestError, UnknownAdapterError
from softcue.serving.hot import HotAdapters
from softcue.serving.service import Answer, Service
from tests.answering.test_predict import alone, random_adapter, same, zoo
from tests.serving.memory_source import MemorySource
from tests.tiny_base import tiny_base

TEXT = "the apple and a very quiet owl"


def named(name: str) -> str:
    """A name that a source may have."""
    return name.replace("/", ".")


@pytest.fixture
def source() -> MemorySource:
    return MemorySource(**{named(name): adapter for name, adapter in zoo("bert")[0].items()})


@pytest.fixture
def services() -> Iterator[list[Service]]:
    made: list[Service] = []
    yield made
    for service in made:
        asyncio.run(service.close())


def requests() -> list[dict[str, Any]]:
    return [{**request, "adapter": named(request["adapter"])} for request in zoo("bert")[1]]


def test_a_mixed_list_is_answered_as_each_adapter_alone(
    source: MemorySource, services: list[Service]
) -> None:
    services.append(service := Service(tiny_base(), source))
    for _ in range(2):  # cold, and hot
        answers: list[Answer] = asyncio.run(service.answer(requests()))
        for request, answer, theirs in zip(requests(), answers, alone("bert"), strict=True):
            assert answer.entry.name == request["adapter"]
            same(answer.value, theirs)
    facts = service.facts()
    assert facts["hits"] == facts["misses"] == facts["seats"] == len(answers)


def few(count: int, **changes: Any) -> MemorySource:
    """Adapters whose first label is their own name."""
    made = MemorySource()
    for number in range(count):
        adapter = random_adapter(tiny_base(), "pasta", seed=number % 7, classes=2, **changes)
        made.add(f"a{number}", replace(adapter, labels=(f"a{number}", f"not-a{number}")))
    return made


async def ask(service: Service, name: str) -> Answer:
    return (await service.answer([{"adapter": name, "text": TEXT}]))[0]


def test_100_times_more_adapters_than_seats_are_answered_within_the_memory(services: list[Service]) -> None:
    source = few(200)
    services.append(service := Service(tiny_base(), source, memory=20_000, room=10_000))

    async def mixed() -> list[tuple[str, Answer]]:
        chance = random.Random(0)
        names = [f"a{chance.randrange(200)}" for _ in range(600)]
        return [
            (name, await one) for name, one in [(n, asyncio.ensure_future(ask(service, n))) for n in names]
        ]

    for name, answer in asyncio.run(mixed()):
        assert answer.entry.name == name
        assert answer.value["label"] in (name, f"not-{name}")
    facts = service.facts()
    assert facts["bytes"] <= 20_000
    assert facts["evictions"] > 100
    assert facts["inside"] == 0


def test_more_adapters_in_use_than_seats_never_wait_for_each_other(services: list[Service]) -> None:
    """Those in seats answer and leave, though other rows of their request still wait for a seat."""
    services.append(service := Service(tiny_base(), few(40), memory=20_000, room=10_000, deadline=20))

    async def scene() -> None:
        lists = [[f"a{(9 * client + step) % 40}" for step in range(20)] for client in range(4)]
        for _ in range(2):
            asked = [[{"adapter": name, "text": TEXT} for name in names] for names in lists]
            answers = await asyncio.gather(*(service.answer(one) for one in asked))
            assert [[answer.entry.name for answer in own] for own in answers] == lists

    asyncio.run(scene())
    facts = service.facts()
    assert facts["seats"] < 20 and facts["late"] == 0
    assert all(hot.leases == 0 for hot in service.hot._hot.values())


def test_an_adapter_that_comes_while_its_request_begins_is_answered(
    services: list[Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    services.append(service := Service(tiny_base(), few(2)))

    class Coming(Future[Any]):
        """A lease that is there from the second time on that somebody asks."""

        asked = 0

        def done(self) -> bool:
            self.asked += 1
            return self.asked > 1 and super().done()

    def lease(entry: Entry) -> Future[Any]:
        given, hot = Coming(), HotAdapters.lease(service.hot, entry).result()
        given.set_result(hot)
        return given

    monkeypatch.setattr(service.hot, "lease", lease)
    answers = asyncio.run(service.answer([{"adapter": name, "text": TEXT} for name in ("a0", "a1")]))
    assert [answer.entry.name for answer in answers] == ["a0", "a1"]


def test_a_fan_out_shares_the_item_in_one_batch(services: list[Service]) -> None:
    services.append(service := Service(tiny_base(), few(8)))
    names = [f"a{number}" for number in range(8)]
    asyncio.run(service.fan_out(names, {"text": TEXT}))
    before = service.facts()["batches"]
    with patch.object(service.engine, "submit", wraps=service.engine.submit) as submit:
        answers = asyncio.run(service.fan_out(names, {"text": TEXT}))
    assert [answer.entry.name for answer in answers] == names
    assert len({id(item) for item, _ in submit.call_args.args[0]}) == 1
    assert service.facts()["batches"] == before + 1
    for name, answer in zip(names, answers, strict=True):
        same(answer.value, asyncio.run(ask(service, name)).value)


def test_each_adapter_of_a_fan_out_has_its_own_doubt(services: list[Service]) -> None:
    one, other = (random_adapter(tiny_base(), "pasta", classes=2, seed=seed) for seed in (1, 2))
    source = MemorySource(doubts=with_unsure_below(one, 1.0), knows=other)
    services.append(service := Service(tiny_base(), source))
    for names in (["doubts", "knows"], ["knows", "doubts"]):
        answers = asyncio.run(service.fan_out(names, {"text": TEXT}))
        found = {answer.entry.name: answer.value.get("unsure") for answer in answers}
        assert found == {"doubts": True, "knows": None}


def test_what_is_not_there_is_an_error_that_names_the_row(services: list[Service]) -> None:
    services.append(service := Service(tiny_base(), few(3)))
    with pytest.raises(UnknownAdapterError):
        asyncio.run(ask(service, "none"))
    with pytest.raises(UnknownAdapterError, match="request 1"):
        asyncio.run(service.answer([{"adapter": n, "text": TEXT} for n in ("a0", "a1@7")]))
    with pytest.raises(RequestError, match="request 1"):
        asyncio.run(service.answer([{"adapter": "a0", "text": TEXT}, {"adapter": "a1", "tokens": ["x"]}]))
    assert service.facts()["inside"] == 0
    asyncio.run(service.close())  # what is in a forward has its lease to the end of it
    assert not any(hot.leases for hot in service.hot._hot.values())


def test_a_replaced_or_removed_adapter_answers_no_more(services: list[Service]) -> None:
    source = few(2)
    services.append(service := Service(tiny_base(), source))
    first = asyncio.run(ask(service, "a0"))
    source.add("a0", random_adapter(tiny_base(), "lora", seed=5, classes=3))
    second = asyncio.run(ask(service, "a0"))
    assert (first.entry.version, second.entry.version) == (1, 2)
    assert len(second.value["scores"]) == 3
    same(asyncio.run(ask(service, "a0@1")).value, first.value)
    source.remove("a0")
    with pytest.raises(UnknownAdapterError):
        asyncio.run(ask(service, "a0"))


def test_what_is_replaced_while_it_is_read_is_answered_by_the_new_version(services: list[Service]) -> None:
    source = few(2)
    services.append(service := Service(tiny_base(), source))
    new = replace(random_adapter(tiny_base(), "pasta", classes=2), labels=("new", "not-new"))

    async def scene() -> list[Answer]:
        source.gate.clear()
        asked = asyncio.ensure_future(service.answer([{"adapter": "a0", "text": TEXT}] * 3))
        await asyncio.sleep(0.05)  # it was found, and its load waits
        source.add("a0", new)
        del source.versions["a0"][1]
        source.gate.set()
        return await asked

    assert {answer.entry.full_name for answer in asyncio.run(scene())} == {"a0@2"}


def test_one_name_is_one_version_in_all_rows_of_a_request(services: list[Service]) -> None:
    source = few(2)
    services.append(service := Service(tiny_base(), source))
    find = source.find

    def replacing(asked: str) -> Any:
        entry = find(asked)
        source.add("a0", source.versions["a0"][entry.version][1])
        return entry

    source.find = replacing  # type: ignore[method-assign]
    answers = asyncio.run(service.answer([{"adapter": "a0", "text": TEXT}] * 3))
    assert {answer.entry.full_name for answer in answers} == {"a0@1"}


def test_a_hot_adapter_does_not_wait_for_a_cold_one(services: list[Service]) -> None:
    source = few(3)
    services.append(service := Service(tiny_base(), source))

    async def scene() -> None:
        await ask(service, "a0")
        source.gate.clear()
        cold = [asyncio.ensure_future(ask(service, "a1")) for _ in range(5)]
        await asyncio.sleep(0)
        await asyncio.wait_for(ask(service, "a0"), 5)
        assert not any(task.done() for task in cold)
        source.gate.set()
        await asyncio.gather(*cold)

    asyncio.run(scene())
    assert source.loads["a1@1"] == 1


def test_a_huge_text_is_answered_share_by_share_beside_others(services: list[Service]) -> None:
    text = "the apple in paris " * 3_000
    tagger = random_adapter(tiny_base(), "spt", "tag", limit=32)
    source = few(1)
    source.add("ner", tagger)
    expected = Predictor(tiny_base(), {"ner": tagger})([{"adapter": "ner", "text": text}])[0]
    services.append(service := Service(tiny_base(), source, budget=256))

    async def scene() -> Answer:
        huge = asyncio.ensure_future(service.answer([{"adapter": "ner", "text": text}]))
        while service.facts()["rows"] < 1_000:
            await asyncio.sleep(0.001)
        await ask(service, "a0")
        assert not huge.done()
        assert service.facts()["queue"] <= 2, "a huge text does not fill the queue"
        return (await huge)[0]

    same(asyncio.run(scene()).value, expected)


def test_a_huge_text_that_is_cancelled_is_computed_no_further(services: list[Service]) -> None:
    source = MemorySource(ner=random_adapter(tiny_base(), "pasta", "tag", limit=32))
    services.append(service := Service(tiny_base(), source, budget=256))

    async def scene() -> None:
        asked = service.answer([{"adapter": "ner", "text": "the apple in paris " * 3_000}])
        huge = asyncio.ensure_future(asked)
        while service.facts()["rows"] < 1_000:
            await asyncio.sleep(0.001)
        huge.cancel()
        await asyncio.wait([huge])

    asyncio.run(scene())
    asyncio.run(service.close())
    assert service.facts()["rows"] < 6_000
    assert not any(hot.leases for hot in service.hot._hot.values())


def test_overflow_deadline_cancelling_and_closing(services: list[Service]) -> None:
    source = few(3)
    services.append(service := Service(tiny_base(), source, room=2, deadline=1.0))

    async def scene() -> None:
        source.gate.clear()
        one = asyncio.ensure_future(ask(service, "a1"))
        two = asyncio.ensure_future(ask(service, "a2"))
        await asyncio.sleep(0)
        with pytest.raises(BusyError) as busy:
            await ask(service, "a0")
        assert busy.value.retry_after > 0
        two.cancel()
        await asyncio.wait([two])
        assert service.facts()["inside"] == 1
        with pytest.raises(DeadlineError):
            await one
        source.gate.set()
        last = asyncio.ensure_future(ask(service, "a0"))
        await asyncio.sleep(0)
        await service.close()
        assert (await last).entry.name == "a0"
        with pytest.raises(ClosingError):
            await ask(service, "a0")

    asyncio.run(scene())


async def load_test(service: Service, rows: int, names: int) -> int:
    """Ask for rows of random adapters, 64 lists of 20 at a time; return how many others answered."""
    wrong = 0

    async def client(seed: int) -> None:
        nonlocal wrong
        chance = random.Random(seed)
        for _ in range(rows // 64 // 20):
            asked = [{"adapter": f"a{chance.randrange(names)}", "text": TEXT} for _ in range(20)]
            for request, answer in zip(asked, await service.answer(asked), strict=True):
                wrong += answer.entry.name != request["adapter"]
                wrong += answer.value["label"] != request["adapter"]

    await asyncio.gather(*(client(seed) for seed in range(64)))
    return wrong


def sure(count: int) -> MemorySource:
    """Adapters that are sure of one of 16 labels, each by a bias of its own: its name stands there."""
    made = MemorySource()
    one = random_adapter(tiny_base(), "pasta", classes=5)
    weight = torch.zeros(16, one.head["weight"].shape[1])
    for number in range(count):
        labels = [f"other-{at}" for at in range(16)]
        labels[number % 16] = f"a{number}"
        bias = torch.zeros(16)
        bias[number % 16] = 9.0
        made.add(f"a{number}", replace(one, labels=tuple(labels), head={"weight": weight, "bias": bias}))
    return made


@pytest.mark.parametrize("rows", [6_400, pytest.param(1_000_000, marks=pytest.mark.soak)])
def test_no_row_of_many_is_answered_by_the_wrong_adapter(rows: int, services: list[Service]) -> None:
    services.append(service := Service(tiny_base(), sure(1_000), memory=2_000_000, room=10_000, deadline=600))
    assert asyncio.run(load_test(service, rows, 1_000)) == 0
    facts = service.facts()
    assert facts["bytes"] <= 2_000_000
    assert facts["evictions"] > 100
