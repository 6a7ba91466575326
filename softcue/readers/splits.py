"""Splits: which rows train, which select and which are reported; no row has two of these uses."""

from dataclasses import dataclass

import torch

from softcue.errors import DataError
from softcue.readers.records import Data, Record


@dataclass(frozen=True)
class Selection:
    """The rows of a data set by their use."""

    train: list[Record]
    select: list[Record]  # choose the best step, the settings, the method
    report: list[Record]  # scored once, at the end
    measured: str  # how the scores are measured, in words; saved in the adapter
    aside: bool = False  # whether the selection rows were set aside from train


def select(data: Data, seed: int, from_train: bool = False) -> Selection:
    """Choose the training rows, the selection rows and the reported rows.

    With train, dev and test splits, dev selects and test is reported. If dev or test is missing, a random
    tenth of train selects.

    seed: draws that tenth. from_train: whether a tenth of train selects in any case. Raises RequestError if
    there is no train split or if it has too few rows.
    """
    if "train" not in data.splits:
        raise DataError(f"{data.name} has no train split; it has {', '.join(data.splits)}")
    empty = [split for split, records in data.splits.items() if not records]
    if empty:
        raise DataError(
            f"{data.name} has no rows in {', '.join(empty)}; leave out an empty split, or give it rows"
        )
    train = data.splits["train"]
    if "dev" in data.splits and "test" in data.splits and not from_train:
        return Selection(train, data.splits["dev"], data.splits["test"], "selected on dev, reported on test")
    held = "test" if "test" in data.splits else "dev" if "dev" in data.splits else None
    train, tenth = cut(train, seed, data.name)
    if held is not None:
        return Selection(
            train,
            tenth,
            data.splits[held],
            f"selected on a tenth of train (seed {seed}), reported on {held}",
            aside=True,
        )
    train, other = cut(train, seed, data.name)
    measured = f"selected on a tenth of train (seed {seed}), reported on another"
    return Selection(train, tenth, other, measured, aside=True)


def cut(records: list[Record], seed: int, name: str) -> tuple[list[Record], list[Record]]:
    """Set aside a random tenth, at least one row; rows of one group stay together."""
    own: list[str | int] = [record.group or i for i, record in enumerate(records)]
    groups = list(dict.fromkeys(own))
    if len(groups) < 2:
        raise DataError(
            f"{name} has too little to train on, {len(records)} rows of {len(groups)} questions; at least 2 "
            "questions are needed to set one aside for selection: give more, or give dev and test splits"
        )
    order = torch.randperm(len(groups), generator=torch.Generator().manual_seed(seed)).tolist()
    aside = {groups[i] for i in order[: max(1, len(groups) // 10)]}
    kept = [record for record, group in zip(records, own, strict=True) if group not in aside]
    return kept, [record for record, group in zip(records, own, strict=True) if group in aside]
