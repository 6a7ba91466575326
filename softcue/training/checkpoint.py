"""Checkpoints: a folder with the two newest states of a run.

Each state is one file, written completely or not at all.
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
SHOWN_DIFFERENCES = 5  # between two runs, in a message
CHECKPOINT_NAME = re.compile(r"checkpoint-\d{10}\.safetensors")
TYPES = {torch.float32: "F32", torch.int64: "I64", torch.uint8: "U8"}


@dataclass(frozen=True)
class Saved:
    """What a run needs to continue: tensors, and values that JSON can hold."""

    tensors: Mapping[str, Tensor]
    state: Any = None

    @staticmethod
    def join(parts: Mapping[str, "Saved"]) -> "Saved":
        """Join several states into one, each under its name."""
        tensors: dict[str, Tensor] = {}
        for name, part in parts.items():
            tensors |= {f"{name}/{key}": tensor for key, tensor in part.tensors.items()}
        return Saved(tensors, {name: part.state for name, part in parts.items()})

    def part(self, name: str) -> "Saved":
        """Return one of the joined states."""
        start = f"{name}/"
        tensors = {
            key.removeprefix(start): tensor for key, tensor in self.tensors.items() if key.startswith(start)
        }
        return Saved(tensors, self.state[name])


class Checkpoints:
    """Writes and reads the checkpoints of one run, in their own folder."""

    def __init__(
        self,
        folder: str | Path,
        every: int = EVERY,
        resume: bool = False,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Set the folder, and how often checkpoints are written there.

        every: steps of the training loop between two checkpoints.
        resume: whether to continue from the newest checkpoint, if there is one.
        say: called with a warning for each damaged checkpoint.
        """
        if every < 1:
            raise RequestError(f"a checkpoint every {every} steps was asked for; expected at least 1")
        self.folder = Path(folder)
        self.every = every
        self.resume = resume
        self.say = say
        self.step = 0
        self.made_with: Mapping[str, Any] = {}

    def open(self, made_with: Mapping[str, Any]) -> Saved | None:
        """Return the newest undamaged state, or None if the run starts from the beginning.

        made_with: everything that determines the run, as JSON can hold it. Raises RequestError if the folder
        cannot be used, if it has an earlier run's checkpoints but resume is off, or if its checkpoints are
        those of another run.
        """
        # The checkpoint's own copy is read back from JSON, which turns tuples into lists.
        self.made_with = json.loads(json.dumps(made_with))
        files = self._prepare_folder()
        if files and not self.resume:
            raise WriteError(
                f"{self.folder} holds checkpoints of an earlier run; resume it (--resume), or give another "
                "folder"
            )
        refuse_foreign_tensors(files)
        return self._newest(files) if files else None

    def _prepare_folder(self) -> list[Path]:
        """Make the folder, remove the leftovers of a killed process, and return the checkpoints there."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            clear_unfinished(self.folder)
            return self._files()
        except OSError as error:
            raise WriteError(
                f"cannot write checkpoints to {self.folder}: {error.strerror}; give a folder that you can "
                "write to"
            ) from error

    def _newest(self, files: Sequence[Path]) -> Saved:
        """Return the state of the newest file that is not damaged."""
        for file in reversed(files):
            try:
                metadata, saved = read(file)
            except (SafetensorError, OSError, ValueError, KeyError) as error:
                self.say(f"warning: {file} is damaged ({error}); trying the checkpoint before it")
                continue
            self._check(file, metadata["made_with"])
            self.step = metadata["step"]
            return saved
        raise RequestError(
            f"every checkpoint in {self.folder} is damaged; remove "
            f"{', '.join(file.name for file in files)} to start from the beginning"
        )

    def due(self) -> bool:
        """Count a step, and say whether to write a checkpoint after it."""
        self.step += 1
        return self.step % self.every == 0

    def write(self, saved: Saved) -> None:
        """Write a checkpoint of this step, then remove all but the two newest.

        Raises RequestError if the checkpoint cannot be written; earlier checkpoints stay.
        """
        header = {"step": self.step, "made_with": self.made_with, "state": saved.state}
        file = self.folder / f"checkpoint-{self.step:010}.safetensors"
        write_file(file, parts(saved.tensors, json.dumps(header)))
        for old in self._files()[:-KEPT_CHECKPOINTS]:
            old.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        return sorted(
            file for file in self.folder.iterdir() if CHECKPOINT_NAME.fullmatch(file.name) and file.is_file()
        )

    def _check(self, file: Path, theirs: Any) -> None:
        """Refuse another run's checkpoint; the message names the first differences."""
        before = dict(flat_values(theirs))
        now = dict(flat_values(self.made_with))
        wrong = [key for key in {**before, **now} if before.get(key) != now.get(key)]
        if wrong:
            shown = wrong[:SHOWN_DIFFERENCES]
            differences = [
                f"{key} was {_brief(before.get(key))} and is {_brief(now.get(key))}" for key in shown
            ]
            if len(wrong) > len(shown):
                differences.append(f"and {len(wrong) - len(shown)} more")
            raise RequestError(
                f"{file} is a checkpoint of another run: {'; '.join(differences)}. Give the same settings as "
                "then, or another folder"
            )


