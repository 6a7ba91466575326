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
from softcue.adapter.card import ALIASES
from softcue.adapter.folder import HEADER, TENSORS, naming
from softcue.adapter.values import first_line
from softcue.answering.opening import named_by_the_adapter
from softcue.base import Base, open_base
from softcue.encoder.family import Family
from softcue.encoder.load import family_of, find_backbone
from softcue.encoder.weights import plain_name, read_json_object
from softcue.errors import AdapterError, RequestError, SettingsError, short
from softcue.files import as_path, parse_json, read_bytes, refuse_filled, write_folder
from softcue.interop.peft_tensors import EXCHANGES, Exchange, Tensors, take
from softcue.kinds import KINDS
from softcue.kinds.base import READS_TEXTS, READS_WORDS
from softcue.kinds.entities import is_tag
from softcue.options import check_list, check_whole
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
    """Read a PEFT adapter (LoRA, prefix tuning or prompt tuning) as one of softcue's.

    - backbone: None loads the one that PEFT's file names.
    - labels: names for the classifier's rows, in their order; PEFT does not keep them. None: LABEL_0, LABEL_1
      and so on as in transformers, and for tags I-LABEL_0. A classifier of one row gives scores and takes
      none.
    - pair: whether it reads pairs of texts.
    - limit: the most tokens of an example.

    Raises AdapterError for what has no counterpart, RequestError for other labels than the classifier needs,
    and BackboneError.
    """
    place = as_path("folder", folder)
    limit = check_whole("limit", limit, 1, 2**20)
    with naming(str(place / HEADER)):
        settings = _read_settings(place / HEADER)
        method, exchange = _exchange(settings.get("peft_type"))
        with named_by_the_adapter(backbone):
            base = (
                backbone if isinstance(backbone, Base) else open_base(backbone or _named(settings), "float32")
            )
        family = _family(base.backbone.folder)
    encoder = base.backbone.encoder
    with naming(str(place / TENSORS)):
        tensors = _read_numbers(place / TENSORS, family)
        head = _read_head(tensors)
    with naming(str(place)):
        kind = _kind(settings.get("task_type"), len(head["bias"]))
        pooling = _pooling(kind, exchange, family, encoder.pooler is not None)
        if pair and KINDS[kind].reads != READS_TEXTS:
            raise RequestError(f"pair came for an adapter of kind {kind}, which reads {KINDS[kind].reads}")
        try:
            config, cue = exchange.read(settings, tensors, encoder.dims, family)
        except SettingsError as error:
            raise AdapterError(first_line(error)) from error
        if tensors:
            raise AdapterError(
                f"{next(iter(tensors))} (of {len(tensors)} such tensors) has no counterpart; softcue reads "
                f"the classifier and {exchange.peft_type}'s own tensors, not other modules_to_save or targets"
            )
        if len(head["weight"][0]) != encoder.dims.hidden:
            raise AdapterError(
                f"classifier.weight is {list(head['weight'].shape)}; expected width {encoder.dims.hidden}"
            )
        room = encoder.spec.positions - (0 if exchange.leaf else config.length)
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


def to_peft(adapter: str | Path | Adapter, folder: str | Path, *, backbone: str | Base | None = None) -> Path:
    """Write an adapter of lora, ptuning or prompt as a PEFT folder, whole or not at all, and return its path.

    - adapter: a folder, hf:OWNER/NAME or an Adapter.
    - backbone: None looks for the one that the adapter names. Only its config.json is read.

    PEFT's files have no place for labels. Scores are written so that PEFT's logit is the value itself. Raises
    AdapterError for what has no counterpart, BackboneError, and WriteError for a folder that is not empty.
    """
    if not isinstance(adapter, Adapter):
        adapter = Adapter.load(adapter)
    with naming("the adapter cannot be written for PEFT"):
        exchange = EXCHANGES.get(adapter.method)
        task = next((task for task, kinds in TASKS.items() if adapter.kind in kinds), None)
        if exchange is None or adapter.tuned == "full":
            what = "a fully tuned encoder" if adapter.tuned == "full" else f"method {adapter.method}"
            raise AdapterError(f"{what} has no counterpart in PEFT; expected {', '.join(EXCHANGES)}")
        if task is None:
            raise AdapterError(f"kind {adapter.kind} has no head in PEFT; expected classify, score or tag")
        with named_by_the_adapter(backbone):
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
        "base_model_name_or_path": ALIASES.get(adapter.backbone, adapter.backbone),
        "revision": None,
        "inference_mode": True,
    }
    front = "base_model.model." if exchange.leaf else "base_model."
    encoder = f"{front}{family.prefixes[0]}"
    named = {encoder + name if "." in name else name: tensor for name, tensor in tensors.items()}
    named |= {f"{front}{CLASSIFIER}.{name}": tensor for name, tensor in _head_of(adapter).items()}
    header = (json.dumps({**frame, **settings}, indent=2) + "\n").encode()
    saved = save(named, {"format": "pt"})

    def fill(into: Path) -> None:
        (into / HEADER).write_bytes(header)
        (into / TENSORS).write_bytes(saved)

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
    if not isinstance(task, str) or task not in TASKS:
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


def _labels(labels: Sequence[str] | None, kind: str, classes: int) -> tuple[str, ...]:
    """Return the labels' names, or transformers' own. Raises RequestError for those that do not fit."""
    if not KINDS[kind].has_labels:
        if labels:
            raise RequestError(
                f"{len(labels)} labels came; a classifier of one row gives scores, expected none"
            )
        return ()
    tags = KINDS[kind].reads == READS_WORDS
    if labels is None:
        front = "I-" if tags else ""  # transformers, too, joins neighbours whose labels are no tags of IOB2
        return tuple(f"{front}LABEL_{number}" for number in range(classes))
    named = check_list("labels", labels)
    if not all(isinstance(label, str) for label in named):
        raise RequestError(f"labels are {short(named)}; expected a list of names")
    if len(named) != classes:
        raise RequestError(f"{len(named)} labels came; the classifier has {classes} rows: name each")
    if len(set(named)) < classes:
        raise RequestError(f"labels are {short(named)}; expected each once")
    odd = next((label for label in named if tags and not is_tag(label)), None)
    if odd is not None:
        raise RequestError(
            f"label {short(odd)} is no tag; expected O, B-TYPE or I-TYPE: a TYPE alone is written I-TYPE"
        )
    return tuple(named)
