"""Adapter: one task's numbers and all that is needed to use them again, saved as a folder."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from softcue.adapter.card import CARD, card_of
from softcue.adapter.compact import WEIGHT, as_stored, file_shapes, restored, stored
from softcue.adapter.folder import HEADER, TENSORS, naming, refuse_foreign
from softcue.adapter.header import CONFIG_LIMIT, header_bytes, parse_header
from softcue.adapter.remote import Pushed, fetched, parse_repository, push_files, read_in_place
from softcue.adapter.shapes import shapes_of
from softcue.adapter.tensors import WIDTH, check_finite, check_tensors, read_tensors, tensors_digest, to_bytes
from softcue.adapter.values import first_line
from softcue.cues import Cue
from softcue.errors import AdapterError, RequestError
from softcue.files import open_regular, read_bytes, write_folder
from softcue.protocol import Dims

SCORES_ROOM = 4_096  # bytes of the header that training fills in at its end
# An entry in the safetensors file's metadata. It shows when files of two adapters were mixed up.
HEADER_HASH = "adapter_config_sha256"


def not_kept() -> Any:
    """Return a field that adapter_config.json does not hold."""
    return field(metadata={"kept": False})


@dataclass(frozen=True, kw_only=True, eq=False)
class Adapter:
    """One task's numbers: those of a cue and a head, without the seat axis, float32 on the CPU.

    File format: docs/adapter.md.
    """

    method: str  # one of Cue.registry
    config: Any  # of that method's Config
    dims: Dims
    backbone: str  # name as it was given; OWN_ENCODER where the checkpoint lies beside it
    fingerprint: str  # of the backbone's weights and tokenizer
    kind: str  # one of KINDS
    labels: tuple[str, ...]  # in the order of the head's rows; none for scores and choices
    pooling: str
    head_precision: str = "float32"  # of head.weight in the file, one of compact.PRECISIONS
    pair: bool  # whether the examples were pairs of texts
    limit: int  # tokens of an example, beyond which it is truncated
    task: str  # data set or benchmark whose template applies, "" if none
    columns: Mapping[str, Any] = field(default_factory=dict)  # what was said of columns: text -> names
    encoding: str | None = None  # what was said of how the data's files are written
    subset: str | None  # what part of a benchmark it was trained on, None for all
    rows: int | None = None  # training rows at most, as was said; None: all
    centre: float = 0.0  # of score heads: value = raw * spread + centre
    spread: float = 1.0
    threshold: float = 0.5  # of multilabel heads: labels of at least this probability are given
    unsure_below: float = 0.0  # answers with a chance below it are called unsure; 0: none are
    words: str = "pre_tokenizer"  # how raw text is split into words, for tags
    scores: Mapping[str, Any]
    measured: str  # how the scores were measured: split and selection
    metric: str | None = None  # what selected
    seed: int
    training: Mapping[str, Any]  # hyper-parameters
    precision: str | None = None  # of the encoder in training; None: not known
    tuned: str = "cue"  # or "full": the encoder was tuned too, and its checkpoint lies in the folder
    cue: Mapping[str, Tensor] = not_kept()
    head: Mapping[str, Tensor] = not_kept()

    def save(self, folder: str | Path) -> Path:
        """Write the adapter's folder, whole or not at all, and return its path.

        An older adapter there is replaced; nothing else is. Raises AdapterError if load would refuse the
        adapter, and RequestError if the folder cannot be written.
        """
        files = self.to_files(str(folder))
        return write_folder(folder, lambda into: _write(into, files), refuse_foreign)

    def write(self, into: Path) -> None:
        """Write the adapter's two files into the folder that a write_folder is filling."""
        _write(into, self.to_files(str(into)))

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write the adapter's folder as `save` does, with a model card beside the two files.

        An older card is replaced if softcue wrote it and nobody edited it. Raises as save does.
        """
        files = {**self.to_files(str(folder)), CARD: card_of(self)}
        return write_folder(folder, lambda into: _write(into, files), refuse_foreign)

    def push_to_hub(
        self,
        repository: str,
        *,
        private: bool | None = None,
        token: str | None = None,
        revision: str | None = None,
    ) -> Pushed:
        """Push the adapter and its model card in one commit to OWNER/NAME, which is made if there is none.

        private: None makes a new one as the owner's settings say. revision: a branch. Raises RequestError,
        and AdapterError for a fine-tuned checkpoint, whose folder `softcue push` pushes.
        """
        if self.tuned != "cue":
            raise AdapterError("a checkpoint is more than its adapter; push its folder: softcue push")
        card = card_of(self, parse_repository(repository, RequestError).name)
        files = self.to_files(repository)
        return push_files(files, card, repository, private=private, token=token, revision=revision)

    def check_savable(self) -> None:
        """Refuse what save would refuse of names, labels, sizes, settings and numbers.

        Raises AdapterError.
        """
        with naming("the adapter could not be saved"):
            _, header = self._check()
            room = CONFIG_LIMIT - len(header)
            if room < SCORES_ROOM:
                left = f"the header has {max(room, 0):,} bytes left for scores"
                raise AdapterError(f"{left}; expected {SCORES_ROOM:,}: shorten the labels")

    def _check(self) -> tuple[dict[str, Tensor], bytes]:
        """Check header and tensors as load would, and return the file's tensors and a header of its size."""
        tensors = {f"cue.{name}": tensor for name, tensor in self.cue.items()}
        tensors |= {f"head.{name}": tensor for name, tensor in self.head.items()}
        header = header_bytes(self, "0" * 64)  # the tensors' digest is not known yet
        values, _ = parse_header(Adapter, header)
        if values["config"] != self.config:
            raise AdapterError(
                f"config is {self.config!r}; expected a {type(values['config']).__name__} that a file can "
                "hold"
            )
        check_tensors(tensors, shapes_of(values))
        if not torch.equal(tensors[WEIGHT], as_stored(tensors[WEIGHT], self.head_precision)):
            raise AdapterError(
                f"head_precision is {self.head_precision!r}, and head.weight holds other numbers than that "
                "can hold; make the adapter with `with_head`"
            )
        return stored(tensors, self.head_precision), header

    def with_head(self, precision: str) -> "Adapter":
        """Return the adapter with its head rounded to float16 or int8, as a file holds it."""
        weight = as_stored(self.head["weight"], precision)
        return replace(self, head={**self.head, "weight": weight}, head_precision=precision)

    def to_files(self, where: str) -> dict[str, bytes]:
        """Return the bytes of the adapter's two files, by their names.

        where: what they are for, for the message. Raises AdapterError if load would refuse the adapter.
        """
        with naming(f"the adapter cannot be saved in {where}"):
            tensors, _ = self._check()
            header = header_bytes(self, tensors_digest(tensors))
        metadata = {HEADER_HASH: hashlib.sha256(header).hexdigest()}
        return {HEADER: header, TENSORS: to_bytes(tensors, metadata)}

    @staticmethod
    def load(folder: str | Path) -> "Adapter":
        """Read an adapter's folder, or hf:OWNER/NAME[@REVISION], and check all of it.

        Raises AdapterError that names the folder and the file.
        """
        return read_in_place(folder, _read)

    @staticmethod
    def from_pretrained(
        folder: str | Path,
        *,
        revision: str | None = None,
        token: str | None = None,
        cache_dir: str | Path | None = None,
    ) -> "Adapter":
        """Read an adapter's folder, or OWNER/NAME on the hub, and check all of it.

        revision: a branch, a tag or a commit; cache_dir: where it is kept, the hub's own cache if None; both
        say nothing about a folder. Raises AdapterError.
        """
        return Adapter.load(fetched(folder, revision, token, cache_dir))

    @staticmethod
    def from_files(files: Mapping[str, bytes], where: str, trusted: bool = False) -> "Adapter":
        """Return the adapter that `to_files` made into bytes, and check all of it.

        where: whence they came, for the message. trusted: the caller has compared the bytes with a hash taken
        when all was checked, so that the numbers are not looked at again. Raises AdapterError.
        """
        if set(files) != {HEADER, TENSORS}:
            came = ", ".join(sorted(files)[:5]) or "nothing"
            raise AdapterError(f"{where}: {came:.200} came; expected {HEADER} and {TENSORS}")
        try:
            return _parsed(
                files[HEADER],
                BytesIO(files[TENSORS]),
                len(files[TENSORS]),
                f"{where}: {HEADER}",
                f"{where}: {TENSORS}",
                trusted,
            )
        except ValueError as error:
            raise AdapterError(f"{where}: {error}") from error

    def check(self, name: str, backbone: str, fingerprint: str, dims: Dims) -> None:
        """Refuse a backbone that the adapter was not trained on.

        name: of the adapter, for the message. backbone, fingerprint, dims: name, fingerprint and sizes of the
        backbone. Raises AdapterError that names the first difference.
        """
        if fingerprint == self.fingerprint and dims == self.dims:
            return
        own = f"adapter {name!r} was trained for {self.backbone}"
        other = f"this is {backbone}"
        remedy = "load the backbone that it was trained for"
        if (self.dims.layers, self.dims.hidden) != (dims.layers, dims.hidden):
            sizes = f"({self.dims.layers} layers, width {self.dims.hidden})"
            raise AdapterError(f"{own} {sizes}; {other} ({dims.layers}, {dims.hidden}): {remedy}")
        for f in fields(Dims):
            mine, its = getattr(self.dims, f.name), getattr(dims, f.name)
            if mine != its:
                raise AdapterError(f"{own} ({f.name} {mine}); {other} ({f.name} {its}): {remedy}")
        raise AdapterError(
            f"{own} with the fingerprint {self.fingerprint[:12]}; {other} with {fingerprint[:12]}: "
            f"the sizes agree, the weights or the tokenizer do not; {remedy}"
        )


