"""Data: reads a folder, a file or a data set of the hub into checked splits, with one pass over each file."""

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from softcue.errors import DataError
from softcue.kinds import KINDS
from softcue.options import check_whole
from softcue.readers.columns import TAG_NAMES, Columns, Said, as_columns
from softcue.readers.encoding import Encoding, as_encoding
from softcue.readers.hub import Hub, load_hub
from softcue.readers.parse import Parser, settle
from softcue.readers.records import SPLITS, Data, Problems, Record, Shape
from softcue.readers.repeats import repeats
from softcue.readers.stream import FORMATS, NAMELESS, UNTYPED
from softcue.readers.tables import Table
from softcue.scoring.metrics import metrics_of

SPLIT_NAMES = {"train": ("train",), "dev": ("dev", "validation", "valid", "val"), "test": ("test",)}


def read_data(
    where: str | Path,
    *,
    kind: str | None = None,
    columns: Said | Columns | None = None,
    encoding: str | Encoding | None = None,
    seed: int = 0,
    limit: Mapping[str, int] | None = None,
    splits: Sequence[str] = SPLITS,
) -> Data:
    """Read a folder, a single file, or a data set of the hub (hf:ID[:CONFIG]).

    A folder has train, dev and test files. A single file is split 80/10/10 by `seed`.

    kind: the kind of task; None recognises it from the records. columns: our field name -> the file's column
    (docs/data.md). encoding: of files that are not UTF-8 and have no byte order mark. limit: the most rows of
    each split, drawn by `seed`. splits: which splits to read; absent ones are left out. Raises RequestError
    that lists every problem with its file and line.
    """
    shape = Shape(kind=kind, columns=as_columns(columns), encoding=as_encoding(encoding))
    if str(where).startswith("hf:"):
        identity, _, config = str(where)[3:].partition(":")
        return read_hub(
            Hub(identity, config or None), shape, name=str(where), seed=seed, limit=limit, splits=splits
        )
    path = Path(where)
    try:
        if path.is_dir():
            return read_folder(path, shape, name=path.resolve().name, seed=seed, limit=limit, splits=splits)
        if path.is_file():
            return _read_single(path, shape, seed, limit, splits)
    except OSError as error:
        raise DataError(f"{where} cannot be read ({error.strerror or error})") from error
    raise DataError(
        f"{str(where)!r} does not exist; expected a folder with train, dev and test files, a file, a "
        "benchmark name or hf:ID"
    )


def read_file(
    path: str | Path,
    *,
    kind: str | None = None,
    columns: Said | Columns | None = None,
    encoding: str | Encoding | None = None,
    split: str = "test",
) -> Data:
    """Read one whole file as one split."""
    path = Path(path)
    shape = Shape(kind=kind, columns=as_columns(columns), encoding=as_encoding(encoding))
    parser = Parser(shape, Problems())
    try:
        records = _parse(path, parser)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error})") from error
    return _finish(path.stem, {split: records}, parser, str(path), 0, None)


def read_folder(
    folder: Path,
    shape: Shape,
    *,
    name: str,
    seed: int = 0,
    limit: Mapping[str, int] | None = None,
    splits: Sequence[str] = SPLITS,
) -> Data:
    """Read a folder's train, dev and test files, as far as `splits` names them and they exist."""
    files = {split: path for split in _ordered(splits) if (path := _split_file(folder, split))}
    if not files:
        there = ", ".join(sorted(path.name for path in folder.iterdir())[:10]) or "nothing"
        raise DataError(f"{folder} has no {' or '.join(splits)} file ({', '.join(FORMATS)}); it has {there}")
    parser = Parser(shape, Problems())
    found = {split: _parse(path, parser) for split, path in files.items()}
    return _finish(name, found, parser, str(folder), seed, limit)


def read_hub(
    hub: Hub,
    shape: Shape,
    *,
    name: str,
    seed: int = 0,
    limit: Mapping[str, int] | None = None,
    splits: Sequence[str] = SPLITS,
) -> Data:
    """Read a data set of the hub; a split with hidden labels is left out with a warning."""
    return read_tables(
        load_hub(hub),
        shape,
        name=name,
        source=f"hf:{hub.identity}",
        known=hub.splits,
        seed=seed,
        limit=limit,
        splits=splits,
    )


def read_tables(
    tables: Mapping[str, Table],
    shape: Shape,
    *,
    name: str,
    source: str,
    known: Mapping[str, str],
    seed: int = 0,
    limit: Mapping[str, int] | None = None,
    splits: Sequence[str] = SPLITS,
) -> Data:
    """Read the tables of the wanted splits; a single table is split as a single file is.

    source: their origin, for messages. known: our split -> the table's name; empty: recognised by name.
    """
    known = known or {ours: own for ours, names in SPLIT_NAMES.items() for own in names if own in tables}
    chosen = {split: tables[known[split]] for split in _ordered(splits) if known.get(split) in tables}
    parser = Parser(shape, Problems())
    if not chosen and len(tables) == 1:
        chosen = {"train": next(iter(tables.values()))}
    if not chosen:
        raise DataError(f"{source} has no {' or '.join(splits)} split; it has {', '.join(tables) or 'none'}")
    found = {}
    for split, rows in chosen.items():
        if rows.unlabelled(shape.columns.given.get("label", "label")):
            parser.warnings.append(f"{rows.name} has no labels and is left out")
        else:
            found[split] = parser.read(rows, rows.name, table=shape.template is None)
            if not found[split] and not parser.problems.count:
                parser.problems.add(f"{rows.name}:1", "the table has no rows")
    if len(tables) == 1 and list(found) == ["train"]:
        parser.problems.check(source)
        found = _cut(found["train"], seed, source, parser, splits)
    return _finish(name, found, parser, source, seed, limit)


