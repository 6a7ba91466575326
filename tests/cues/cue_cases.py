"""What the tests of tuning methods share: texts of both families, perturbed cues, packed
forwards and their gradients.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

import softcue.cues  # noqa: F401  (fills the registry)
from softcue.batch import Example, pack
from softcue.encoder.core import Encoder
from softcue.plugins import PREFIX
from softcue.protocol import Cue, Dims, Facts
from tests.encoder.slow_bert import Front
from tests.tiny import tiny_encoder, tiny_hf

FAMILIES = ("bert", "roberta")
# but for plugins; each has a test file here
METHODS = sorted(name for name, cls in Cue.registry.items() if not cls.__module__.startswith(PREFIX))
SEATS = (0, 2, 1, 0, 1)
# (model, cue, seat, example) -> hidden states, rows in front too
Slow = Callable[[PreTrainedModel, Cue, int, Example], Tensor]
Case = tuple[PreTrainedModel, Encoder]


@dataclass(frozen=True)
class Counted:
    """Settings, and how many numbers an adapter with them has: worked out by hand, or from its paper."""

    settings: Mapping[str, Any]
    numbers: Mapping[str, int]  # by encoder, out of SIZES
    roles: tuple[str, ...] = ()  # of the task's special tokens, for settings that are found from them
    doubled: bool = False  # whether the task's template has two separators between texts

    def settled(self, method: str, dims: Dims) -> Any:
        """The method's config on an encoder of these sizes."""
        cls = Cue.registry[method]
        return cls.settle(cls.Config(**self.settings), facts(dims, self.roles, doubled=self.doubled))


@dataclass(frozen=True)
class Own:
    """What the test file of a method says of it to the tests of all methods, as OWN."""

    small: Mapping[str, Any]  # settings for a tiny encoder of three layers and pairs of texts
    counted: Sequence[Counted]
    refused: Sequence[tuple[Mapping[str, Any], str]] = ()  # settings, and what the refusal says


def own(method: str) -> Own:
    """OWN of tests/cues/test_METHOD.py."""
    told: Own = import_module(f"tests.cues.test_{method.replace('-', '_')}").OWN
    return told


def case(family: str) -> Case:
    """The same tiny random weights, as transformers and as we hold them."""
    model = tiny_hf(family).requires_grad_(False)
    return model, tiny_encoder(family)


def text(family: str, first: int, second: int = 0, seed: int = 0) -> Example:
    """A text of `first` tokens, or a pair, with its special tokens; ids are random, specials
    are where the template puts them.
    """
    generator = torch.Generator().manual_seed(seed + 97 * first + second)
    ids = torch.randint(10, 100, (first + second,), generator=generator).tolist()
    middle = [4, 4] if family == "roberta" else [4]
    token = [3, *ids[:first], *([*middle, *ids[first:]] if second else []), 4]
    special = [i for i, t in enumerate(token) if t in (3, 4)]
    segment = [int(bool(second) and family == "bert" and i > special[1]) for i in range(len(token))]
    return Example(token, segment, special)


def texts(family: str) -> list[Example]:
    """Five texts, single and pairs, of different length."""
    return [text(family, *sizes) for sizes in ((3, 4), (6, 0), (1, 2), (4, 0), (2, 5))]


def slots(family: str) -> int:
    """Special tokens of a pair."""
    return 4 if family == "roberta" else 3


def facts(dims: Dims, roles: Sequence[str], mass: Tensor | None = None, doubled: bool = False) -> Facts:
    """What settle() may ask."""

    def attention() -> Tensor:
        assert mass is not None, "this plan must not measure attention"
        return mass

    return Facts(dims, tuple(roles), attention, doubled)


def build(method: str, encoder: Encoder, adapters: int = 3, seed: int = 1, **options: Any) -> Cue:
    """A cue in eval mode whose every number is random, so that nothing is true by accident."""
    cls = Cue.registry[method]
    cue = cls(encoder.dims, cls.Config(**options), adapters)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in cue.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    return cue.eval()


def count(method: str, dims: Dims, **options: Any) -> int:
    """Numbers of one adapter, by the method's formula."""
    return Cue.registry[method].count(dims, Cue.registry[method].Config(**options))


