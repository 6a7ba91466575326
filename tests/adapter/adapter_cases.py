"""What the tests of adapters share: random adapters, equality to the bit, edits of saved files,
and refusals.
"""

import hashlib
import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from softcue.adapter import Adapter, lift
from softcue.adapter.store import HEADER, HEADER_HASH, TENSORS
from softcue.cues import Cue
from softcue.errors import AdapterError
from softcue.heads import Head
from softcue.protocol import Dims

DIMS = Dims(layers=3, hidden=16, heads=4, embed=16, ff=24, pooler=True)
OPTIONS: Mapping[str, dict[str, Any]] = {
    "pasta": {"slots": 3},
    "stp": {"plan": "explicit", "cls_layers": (0,), "place": ((0, -1), (-1, 1), (2, 2))},
    "apt": {"length": 3, "dropout": 0.125},
}


def build(
    method: str = "pasta", seats: int = 3, classes: tuple[int, ...] = (4, 2, 3), kind: str = "classify"
) -> tuple[Cue, Head]:
    """A cue and a head full of random numbers."""
    own = Cue.registry[method]
    cue = own(DIMS, own.Config(**OPTIONS.get(method, {})), seats)
    head = Head(kind, DIMS.hidden, classes, "cls")
    with torch.no_grad():
        for parameter in (*cue.parameters(), *head.parameters()):
            parameter.normal_()
    return cue, head


def make(method: str = "pasta", **changed: Any) -> Adapter:
    """Seat 1 of build(), as an adapter."""
    cue, head = build(method)
    cue_numbers, head_numbers = lift(cue, 1, head, 1)
    made = Adapter(
        method=method,
        config=cue.config,
        dims=DIMS,
        backbone="bert-tiny",
        fingerprint="0f" * 32,
        kind="classify",
        labels=("ja", "nein \u2013 \U0001f600"),
        pooling="cls",
        pair=True,
        limit=128,
        task="glue/rte",
        columns={"text": '"Dear, Sir",body', "label": "\u00e9tat"},
        subset=None,
        scores={"accuracy": 0.1 + 0.2, "selection_step": 40},
        measured="test; selected on dev",
        seed=3,
        training={"lr": 1e-3, "steps": None, "plan": [1, [2]]},
        cue=cue_numbers,
        head=head_numbers,
    )
    return replace(made, **changed)


def same(one: Adapter, other: Adapter) -> bool:
    """Equal in every field and bit."""
    for f in fields(Adapter):
        a, b = getattr(one, f.name), getattr(other, f.name)
        if f.name in ("cue", "head"):
            if sorted(a) != sorted(b) or not all(torch.equal(a[name], b[name]) for name in a):
                return False
        elif a != b:
            return False
    return True


def edit(folder: Path, change: Callable[[dict[str, Any]], Any], rehash: bool = True) -> None:
    """Change the header as an attacker would: the hash in the other file agrees again."""
    header = json.loads((folder / HEADER).read_text())
    change(header)
    data = json.dumps(header).encode()
    (folder / HEADER).write_bytes(data)
    if rehash:
        save_file(
            load_file(folder / TENSORS), folder / TENSORS, {HEADER_HASH: hashlib.sha256(data).hexdigest()}
        )


def edit_tensors(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the safetensors header and leave the numbers."""
    data = (folder / TENSORS).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    (folder / TENSORS).write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def refusal(folder: Path, file: str | None = None) -> str:
    """What load says, which must be one line that names the folder and the file."""
    with pytest.raises(AdapterError) as caught:
        Adapter.load(folder)
    text = str(caught.value)
    assert text.startswith(str(folder))
    assert "\n" not in text
    assert len(text) < 1000
    assert file is None or file in text
    return text