def open_checkpoints(
    folder: Path | None, every: int, resume: bool, say: Callable[[str], None]
) -> Checkpoints | None:
    """Return the Checkpoints that the command line's flags ask for, or None.

    Raises RequestError for --resume without --checkpoint.
    """
    if folder is None and resume:
        raise RequestError("--resume came without --checkpoint FOLDER; say where the checkpoints are")
    return None if folder is None else Checkpoints(folder, every, resume, say)


def parts(tensors: Mapping[str, Tensor], header: str) -> Iterator[bytes | memoryview]:
    """Yield a safetensors file in parts; its metadata has `header` and a hash over everything."""
    host = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())}
    entries: dict[str, Any] = {"__metadata__": {"header": header, "sha256": checkpoint_digest(host, header)}}
    at = 0
    for name, tensor in host.items():
        end = at + tensor.nbytes
        entries[name] = {
            "dtype": TYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [at, end],
        }
        at = end
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)  # the format aligns its data
    yield struct.pack("<Q", len(text))
    yield text
    yield from map(_bytes, host.values())


def read(file: Path) -> tuple[dict[str, Any], Saved]:
    """Read a checkpoint's header and its state.

    Raises SafetensorError, OSError, ValueError or KeyError if the file is damaged.
    """
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata() or {}
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - it is no mapping
    if checkpoint_digest(tensors, metadata["header"]) != metadata["sha256"]:
        raise ValueError("its contents have changed since they were written")
    header = json.loads(metadata["header"])
    return header, Saved(tensors, header["state"])


def refuse_foreign_tensors(files: Sequence[Path]) -> None:
    """Raise RequestError for undamaged safetensors files of another program.

    softcue would otherwise remove them as old checkpoints.
    """
    for file in files:
        with suppress(SafetensorError, OSError), safe_open(file, "pt") as opened:
            if not {"header", "sha256"} <= set(opened.metadata() or {}):
                raise WriteError(
                    f"{file} was not written by softcue; give another folder for the checkpoints, or move "
                    "it away"
                )


def checkpoint_digest(tensors: Mapping[str, Tensor], header: str) -> str:
    """Return a SHA-256 over the header and the tensors' names, types, shapes and values."""
    found = hashlib.sha256(header.encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"\n{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        found.update(_bytes(tensor))
    return found.hexdigest()


def flat_values(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each value with its path, so that {"jobs": [{"seed": 3}]} yields ("jobs.0.seed", 3)."""
    if isinstance(value, dict | list) and value:
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from flat_values(inner, f"{path}.{key}" if path else str(key))
    else:
        yield path, value


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.reshape(-1).view(torch.uint8).numpy().data


def _brief(value: Any) -> str:
    return str(value)[:16]
