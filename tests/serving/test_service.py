"""The service: any mix of requests is answered as by each adapter alone, by the right adapter or not at all."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from softcue.serving.service import Answer, Service
from tests.answering.test_predict import alone, same, zoo
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
