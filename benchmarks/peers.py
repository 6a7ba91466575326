"""The peers' side: transformers and PEFT on the same token ids, as people run them by default
and at their best.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from peft import LoraConfig, PrefixTuningConfig, get_peft_model
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

from benchmarks.common import precision
from benchmarks.ours import Workload, random_checkpoint
from softcue.encoder.load import find_minilm
from softcue.kinds.record import IGNORED
from softcue.readers.items import Item

PREFIX, RANK = 16, 8


def open_peer(
    size: str, method: str, work: Workload, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> Any:
    """A classifier of transformers, with PEFT's adapter unless the method is "full"."""
    folder = find_minilm() if size == "minilm" else random_checkpoint(size)
    torch.manual_seed(0)
    tag = work.kind == "tag"
    kind = AutoModelForTokenClassification if tag else AutoModelForSequenceClassification
    model = kind.from_pretrained(folder, num_labels=len(work.labels), dtype=dtype).to(device)
    task = "TOKEN_CLS" if tag else "SEQ_CLS"
    if method == "prefix":
        return get_peft_model(model, PrefixTuningConfig(task_type=task, num_virtual_tokens=PREFIX))
    if method == "lora":
        return get_peft_model(
            model, LoraConfig(task_type=task, r=RANK, lora_alpha=2 * RANK, target_modules=["query", "value"])
        )
    return model


def collate(items: Sequence[Item], segments: bool = True, targets: bool = True) -> dict[str, Tensor]:
    """Padded to the batch's longest; a tag's target stands at its word's first token."""
    examples = [item.examples[0] for item in items]
    token = [torch.tensor(example.token) for example in examples]
    batch = {
        "input_ids": pad_sequence(token, batch_first=True),
        "attention_mask": pad_sequence([torch.ones_like(row) for row in token], batch_first=True),
    }
    if segments:
        batch["token_type_ids"] = pad_sequence(
            [torch.tensor(example.segment) for example in examples], batch_first=True
        )
    if targets and isinstance(items[0].targets[0], int):
        batch["labels"] = torch.tensor([item.targets[0] for item in items])
    elif targets:
        batch["labels"] = torch.full_like(batch["input_ids"], IGNORED)
        for row, (item, example) in enumerate(zip(items, examples, strict=True)):
            batch["labels"][row, list(example.word)] = torch.tensor(item.targets[0][: len(example.word)])
    return batch


def there(batch: dict[str, Tensor], device: str) -> dict[str, Tensor]:
    """The same on a device."""
    return {name: numbers.to(device, non_blocking=True) for name, numbers in batch.items()}


def training(model: Any, best: bool) -> Callable[[Sequence[Sequence[Item]]], None]:
    """A function that takes one step a batch: AdamW and a clipped norm, as Trainer does; best:
    bf16 autocast, given units for it.
    """
    tuned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    # the default of transformers' Trainer
    optimizer = torch.optim.AdamW(tuned, lr=1e-4, weight_decay=0.0, fused=True)
    segments = model.config.type_vocab_size > 1
    device = model.device.type
    half = best and precision(device) == "bfloat16"  # without units bf16 is many times slower than float32

    def steps(batches: Sequence[Sequence[Item]]) -> None:
        model.train()
        for items in batches:
            with torch.autocast(device, torch.bfloat16) if half else nullcontext():
                loss = model(**there(collate(items, segments), device)).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(tuned, 1.0)
            optimizer.step()
            optimizer.zero_grad()

    return steps


def prediction(model: Any) -> Callable[[Sequence[Sequence[Item]]], list[Tensor]]:
    """A function that answers padded batches with probabilities."""
    model.eval()
    device, segments = model.device.type, model.config.type_vocab_size > 1

    @torch.inference_mode()
    def answers(batches: Sequence[Sequence[Item]]) -> list[Tensor]:
        return [
            model(**there(collate(items, segments, targets=False), device)).logits.float().softmax(-1)
            for items in batches
        ]

    return answers
