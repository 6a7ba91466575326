"""Task: where a benchmark's files are found, how its rows are read, and how it is scored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from softcue.errors import DataError, RequestError
from softcue.kinds import KINDS
from softcue.readers import SPLITS, Data, Hub, RawRow, RowTemplate, Shape, read_folder, read_hub
from softcue.scoring.metrics import METRICS


@dataclass(frozen=True)
class Task:
    """One benchmark, as data."""

    name: str  # "glue/sst2"
    kind: str
    metrics: tuple[str, ...]  # the official ones, the one that selects first
    # a row as published, or as a folder of ours holds it -> rows under our own field names
    template: RowTemplate
    folders: tuple[str, ...]  # names under the data root, the first that exists
    hub: Hub | None = None
    positive: str | None = None  # the label that F1 is measured on
    extra_columns: tuple[str, ...] = ()  # keys of the template's rows that records carry along
    # how many rows the official splits with labels have; data with fewer are a subset
    rows: Mapping[str, int] = field(default_factory=dict)
    # folder -> how the known incomplete copy of that name was made
    subsets: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        wrong = [name for name in self.metrics if name not in METRICS]
        if self.kind not in KINDS or wrong or not self.metrics:
            raise DataError(
                f"task {self.name!r} has kind {self.kind!r} and metrics {self.metrics}; "
                f"expected a kind of {', '.join(KINDS)} and metrics of {', '.join(METRICS)}"
            )


_TASKS: dict[str, Task] = {}


def register(task: Task) -> Task:
    """Add a task to those that can be opened by name, and return it.

    Raises RequestError if another task has the name.
    """
    if _TASKS.get(task.name, task) != task:
        raise DataError(f"there is a task {task.name!r} already; give the new one another name")
    _TASKS[task.name] = task
    return task


def forget(name: str) -> None:
    """Remove a task that was registered."""
    del _TASKS[name]


def all_tasks() -> tuple[Task, ...]:
    """Return every task, in the order of registration."""
    return tuple(_TASKS.values())


def find_task(name: str) -> Task | None:
    """Return the task of that name, or None.

    The suite may be left out, as in "sst2"; if two suites have such a task, it is the first of them.
    """
    if name in _TASKS:
        return _TASKS[name]
    without_suite = [task for task in _TASKS.values() if task.name.rpartition("/")[2] == name]
    return without_suite[0] if without_suite else None


def present(task: Task, root: Path | None) -> Path | None:
    """Return the task's folder under the data root, or None if it is not there."""
    if root is None:
        return None
    for folder in task.folders:
        if (root / folder).is_dir():
            return root / folder
    return None


def load(
    task: Task,
    root: Path | None,
    *,
    seed: int = 0,
    limit: Mapping[str, int] | None = None,
    splits: Sequence[str] = SPLITS,
) -> Data:
    """Read a task from its folder under the data root, or else from the hub.

    The data of an incomplete copy say that they are a subset. Raises RequestError.
    """
    shape = Shape(kind=task.kind, extra_columns=task.extra_columns, template=task.template)
    folder = present(task, root)
    if folder is not None:
        data = read_folder(folder, shape, name=task.name, seed=seed, limit=limit, splits=splits)
    elif task.hub is not None:
        try:
            data = read_hub(task.hub, shape, name=task.name, seed=seed, limit=limit, splits=splits)
        except RequestError as error:
            raise DataError(f"{_absent(task, root)}, and from the hub: {error}") from error
    else:
        raise DataError(f"{_absent(task, root)}, and it is not on the hub")
    note = _subset(task, data, task.subsets.get(folder.name) if folder is not None else None)
    return replace(data, metrics=task.metrics, positive=task.positive, subset=note)


def inputs_of(name: str, raw: RawRow) -> RawRow:
    """Turn a request in a benchmark's published fields into our own: text, pair or choices.

    A request is returned as it is if there is no task of that name, or if it has our own fields already.
    Raises RequestError for one that has neither.
    """
    task = _TASKS.get(name)
    if task is None:
        return raw
    try:
        rows = list(task.template({"label": None, **raw}))
    except (KeyError, TypeError, IndexError, ValueError, AttributeError) as error:
        if "text" in raw or "tokens" in raw:
            return raw
        raise DataError(
            f"does not read as a row of {name} ({type(error).__name__}: {error}); give its published fields"
        ) from error
    if len(rows) != 1:
        raise DataError(
            f"makes {len(rows)} rows of {name}; give text and text_pair instead, one request for each"
        )
    return {key: value for key, value in rows[0].items() if key not in ("label", "labels", "tags")}


def _absent(task: Task, root: Path | None) -> str:
    return (
        f"{task.name} is not under the data root ({root or 'none was given'}; expected folder "
        f"{' or '.join(task.folders)})"
    )


def _subset(task: Task, data: Data, known: str | None) -> str | None:
    short = [
        f"{split} {len(data.splits[split]):,} of {count:,} rows"
        for split, count in task.rows.items()
        if split in data.splits and len(data.splits[split]) < count
    ]
    if not short:
        return None
    note = f"subset of {task.name} ({', '.join(short)})"
    return f"{note}: {known}" if known else note


def single(field_name: str = "text") -> RowTemplate:
    """Return the template of one text, in the published field or in ours."""

    def template(raw: RawRow) -> list[RawRow]:
        text = raw["text"] if "text" in raw else raw[field_name]
        return [{"text": text, "label": raw.get("label")}]

    return template


def pair(first: str, second: str) -> RowTemplate:
    """Return the template of two texts, in the published fields or in ours.

    The labels true and false are words in lower case.
    """

    def template(raw: RawRow) -> list[RawRow]:
        names = ("text", "text_pair") if "text_pair" in raw else (first, second)
        text, text_pair = (raw[name] for name in names)
        return [{"text": text, "text_pair": text_pair, "label": truth(raw.get("label"))}]

    return template


def tagged(tokens: str = "tokens", tags: str = "tags", names: Sequence[str] = ()) -> RowTemplate:
    """Return the template of tagged words, in the published fields or in ours.

    names: of the tags, if the hub's tags are numbers.
    """

    def template(raw: RawRow) -> list[RawRow]:
        given = raw["tags"] if "tags" in raw else raw[tags]
        named = [names[tag] if isinstance(tag, int) and names else tag for tag in given]
        return [{"tokens": raw[tokens], "tags": named}]

    return template


def truth(label: object) -> object:
    """Return the hub's "True" and "False" in the spelling of our folders, and other labels as they are."""
    if isinstance(label, str) and label in ("True", "False"):
        return label.lower()
    return label
