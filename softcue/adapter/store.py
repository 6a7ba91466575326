"""Adapter: one task's parameters and everything that is needed to use them again, saved as a folder."""

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

SCORES_ROOM = 4_096  # bytes kept free in the header for the scores, which are known after training
# An entry in the safetensors file's metadata. It shows if the two files belong to different adapters.
HEADER_HASH = "adapter_config_sha256"


def not_kept() -> Any:
    """Return a field that adapter_config.json does not hold."""
    return field(metadata={"kept": False})


@dataclass(frozen=True, kw_only=True, eq=False)
class Adapter:
    """Holds the parameters of one task's cue and head, without the seat axis, in float32 on the CPU.

    docs/adapter.md describes the files.
    """

    method: str  # one of Cue.registry
    config: Any  # an instance of that method's Config
    dims: Dims
    backbone: str  # its name as given to train; OWN_ENCODER if the checkpoint is in the adapter's folder
    fingerprint: str  # a hash of the backbone's weights and tokenizer
    kind: str  # one of KINDS
    labels: tuple[str, ...]  # in the order of the head's rows; empty for scores and choices
    pooling: str
    head_precision: str = "float32"  # of head.weight in the file, one of compact.PRECISIONS
    pair: bool  # whether the examples were pairs of texts
    limit: int  # the most tokens of an example; longer ones are truncated
    task: str  # the data set or benchmark whose template applies; "" if there is none
    columns: Mapping[str, Any] = field(default_factory=dict)  # columns given for training: text -> names
    encoding: str | None = None  # of the data's files, as given for training
    subset: str | None  # the part of a benchmark that it was trained on; None: all of it
    rows: int | None = None  # the most training rows, as given for training; None: all
    centre: float = 0.0  # for scores: value = raw * spread + centre
    spread: float = 1.0
    threshold: float = 0.5  # for multilabel: a label with at least this probability is given
    unsure_below: float = 0.0  # answers with a lower probability are marked as unsure; 0: none are
    words: str = "pre_tokenizer"  # for tags: how raw text is split into words
    scores: Mapping[str, Any]
    measured: str  # how the scores were measured: split and selection
    metric: str | None = None  # the metric that chose the best step
    seed: int
    training: Mapping[str, Any]  # the fields of Training
    precision: str | None = None  # of the encoder in training; None: not known
    tuned: str = "cue"  # or "full": the encoder was tuned too, and its checkpoint is in the folder
    cue: Mapping[str, Tensor] = not_kept()
    head: Mapping[str, Tensor] = not_kept()

    def save(self, folder: str | Path) -> Path:
        """Write the adapter's folder, completely or not at all, and return its path.

        It replaces an older adapter in that folder, but no other files. Raises AdapterError if `load` would
        refuse the adapter, and RequestError if the folder cannot be written.
        """
        files = self.to_files(str(folder))
        return write_folder(folder, lambda into: _write(into, files), refuse_foreign)

    def write(self, into: Path) -> None:
        """Write the adapter's two files into a folder that write_folder is filling."""
        _write(into, self.to_files(str(into)))

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write the adapter's folder as `save` does, with a model card beside the two files.

        It replaces an older card only if softcue wrote that card and nobody edited it. Raises what `save`
        raises.
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
        """Push the adapter and its model card in one commit to the repository OWNER/NAME of the hub.

        A missing repository is made; private: None follows the owner's settings. revision: a branch. Raises
        RequestError, and AdapterError for a fine-tuned checkpoint; `softcue push` pushes its folder.
        """
        if self.tuned != "cue":
            raise AdapterError("this is a fine-tuned checkpoint; push its folder with `softcue push`")
        card = card_of(self, parse_repository(repository, RequestError).name)
        files = self.to_files(repository)
        return push_files(files, card, repository, private=private, token=token, revision=revision)

    def check_savable(self) -> None:
        """Raise AdapterError if `save` would refuse the names, labels, sizes, settings or parameters."""
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
                "store"
            )
        check_tensors(tensors, shapes_of(values))
        if not torch.equal(tensors[WEIGHT], as_stored(tensors[WEIGHT], self.head_precision)):
            raise AdapterError(
                f"head_precision is {self.head_precision!r}, but head.weight has values that it cannot "
                "represent; round them with `with_head`"
            )
        return stored(tensors, self.head_precision), header

    def with_head(self, precision: str) -> "Adapter":
        """Return a copy whose head's weight is rounded as a file with this precision stores it.

        precision: float32, float16 or int8. In memory the weight stays float32.
        """
        weight = as_stored(self.head["weight"], precision)
        return replace(self, head={**self.head, "weight": weight}, head_precision=precision)

    def to_files(self, where: str) -> dict[str, bytes]:
        """Return the bytes of the adapter's two files, by their names.

        where: names their destination in messages. Raises AdapterError if `load` would refuse the adapter.
        """
        with naming(f"the adapter cannot be saved in {where}"):
            tensors, _ = self._check()
            header = header_bytes(self, tensors_digest(tensors))
        metadata = {HEADER_HASH: hashlib.sha256(header).hexdigest()}
        return {HEADER: header, TENSORS: to_bytes(tensors, metadata)}

    @staticmethod
    def load(folder: str | Path) -> "Adapter":
        """Read an adapter from a folder or from hf:OWNER/NAME[@REVISION], and check all of it.

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
        """Read an adapter from a folder or from OWNER/NAME on the hub, and check all of it.

        revision: a branch, a tag or a commit; cache_dir: where downloads are kept, None: the hub's own cache.
        Both are ignored for a folder. Raises AdapterError.
        """
        return Adapter.load(fetched(folder, revision, token, cache_dir))

    @staticmethod
    def from_files(files: Mapping[str, bytes], where: str, trusted: bool = False) -> "Adapter":
        """Read an adapter from the bytes that `to_files` returned, and check all of it.

        where: names their origin in messages. trusted: the caller has compared the bytes with a hash taken
        after a full check, so the parameters are not checked again. Raises AdapterError.
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
        """Raise AdapterError, with the first difference, for a backbone that it was not trained on.

        name: the adapter's, for the message. backbone, fingerprint, dims: those of the backbone.
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
            f"the sizes are equal, but the weights or the tokenizer differ; {remedy}"
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
    """Return the adapter in a header's bytes and an open file of tensors; messages use the names."""
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
    """Refuse tensors that are not finite, that belong to another header than `data`, or that changed."""
    check_finite(tensors)
    if metadata.get(HEADER_HASH) != hashlib.sha256(data).hexdigest():
        raise AdapterError(
            f"does not belong to the {HEADER} beside it; copy both files of one adapter, and edit neither"
        )
    if tensors_digest(tensors) != expected_digest:
        raise AdapterError("its tensors are not those that were saved; the file is damaged")


def _part(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _check_room(values: Mapping[str, Any], size: int, tensors_name: str) -> None:
    """Refuse settings that need more bytes than the file has, before a cue is built from them."""
    try:
        count = Cue.registry[values["method"]].count(values["dims"], values["config"])
    except Exception as error:  # as in shapes_of
        raise AdapterError(f"config: cannot build {values['method']} from it: {first_line(error)}") from error
    needed = count * WIDTH
    if needed > size:
        raise AdapterError(
            f"its settings need {needed:,} bytes of tensors, but {tensors_name} has {size:,} bytes"
        )


def _write(into: Path, files: Mapping[str, bytes]) -> None:
    for name, data in files.items():
        (into / name).write_bytes(data)  # write_folder syncs them
