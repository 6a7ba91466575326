"""PEFT: its adapters become softcue's and the other way round, by its own two files."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from softcue.adapter import Adapter
from softcue.adapter.folder import HEADER, TENSORS
from softcue.adapter.store import naming
from softcue.base import Base, open_base
from softcue.encoder.family import Family
from softcue.encoder.load import family_of, find_backbone
from softcue.encoder.weights import plain_name, read_json_object
from softcue.errors import AdapterError, RequestError
from softcue.files import as_path, parse_json, read_bytes, refuse_filled, write_folder
from softcue.interop.peft_numbers import EXCHANGES, Exchange, Tensors, take
from softcue.kinds import KINDS
from softcue.options import check_whole
from softcue.training.job import DEFAULT_LIMIT, check_room

TENSORS_LIMIT = 2**32  # bytes of PEFT's file
# PEFT's name of a task -> our kinds
TASKS: Mapping[str, tuple[str, ...]] = {"SEQ_CLS": ("classify", "score"), "TOKEN_CLS": ("tag",)}
CLASSIFIER = "classifier"


def from_peft(
    folder: str | Path,
    *,
    backbone: str | Base | None = None,
    labels: Sequence[str] | None = None,
    pair: bool = False,
    limit: int = DEFAULT_LIMIT,
) -> Adapter:
    """Return a PEFT adapter (LoRA, prefix tuning or prompt tuning) as one of softcue's.

    backbone: None loads the one that PEFT's file names. labels: in the order of the classifier's rows, which
    PEFT does not keep; None: LABEL_0, LABEL_1, .. as transformers names them; a classifier of one row gives
    scores and has none. pair: whether it reads pairs of texts. limit: tokens of an example. Raises
    AdapterError for what has no counterpart, in one line.
    """
    place = as_path("folder", folder)
    limit = check_whole("limit", limit, 1, 2**20)
    with naming(str(place / HEADER)):
        settings = _read_settings(place / HEADER)
        method, exchange = _exchange(settings.get("peft_type"))
        base = backbone if isinstance(backbone, Base) else open_base(backbone or _named(settings), "float32")
        family = _family(base.backbone.folder)
    encoder = base.backbone.encoder
    with naming(str(place / TENSORS)):
        tensors = _read_numbers(place / TENSORS, family)
        head = _read_head(tensors)
    with naming(str(place)):
        kind = _kind(settings.get("task_type"), len(head["bias"]))
        pooling = _pooling(kind, exchange, family, encoder.pooler is not None)
        config, cue = exchange.read(settings, tensors, encoder.dims, family)
        if tensors:
            raise AdapterError(
                f"{next(iter(tensors))} (of {len(tensors)} such tensors) has no counterpart; softcue reads "
                f"the classifier and {exchange.peft_type}'s own tensors, not other modules_to_save or targets"
            )
        if len(head["weight"][0]) != encoder.dims.hidden:
            raise AdapterError(
                f"classifier.weight is {list(head['weight'].shape)}; expected width {encoder.dims.hidden}"
            )
        room = encoder.spec.positions - _in_front(settings)
        check_room(min(limit, room), len(base.text.slots(pair)))
        adapter = Adapter(
            method=method,
            config=config,
            dims=encoder.dims,
            backbone=base.backbone.name,
            fingerprint=base.fingerprint,
            kind=kind,
            labels=_labels(labels, kind, len(head["bias"])),
            pooling=pooling,
            pair=pair,
            limit=min(limit, room),
            task="",
            subset=None,
            scores={},
            measured="imported from PEFT, not measured",
            seed=0,
            training={},
            cue=cue,
            head=head,
        )
        adapter.check_savable()
    return adapter


def to_peft(adapter: Adapter, folder: str | Path, *, backbone: str | Base | None = None) -> Path:
    """Write an adapter of LoRA, ptuning or prompt as a PEFT folder, whole or not at all; return its path.

    backbone: None looks for the one that the adapter names; only its config.json is read. PEFT's file has no
    place for labels. Scores are written so that PEFT's logit is the value itself. Raises AdapterError for
    what has no counterpart, and WriteError for a folder that is not empty.
    """
    with naming("the adapter cannot be written for PEFT"):
        exchange = EXCHANGES.get(adapter.method)
        task = next((task for task, kinds in TASKS.items() if adapter.kind in kinds), None)
        if exchange is None or adapter.tuned == "full":
            what = "a fully tuned encoder" if adapter.tuned == "full" else f"method {adapter.method}"
            raise AdapterError(f"{what} has no counterpart in PEFT; expected {', '.join(EXCHANGES)}")
        if task is None:
            raise AdapterError(f"kind {adapter.kind} has no head in PEFT; expected classify, score or tag")
        found = backbone.backbone.folder if isinstance(backbone, Base) else None
        family = _family(found or find_backbone(str(backbone or adapter.backbone)))
        pooling = _pooling(adapter.kind, exchange, family, adapter.dims.pooler)
        same = {pooling, "front"}  # without a prompt the first row is that of [CLS]
        if adapter.kind not in TASKS["TOKEN_CLS"] and adapter.pooling not in same:
            raise AdapterError(
                f"pooling {adapter.pooling} has no counterpart: transformers' classifier reads what "
                f"the pooler makes of the first row; expected an adapter trained with pooling {pooling}"
            )
        settings, tensors = exchange.write(adapter, family)
    frame = {
        "peft_type": exchange.peft_type,
        "task_type": task,
        "base_model_name_or_path": adapter.backbone,
        "revision": None,
        "inference_mode": True,
    }
    front = "base_model.model." if exchange.leaf else "base_model."
    encoder = f"{front}{family.prefixes[0]}"
    named = {encoder + name if "." in name else name: tensor for name, tensor in tensors.items()}
    named |= {f"{front}{CLASSIFIER}.{name}": tensor for name, tensor in _head_of(adapter).items()}
    header = (json.dumps({**frame, **settings}, indent=2) + "\n").encode()
    numbers = save(named, {"format": "pt"})

    def fill(into: Path) -> None:
        (into / HEADER).write_bytes(header)
        (into / TENSORS).write_bytes(numbers)

    return write_folder(as_path("folder", folder), fill, refuse_filled)


def _read_settings(file: Path) -> dict[str, Any]:
    try:
        settings = parse_json(read_bytes(file, AdapterError))
    except ValueError as error:
        raise AdapterError(str(error)) from error
    if not isinstance(settings, dict) or settings.get("library_name") == "softcue":
        raise AdapterError("is not PEFT's; expected what PEFT's save_pretrained writes")
    return settings


def _read_numbers(file: Path, family: Family) -> Tensors:
    """Return the file's tensors under the family's own names, PEFT's and the checkpoint's prefixes undone."""
    if not file.is_file() and file.with_suffix(".bin").is_file():
        raise AdapterError("is missing, and adapter_model.bin is pickled; save the adapter as safetensors")
    try:
        stored: Mapping[str, Tensor] = load(read_bytes(file, AdapterError, TENSORS_LIMIT))
    except SafetensorError as error:
        raise AdapterError(f"is no sound safetensors file ({error}); fetch it again") from error
    tensors: Tensors = {}
    for name, tensor in stored.items():
        if not tensor.is_floating_point() or not bool(torch.isfinite(tensor).all()):
            raise AdapterError(f"{name} has values that are no finite floats; the adapter is damaged")
        inner = name.removeprefix("base_model.").removeprefix("model.")
        tensors[plain_name(inner, family.prefixes)] = tensor
    return tensors


def _read_head(tensors: Tensors) -> Tensors:
    """Take the classifier out: a linear map, and nothing else. Raises AdapterError."""
    more = [name for name in tensors if name.startswith(f"{CLASSIFIER}.") and name.count(".") > 1]
    if more:
        raise AdapterError(
            f"has the classifier's tensor {more[0]}: a head of several layers; softcue has one linear map"
        )
    weight = tensors.get(f"{CLASSIFIER}.weight")
    if weight is None or weight.dim() != 2 or not len(weight):
        raise AdapterError(
            "has no classifier.weight of (classes, width); expected an adapter of task_type "
            f"{' or '.join(TASKS)} with its classifier saved"
        )
    return {
        "weight": take(tensors, f"{CLASSIFIER}.weight", tuple(weight.shape)).contiguous(),
        "bias": take(tensors, f"{CLASSIFIER}.bias", (len(weight),)).contiguous(),
    }


def _head_of(adapter: Adapter) -> Tensors:
    """Return the classifier's tensors; of scores, so that its logit is the value."""
    weight, bias = adapter.head["weight"], adapter.head["bias"]
    return {
        "weight": (weight * adapter.spread).contiguous(),
        "bias": (bias * adapter.spread + adapter.centre).contiguous(),
    }


