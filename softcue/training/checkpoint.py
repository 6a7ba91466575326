"""Checkpoints: a folder that holds the two newest states of a run, each in one file that is
whole or absent.
"""

import hashlib
import json
import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from softcue.errors import RequestError, WriteError
from softcue.files import clear_unfinished, write_file

EVERY = 200  # steps
KEPT_CHECKPOINTS = 2  # files
CHECKPOINT_NAME = re.compile(r"checkpoint-\d{10}\.safetensors")
TYPES = {torch.float32: "F32", torch.int64: "I64", torch.uint8: "U8"}


@dataclass(frozen=True)
class Saved:
    """What a run needs to go on: tensors, and what JSON can say."""

    tensors: Mapping[str, Tensor]
    state: Any = None

    @staticmethod
    def join(parts: Mapping[str, "Saved"]) -> "Saved":
        """Join several states in one, each under its name."""
        tensors = {
            f"{name}/{key}": tensor for name, part in parts.items() for key, tensor in part.tensors.items()
        }
        return Saved(tensors, {name: part.state for name, part in parts.items()})

    def part(self, name: str) -> "Saved":
        """Return one of the states that were joined."""
        start = f"{name}/"
        return Saved(
            {key.removeprefix(start): t for key, t in self.tensors.items() if key.startswith(start)},
            self.state[name],
        )


class Checkpoints:
    """The checkpoints of one run, in a folder of their own; a step is one of the training loop."""

    def __init__(
        self,
        folder: str | Path,
        every: int = EVERY,
        resume: bool = False,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Keep checkpoints in a folder.

        every: steps between two of them. resume: go on from the newest, if there is one. say: called with a
        line about a damaged one.
        """
        if every < 1:
            raise RequestError(f"a checkpoint every {every} steps was asked for; expected at least 1")
        self.folder, self.every, self.resume, self.say = Path(folder), every, resume, say
        self.step = 0
        self.made_with: Mapping[str, Any] = {}

    def open(self, made_with: Mapping[str, Any]) -> Saved | None:
        """Begin, or go on: return the newest whole state, or None for a start from nothing.

        made_with: all that determines the run, ready for JSON. Raises RequestError for a folder that cannot
        be used, for one with an earlier run's checkpoints where resume is off, and for those of another run.
        """
        self.made_with = json.loads(json.dumps(made_with))  # tuples as JSON gives them back
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            clear_unfinished(self.folder)
            files = self._files()
        except OSError as error:
            raise WriteError(
                f"checkpoints cannot be kept in {self.folder}: {error.strerror}; give a folder that can be "
                "written"
            ) from error
        if files and not self.resume:
            raise WriteError(
                f"{self.folder} holds checkpoints of an earlier run; resume it (--resume), or give another "
                "folder"
            )
        refuse_foreign_tensors(files)
        for file in reversed(files):
            try:
                metadata, saved = read(file)
            except (SafetensorError, OSError, ValueError, KeyError) as error:
                self.say(f"warning: {file} is damaged ({error}); the checkpoint before it is tried")
                continue
            self._check(file, metadata["made_with"])
            self.step = metadata["step"]
            return saved
        if files:
            raise RequestError(
                f"every checkpoint in {self.folder} is damaged; remove "
                f"{', '.join(file.name for file in files)} to start anew"
            )
        return None

    def due(self) -> bool:
        """Count a step, and return True where a checkpoint is to be written after it."""
        self.step += 1
        return self.step % self.every == 0

    def write(self, saved: Saved) -> None:
        """Write a checkpoint of this step, then remove all but the newest two.

        Raises RequestError; what was there stays.
        """
        header = {"step": self.step, "made_with": self.made_with, "state": saved.state}
        write_file(
            self.folder / f"checkpoint-{self.step:010}.safetensors", parts(saved.tensors, json.dumps(header))
        )
        for old in self._files()[:-KEPT_CHECKPOINTS]:
            old.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        return sorted(
            file for file in self.folder.iterdir() if CHECKPOINT_NAME.fullmatch(file.name) and file.is_file()
        )

    def _check(self, file: Path, theirs: Any) -> None:
        """Refuse another run's checkpoint; the message names the first differences."""
        before, now = dict(flat_values(theirs)), dict(flat_values(self.made_with))
        wrong = [key for key in {**before, **now} if before.get(key) != now.get(key)]
        if wrong:
            told = "; ".join(
                f"{key} was {_brief(before.get(key))} and is {_brief(now.get(key))}" for key in wrong[:5]
            )
            more = f"; and {len(wrong) - 5} more" if len(wrong) > 5 else ""
            raise RequestError(
                f"{file} is a checkpoint of another run: {told}{more}. Give the same as then, or another "
                "folder"
            )


def open_checkpoints(
    folder: Path | None, every: int, resume: bool, say: Callable[[str], None]
) -> Checkpoints | None:
    """Return what the command line's flags ask for.

    Raises RequestError where --resume has nowhere to look.
    """
    if folder is None and resume:
        raise RequestError("--resume came without --checkpoint FOLDER; say where the checkpoints are")
    return None if folder is None else Checkpoints(folder, every, resume, say)


def parts(tensors: Mapping[str, Tensor], header: str) -> Iterator[bytes | memoryview]:
    """Yield a safetensors file, part by part.

    `header` and a hash over everything stand in its metadata.
    """
    host = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())}
    entries: dict[str, Any] = {"__metadata__": {"header": header, "sha256": checkpoint_digest(host, header)}}
    at = 0
    for name, tensor in host.items():
        entries[name] = {
            "dtype": TYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [at, at := at + tensor.nbytes],
        }
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)  # the format aligns its data
    yield struct.pack("<Q", len(text))
    yield text
    yield from map(_bytes, host.values())


def read(file: Path) -> tuple[dict[str, Any], Saved]:
    """Read (header, state) of a checkpoint.

    Raises SafetensorError, OSError, ValueError or KeyError for a damaged one.
    """
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata() or {}
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - it is no mapping
    if checkpoint_digest(tensors, metadata["header"]) != metadata["sha256"]:
        raise ValueError("its contents are not those that were written")
    header = json.loads(metadata["header"])
    return header, Saved(tensors, header["state"])


def refuse_foreign_tensors(files: Sequence[Path]) -> None:
    """Refuse whole safetensors files of another program.

    They would be removed as old checkpoints.
    """
    for file in files:
        with suppress(SafetensorError, OSError), safe_open(file, "pt") as opened:
            if not {"header", "sha256"} <= set(opened.metadata() or {}):
                raise WriteError(
                    f"{file} was not written by softcue; give another folder for the checkpoints, or move "
                    "it away"
                )


def checkpoint_digest(tensors: Mapping[str, Tensor], header: str) -> str:
    """Return SHA-256 over the header and the tensors' names, types, shapes and values."""
    found = hashlib.sha256(header.encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"\n{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        found.update(_bytes(tensor))
    return found.hexdigest()


def flat_values(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield {"jobs": [{"seed": 3}]} as ("jobs.0.seed", 3)."""
    if isinstance(value, dict | list) and value:
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from flat_values(inner, f"{path}.{key}" if path else str(key))
    else:
        yield path, value


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.reshape(-1).view(torch.uint8).numpy().data


def _brief(value: Any) -> str:
    return str(value)[:16]
