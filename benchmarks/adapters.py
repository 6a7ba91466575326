"""Adapters with random numbers: what they answer does not matter where banks and servers are measured."""

from collections.abc import Sequence

import torch

from softcue.adapter import Adapter, lift
from softcue.cues import Cue
from softcue.heads import Head
from softcue.protocol import Dims, Facts

MINILM = Dims(layers=6, hidden=384, heads=12, embed=384, ff=1536, pooler=True, embed_norm=384)
METHODS = ("pasta", "spt", "lora", "ptuning", "apt")


def random_adapter(
    method: str, seed: int, labels: Sequence[str] = ("no", "yes"), fingerprint: str = "0f" * 32
) -> Adapter:
    """A classifier on MiniLM with a preset's settings and random numbers."""
    torch.manual_seed(seed)
    own = Cue.registry[method]
    config = own.settle(own.Config(), Facts(MINILM, ("cls", "sep"), lambda: torch.ones(MINILM.layers, 2)))
    cue, head = own(MINILM, config, 1), Head("classify", MINILM.hidden, [len(labels)], "mean")
    of_cue, of_head = lift(cue, 0, head, 0)
    return Adapter(
        method=method,
        config=config,
        dims=MINILM,
        backbone="minilm",
        fingerprint=fingerprint,
        kind="classify",
        labels=tuple(labels),
        pooling="mean",
        pair=False,
        limit=128,
        task="random",
        subset=None,
        scores={},
        measured="not measured",
        seed=seed,
        training={},
        cue=of_cue,
        head=of_head,
    )