def tables(kv: Tensor) -> Front:
    """Keys and values (L, 2, P, H, K) of one adapter, whatever the layer's input."""
    return lambda layer, hidden: (kv[layer, 0].flatten(1), kv[layer, 1].flatten(1))


def forward(encoder: Encoder, cue: Cue, examples: Sequence[Example], seats: Sequence[int]) -> list[Tensor]:
    """Hidden states of each example, in the order given, rows in front included; one packed forward."""
    batch = pack(examples, seats, cue.reserve, cue.shift)
    hidden, _ = encoder(batch, cue)
    pieces = hidden.split(batch.lengths)
    return [pieces[batch.order.index(i)] for i in range(len(examples))]


def gradients(outputs: Sequence[Tensor], cue: Cue) -> list[Tensor]:
    """Of a random weighted sum of all outputs, with respect to every parameter."""
    generator = torch.Generator().manual_seed(5)
    total = torch.stack([(out * torch.randn(out.shape, generator=generator)).sum() for out in outputs]).sum()
    return list(torch.autograd.grad(total, list(cue.parameters())))


def agree(family: str, cue: Cue, slow: Slow, tolerance: float = 1e-5) -> None:
    """One packed forward over three seats equals the slow way, example by example, in outputs
    and in gradients.
    """
    model, encoder = case(family)
    examples = texts(family)
    fast = forward(encoder, cue, examples, SEATS)
    slowly = [slow(model, cue, seat, example) for seat, example in zip(SEATS, examples, strict=True)]
    close(fast, slowly, tolerance)
    close(gradients(fast, cue), gradients(slowly, cue), tolerance)


def same(
    encoder: Encoder, examples: Sequence[Example], one: Cue, other: Cue, tolerance: float = 1e-5
) -> None:
    """Two cues make the same text rows."""
    pairs = zip(forward(encoder, one, examples, SEATS), forward(encoder, other, examples, SEATS), strict=True)
    for a, b in pairs:
        rows = min(len(a), len(b))
        close([a[-rows:]], [b[-rows:]], tolerance)


def close(one: Sequence[Tensor], other: Sequence[Tensor], tolerance: float = 1e-5) -> None:
    """Equal to `tolerance` of the largest number, and not all zero."""
    for a, b in zip(one, other, strict=True):
        assert a.shape == b.shape
        assert float(b.detach().abs().max()) > 0
        assert float((a - b).detach().abs().max()) <= tolerance * max(1.0, float(b.detach().abs().max()))


def differ(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    """Whether any text row is another."""
    return any(float((a[-1] - b[-1]).detach().abs().max()) > 1e-3 for a, b in zip(one, other, strict=True))


BERT_BASE = Dims(layers=12, hidden=768, heads=12, embed=768, ff=3072, pooler=True)
BERT_LARGE = Dims(layers=24, hidden=1024, heads=16, embed=1024, ff=4096, pooler=True)
ROBERTA_BASE = Dims(layers=12, hidden=768, heads=12, embed=768, ff=3072, pooler=False)
ROBERTA_LARGE = Dims(layers=24, hidden=1024, heads=16, embed=1024, ff=4096, pooler=False)
SIZES = {
    "bert-base": BERT_BASE,
    "bert-large": BERT_LARGE,
    "roberta-base": ROBERTA_BASE,
    "roberta-large": ROBERTA_LARGE,
}
# those, and two where no two sizes are equal, with a norm in the embedding block of one width or another
EVERY_SIZE = {
    **SIZES,
    "odd": Dims(layers=5, hidden=24, heads=3, embed=14, ff=50, pooler=True),
    "odd, wide norm": Dims(layers=5, hidden=24, heads=3, embed=14, ff=50, pooler=True, embed_norm=24),
}
TOTALS = {
    "bert-base-cased": 108_310_272,
    "bert-base-uncased": 109_482_240,
    "bert-large-cased": 333_579_264,
    "bert-large-uncased": 335_141_888,
    "roberta-base": 124_645_632,
    "roberta-large": 355_359_744,
}  # encoder and pooler, no language-model head
# roles of the special tokens of a text, of a pair, and of RoBERTa's pair
SINGLE, PAIR, DOUBLED = ("cls", "sep"), ("cls", "sep", "sep"), ("cls", "sep", "sep", "sep")
