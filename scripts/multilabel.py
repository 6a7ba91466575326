"""Several labels for one text: methods and full fine-tuning on sentences that are labelled with the entity
types that they hold.

    python -m scripts.multilabel --data-root DATA   # hours; it goes on after a kill
    python -m scripts.multilabel --data-root DATA --sets wnut17 --rows 64 --seeds 1 --methods probe,pasta

Made of conll2003 and wnut17, of whose sentences many hold no type and some hold several. At most 2,000
training rows, presets, three seeds, a tenth of train selects, and the rows reported choose nothing. Writes a
JSON for each data set to OUT.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from scripts.check_presets import check_sets
from softcue.kinds import KINDS
from softcue.kinds.entities import spans
from softcue.readers import Data, Record

RESULTS = Path(__file__).resolve().parent.parent / "benchmarks" / "results" / "multilabel"
SETS = ("conll2003", "wnut17")
METHODS = ("probe", "pasta", "spt", "ptuning", "lora", "full")


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, train, write."""
    check_sets("multilabel", __doc__ or "", RESULTS, SETS, METHODS, arguments, by_types)


def by_types(data: Data) -> Data:
    """Return tagged sentences as texts whose labels are the types of their entities."""
    own = KINDS["multilabel"]
    splits = {split: [_by_types(record) for record in records] for split, records in data.splits.items()}
    return replace(
        data,
        kind=own.name,
        splits=splits,
        labels=own.labels(splits["train"]),
        name=f"{data.name}-types",
        metrics=own.metrics,
        positive=None,
    )


def _by_types(record: Record) -> Record:
    types = dict.fromkeys(kind for kind, _, _ in spans(record.tags))
    return Record(text=" ".join(record.tokens), labels=tuple(types), where=record.where)


if __name__ == "__main__":
    main()
