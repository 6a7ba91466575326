"""Repeats: finds texts that two splits of a data set share."""

from collections.abc import Iterator, Mapping

from softcue.readers.records import Record


def repeats(splits: Mapping[str, list[Record]]) -> Iterator[str]:
    """Yield a warning for each pair of splits that share texts."""
    keys = {
        split: [hash((r.text, r.pair, r.choices, r.tokens)) for r in records]
        for split, records in splits.items()
    }
    seen: dict[str, set[int]] = {}
    for split, hashes in keys.items():
        for earlier, known in seen.items():
            repeats = sum(key in known for key in hashes)
            if repeats:
                yield (
                    f"{repeats:,} {split} {'row' if repeats == 1 else 'rows'} also "
                    f"{'occurs' if repeats == 1 else 'occur'} in {earlier}"
                )
        seen[split] = set(hashes)