def _exchange(peft_type: Any) -> tuple[str, Exchange]:
    for method, exchange in EXCHANGES.items():
        if exchange.peft_type == peft_type:
            return method, exchange
    known = ", ".join(exchange.peft_type for exchange in EXCHANGES.values())
    raise AdapterError(f"peft_type is {peft_type!r:.40}; softcue reads {known}")


def _named(settings: Mapping[str, Any]) -> str:
    name = settings.get("base_model_name_or_path")
    if not isinstance(name, str) or not name:
        raise AdapterError("names no base model; say which encoder it is for with backbone (--backbone)")
    return name


def _family(folder: Path) -> Family:
    return family_of(read_json_object(folder / "config.json"))


def _kind(task: Any, classes: int) -> str:
    if task not in TASKS:
        raise AdapterError(f"task_type is {task!r:.40}; softcue reads {' and '.join(TASKS)}")
    kinds = TASKS[task]
    return kinds[-1] if classes == 1 else kinds[0]


def _pooling(kind: str, exchange: Exchange, family: Family, pooler: bool) -> str:
    """Return the pooling under which our head is transformers' own. Raises AdapterError where none is."""
    if kind in TASKS["TOKEN_CLS"]:
        if kind not in family.linear_heads:
            raise AdapterError(
                f"transformers' head for tokens of {family.models[0]} has several layers; softcue has one "
                "linear map: expected an encoder such as BERT"
            )
        return "cls"  # a head of tags pools nothing
    if "classify" not in family.linear_heads:
        raise AdapterError(
            f"transformers' classifier of {family.models[0]} has several layers; softcue has one linear map: "
            "expected BERT or ALBERT, or task_type TOKEN_CLS"
        )
    if not pooler:
        raise AdapterError("the backbone's checkpoint has no pooler, which transformers' classifier reads")
    return exchange.pooling


def _in_front(settings: Mapping[str, Any]) -> int:
    return int(settings.get("num_virtual_tokens") or 0)


def _labels(labels: Sequence[str] | None, kind: str, classes: int) -> tuple[str, ...]:
    if not KINDS[kind].has_labels:
        if labels:
            raise RequestError(
                f"{len(labels)} labels came; a classifier of one row gives scores, expected none"
            )
        return ()
    if labels is None:
        return tuple(f"LABEL_{number}" for number in range(classes))
    if isinstance(labels, str) or not all(isinstance(label, str) for label in labels):
        raise RequestError(f"labels are {labels!r:.60}; expected a list of names")
    if len(labels) != classes:
        raise RequestError(f"{len(labels)} labels came; the classifier has {classes} rows: name each")
    return tuple(labels)
