"""Model and Mixture: any mix of methods, heads and adapters in one forward."""

from collections.abc import Sequence

import pytest
import torch

from softcue.batch import Example
from softcue.errors import RequestError
from softcue.heads import Head
from softcue.model import Assignment, Model
from softcue.protocol import Cue
from tests.contract.cases import METHODS, randomise, settled
from tests.tiny import random_examples, tiny_encoder

FIVE = ("pasta", "stp", "spt", "gpc", "apt")
BASELINES = ("ptuning", "prompt", "lora", "bitfit", "probe")
KINDS = ("classify", "score", "choice", "tag", "multilabel")
ADAPTERS = 32


def crowd(family: str, methods: Sequence[str], pooling: str = "mean") -> Model:
    """32 adapters: methods and kinds in turn, prefixes of two lengths, heads of 2 to 5 classes."""
    encoder = tiny_encoder(family).requires_grad_(False)
    dims = encoder.dims
    groups: dict[tuple[str, int], list[int]] = {}
    for adapter in range(ADAPTERS):
        groups.setdefault((methods[adapter % len(methods)], 3 + 2 * (adapter // 16)), []).append(adapter)
    cues, cue_place = [], {}
    for (method, length), members in groups.items():
        options = {"length": length} if "length" in Cue.registry[method].Config.__dataclass_fields__ else {}
        cue = Cue.registry[method](dims, settled(method, dims, **options), len(members))
        randomise(cue, len(cues))
        cue_place.update({adapter: (len(cues), seat) for seat, adapter in enumerate(members)})
        cues.append(cue)
    heads, head_place = [], {}
    for number, kind in enumerate(KINDS):
        members = [a for a in range(ADAPTERS) if a // 2 % len(KINDS) == number]
        classes = [1 if kind in ("score", "choice") else 2 + a % 4 for a in members]
        head = Head(kind, dims.hidden, classes, pooling)
        randomise(head, 50 + number)
        head_place.update({adapter: (number, seat) for seat, adapter in enumerate(members)})
        heads.append(head)
    places = [Assignment(*cue_place[a], *head_place[a]) for a in range(ADAPTERS)]
    return Model(encoder, cues, heads, places).eval()


def request(family: str) -> tuple[list[Example], list[int], list[int]]:
    """One question per adapter, in an order of its own: examples (two for each choice
    question), seats, groups.
    """
    texts = random_examples(family, [3 + 5 * i % 17 for i in range(2 * ADAPTERS)])
    order = torch.randperm(ADAPTERS, generator=torch.Generator().manual_seed(4)).tolist()
    examples, seats, group = [], [], []
    for question, adapter in enumerate(order):
        for choice in range(2 if KINDS[adapter // 2 % len(KINDS)] == "choice" else 1):
            examples.append(texts[2 * question + choice])
            seats.append(adapter)
            group.append(question)
    return examples, seats, group


def answers(model: Model, examples, seats, group) -> dict[int, torch.Tensor]:
    return {
        question: answer
        for part in model(model.pack(examples, seats, group)).parts
        for question, answer in part.head.answers(part.logits, part.batch)
    }


@pytest.mark.parametrize("methods", [FIVE, BASELINES, METHODS], ids=["five", "baselines", "all"])
@pytest.mark.parametrize("family", ["bert", "roberta", "deberta-v3", "modernbert", "albert", "mpnet"])
def test_a_batch_of_many_methods_heads_and_adapters_equals_each_question_alone(
    family: str, methods: Sequence[str]
) -> None:
    model = crowd(family, methods)
    examples, seats, group = request(family)
    with torch.inference_mode():
        mixed = answers(model, examples, seats, group)
        assert len(mixed) == ADAPTERS
        for question in range(ADAPTERS):
            own = [i for i, g in enumerate(group) if g == question]
            alone = answers(model, [examples[i] for i in own], [seats[i] for i in own], [0] * len(own))[0]
            torch.testing.assert_close(mixed[question], alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kernel", ["ragged", "products"])
def test_where_nothing_may_be_asked_a_mixed_batch_gets_the_same(
    kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, where no number may be waited for."""
    model = crowd("bert", METHODS)
    model.encoder.kernel = kernel
    with torch.inference_mode():
        asked = answers(model, *request("bert"))
        for module in ("mixture", "kernels.dropout"):
            monkeypatch.setattr(f"softcue.{module}.may_ask", lambda x: False)
        unasked = answers(model, *request("bert"))
    for question, answer in asked.items():
        torch.testing.assert_close(unasked[question], answer, rtol=1e-6, atol=1e-6)


def test_the_pooler_of_a_mixed_batch_is_each_adapters_own() -> None:
    """BitFit edits the pooler, whose axis is examples and not rows."""
    model = crowd("bert", ("bitfit", "pasta", "lora"), pooling="pooler")
    examples, seats, group = request("bert")
    with torch.inference_mode():
        mixed = answers(model, examples, seats, group)
        for question in (0, 7, 19, 31):
            own = [i for i, g in enumerate(group) if g == question]
            alone = answers(model, [examples[i] for i in own], [seats[i] for i in own], [0] * len(own))[0]
            torch.testing.assert_close(mixed[question], alone, rtol=1e-5, atol=1e-5)


def test_gradients_of_a_mixed_batch_equal_those_of_each_question_alone() -> None:
    model = crowd("bert", FIVE).train()
    model.eval()
    examples, seats, group = request("bert")

    def gradients(chosen: list[int]) -> list[torch.Tensor]:
        model.zero_grad()
        out = answers(
            model, [examples[i] for i in chosen], [seats[i] for i in chosen], [group[i] for i in chosen]
        )
        sum(answer.square().sum() for answer in out.values()).backward()
        return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.tuned()]

    together = gradients(list(range(len(examples))))
    apart = [torch.zeros_like(g) for g in together]
    for question in range(ADAPTERS):
        for total, g in zip(apart, gradients([i for i, q in enumerate(group) if q == question]), strict=True):
            total += g
    for a, b in zip(together, apart, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_penalties_reach_the_examples_of_their_own_cue_only() -> None:
    model = crowd("bert", ("spt", "pasta"))
    model.mixture.train()
    examples, seats, group = request("bert")
    batch = model.pack(examples, seats, group)
    penalty = model(batch).penalty
    penalised = torch.tensor([seat % 2 == 0 for seat in batch.seats])
    assert (penalty[penalised] > 0).all()
    assert not penalty[~penalised].any()


def test_a_kernel_that_is_none_is_refused() -> None:
    encoder = tiny_encoder("bert")
    with pytest.raises(RequestError, match="attention kernel 'quick' is unknown; expected one of ragged"):
        encoder.kernel = "quick"
    assert encoder.kernel == "ragged"