def _read_single(
    path: Path, shape: Shape, seed: int, limit: Mapping[str, int] | None, splits: Sequence[str]
) -> Data:
    parser = Parser(shape, Problems())
    records = _parse(path, parser)
    parser.problems.check(str(path))  # before the split, because there may be too few rows left to split
    parts = _cut(records, seed, str(path), parser, splits)
    return _finish(path.stem, parts, parser, str(path), seed, limit)


def _ordered(splits: Sequence[str]) -> Iterator[str]:
    unknown = [split for split in splits if split not in SPLITS]
    if unknown:
        raise DataError(f"split {unknown[0]!r} is unknown; expected {', '.join(SPLITS)}")
    return (split for split in SPLITS if split in splits)


def _split_file(folder: Path, split: str) -> Path | None:
    files = [
        path
        for name in SPLIT_NAMES[split]
        for suffix in FORMATS
        if (path := folder / (name + suffix)).is_file()
    ]
    if len(files) > 1:
        raise DataError(f"{folder} has {files[0].name} and {files[1].name} for {split}; keep one")
    return files[0] if files else None


def _parse(path: Path, parser: Parser) -> list[Record]:
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise DataError(f"{path} has no known format; expected one of {', '.join(FORMATS)}")
    stream, table = FORMATS[suffix]
    if suffix in NAMELESS and set(parser.shape.columns.given) - {TAG_NAMES}:
        raise DataError(
            f"{path}: {suffix} files have no column names (first column word, last tag); leave names out"
        )
    before = parser.problems.count
    records = parser.read(
        stream(path, parser.problems, parser.shape.encoding.of(path)),
        path.name,
        table and parser.shape.template is None,
        suffix in UNTYPED,
    )
    if not records and parser.problems.count == before:
        parser.problems.add(f"{path.name}:1", "the file has no rows")
    return records


def _cut(
    records: list[Record], seed: int, source: str, parser: Parser, splits: Sequence[str]
) -> dict[str, list[Record]]:
    """Split one file's records 80/10/10 at random, with this seed."""
    if len(records) < 3:
        end = records[-1].where if records else f"{source}:1"
        raise DataError(
            f"{end}: {len(records)} rows are too few to split into train, dev and test; give a folder with "
            "three files"
        )
    order = list(range(len(records)))
    random.Random(seed).shuffle(order)
    tenth = max(1, len(records) // 10)
    rows = {"dev": order[:tenth], "test": order[tenth : 2 * tenth], "train": order[2 * tenth :]}
    sizes = ", ".join(f"{len(rows[split]):,} {split}" for split in SPLITS)
    what = "file" if Path(source).suffix else "table"
    parser.warnings.append(f"{Path(source).name} is a single {what}; split by seed {seed} into {sizes} rows")
    return {split: [records[at] for at in sorted(rows[split])] for split in _ordered(splits)}


def _finish(
    name: str,
    splits: dict[str, list[Record]],
    parser: Parser,
    source: str,
    seed: int,
    limit: Mapping[str, int] | None,
) -> Data:
    kind = settle(splits, parser)
    parser.problems.check(source)
    for split, count in (limit or {}).items():
        if split not in SPLITS:
            raise DataError(f"a limit of rows came for {split!r}; expected one of {', '.join(SPLITS)}")
        count = check_whole(f"the number of {split} rows", count, 1)
        if split in splits:
            order = list(range(len(splits[split])))
            random.Random(seed).shuffle(order)
            splits[split] = [splits[split][at] for at in order[:count]]
    labels = KINDS[kind].labels(
        splits["train"]
        if "train" in splits
        else [record for records in splits.values() for record in records]
    )
    if parser.empty_pairs:
        parser.warnings.append(
            f"{len(parser.empty_pairs):,} rows have an empty second text, the first at "
            f"{parser.empty_pairs[0]}"
        )
    warnings = [
        *parser.problems.notes,
        *parser.warnings,
        *_foreign_labels(kind, labels, splits),
        *repeats(splits),
    ]
    return Data(
        kind,
        splits,
        labels,
        bool(parser.paired),
        name,
        metrics_of(kind),
        warnings=warnings,
        columns=dict(parser.shape.columns.given),
        encoding=parser.shape.encoding.given,
        rows=(limit or {}).get("train"),
    )


def _foreign_labels(kind: str, labels: tuple[str, ...], splits: Mapping[str, list[Record]]) -> Iterator[str]:
    """Yield a warning for each split with labels that train lacks."""
    known = set(labels)
    if "train" not in splits or not known:
        return
    for split, records in splits.items():
        foreign: Counter[str] = Counter()
        for record in records:
            foreign.update(KINDS[kind].names_in(KINDS[kind].gold(record)) - known)
        if foreign:
            names = ", ".join(sorted(foreign)[:10]) + (", ..." if len(foreign) > 10 else "")
            rows = sum(foreign.values())
            yield (
                f"{split}: {rows:,} rows have labels that train lacks ({names}); they are kept and "
                "counted as wrong"
            )
