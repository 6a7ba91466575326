"""Adapters of any settings, with random numbers."""

from typing import Any

from softcue.adapter import Adapter, lift
from softcue.base import Base
from softcue.cues import Cue
from softcue.heads import Head
from tests.contract.cases import randomise

LABELS = {"classify": ("a", "b", "c"), "tag": ("O", "B-PER", "I-PER", "B-LOC")}


def adapter_of(base: Base, method: str, config: Any, kind: str = "classify", **changes: Any) -> Adapter:
    """An adapter of these settings that was never trained."""
    dims, labels, pooling = base.backbone.encoder.dims, LABELS.get(kind, ()), changes.pop("pooling", "mean")
    cue = Cue.registry[method](dims, config)
    head = Head(kind, dims.hidden, [max(1, len(labels))], pooling)
    seed = changes.pop("seed", 0)
    for number, part in enumerate((cue, head)):
        randomise(part, 10 * seed + number)
    of_cue, of_head = lift(cue, 0, head, 0)
    usual: dict[str, Any] = {"pair": False, "limit": 40, "task": "", "subset": None, "scores": {}, "seed": 0}
    return Adapter(
        method=method,
        config=config,
        dims=dims,
        backbone=base.backbone.name,
        fingerprint=base.fingerprint,
        kind=kind,
        labels=labels,
        pooling=pooling,
        measured="nothing",
        training={},
        cue=of_cue,
        head=of_head,
        **{**usual, **changes},
    )