def _read(place: Path) -> Adapter:
    data = read_bytes(place / HEADER, AdapterError, CONFIG_LIMIT)
    with (
        naming(str(place / TENSORS)),
        open_regular(place / TENSORS, AdapterError) as (descriptor, size),
        os.fdopen(descriptor, "rb", closefd=False) as file,
    ):
        return _parsed(data, file, size, str(place / HEADER), str(place / TENSORS))


def _parsed(
    data: bytes, file: BinaryIO, size: int, header_name: str, tensors_name: str, trusted: bool = False
) -> Adapter:
    """Return the adapter of a header's bytes and of an open file of tensors; the names are for messages."""
    with naming(header_name):
        values, expected_digest = parse_header(Adapter, data)
        _check_room(values, size, tensors_name)
        precision = values["head_precision"]
        shapes, types = file_shapes(shapes_of(values), precision)
    with naming(tensors_name):
        tensors, metadata = read_tensors(file, size, shapes, types)
        if not trusted:
            _check_numbers(tensors, metadata, data, expected_digest)
        tensors = restored(tensors, precision)
    return Adapter(**values, cue=_part("cue.", tensors), head=_part("head.", tensors))


def _check_numbers(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, Any], data: bytes, expected_digest: str
) -> None:
    """Refuse numbers that are not finite, that belong to another header than `data`, or that changed."""
    check_finite(tensors)
    if metadata.get(HEADER_HASH) != hashlib.sha256(data).hexdigest():
        raise AdapterError(
            f"belongs to another {HEADER} than the one beside it; copy both files of an adapter, and "
            "edit neither"
        )
    if tensors_digest(tensors) != expected_digest:
        raise AdapterError("its numbers are not those that were saved; the file is damaged")


def _part(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _check_room(values: Mapping[str, Any], size: int, tensors_name: str) -> None:
    """Refuse a cue that the file has not enough bytes for, before it is built, even without memory."""
    try:
        numbers = Cue.registry[values["method"]].count(values["dims"], values["config"])
    except Exception as error:  # as in shapes_of
        raise AdapterError(
            f"config: no {values['method']} can be built from it: {first_line(error)}"
        ) from error
    needed = numbers * WIDTH
    if needed > size:
        raise AdapterError(
            f"its settings ask for {needed:,} bytes of numbers; {tensors_name} holds {size:,} bytes"
        )


def _write(into: Path, files: Mapping[str, bytes]) -> None:
    for name, data in files.items():
        (into / name).write_bytes(data)  # write_folder sees to it that they reach the disk
