"""Task: where a benchmark's files are, how its rows are read, and how it is scored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from softcue.errors import DataError, RequestError
from softcue.kinds import KINDS
from softcue.readers import SPLITS, Data, Hub, RawRow, RowTemplate, Shape, read_folder, read_hub
from softcue.scoring.metrics import METRICS


@dataclass(frozen=True)
class Task:
    """Describes one benchmark."""

    name: str  # "glue/sst2"
    kind: str
    metrics: tuple[str, ...]  # the official ones; the first one chooses the best step
    # turns a row with the published fields, or a row of our own folders, into rows with our field names
    template: RowTemplate
    folders: tuple[str, ...]  # names under the data root; the first that exists is read
    hub: Hub | None = None
    positive: str | None = None  # the label whose F1 is measured
    extra_columns: tuple[str, ...] = ()  # other keys of the template's rows that records keep
    # number of rows of the official splits that have labels; data with fewer rows are a subset
    rows: Mapping[str, int] = field(default_factory=dict)
    # folder name -> how the known incomplete copy of that name was made
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
    """Register a task, so that it can be opened by name, and return it.

    Raises DataError if another task has the name.
    """
    if _TASKS.get(task.name, task) != task:
        raise DataError(f"there already is a task {task.name!r}; give the new one another name")
    _TASKS[task.name] = task
    return task


def forget(name: str) -> None:
    """Remove a registered task."""
    del _TASKS[name]


def all_tasks() -> tuple[Task, ...]:
    """Return every task, in the order of registration."""
    return tuple(_TASKS.values())


def find_task(name: str) -> Task | None:
    """Return the task of that name, or None.

    The suite may be left out, as in "sst2"; if several suites have such a task, the first one is returned.
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

    Data from an incomplete copy are marked as a subset. Raises RequestError if the task cannot be read.
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
    """Turn a request with a benchmark's published fields into one with our fields: text, pair or choices.

    A request is returned unchanged if there is no task of that name, or if it already has our fields. Raises
    RequestError if it has neither our fields nor the published ones.
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
            f"is not a row of {name} ({type(error).__name__}: {error}); give the benchmark's published fields"
        ) from error
    if len(rows) != 1:
        raise DataError(
            f"becomes {len(rows)} rows of {name}; give text and text_pair instead, one request for each row"
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
    """Return the template for rows with one text, in the published field or in ours."""

    def template(raw: RawRow) -> list[RawRow]:
        text = raw["text"] if "text" in raw else raw[field_name]
        return [{"text": text, "label": raw.get("label")}]

    return template


def pair(first: str, second: str) -> RowTemplate:
    """Return the template for rows with two texts, in the published fields or in ours.

    The labels true and false are written in lower case.
    """

    def template(raw: RawRow) -> list[RawRow]:
        names = ("text", "text_pair") if "text_pair" in raw else (first, second)
        text, text_pair = (raw[name] for name in names)
        return [{"text": text, "text_pair": text_pair, "label": truth(raw.get("label"))}]

    return template


def tagged(tokens: str = "tokens", tags: str = "tags", names: Sequence[str] = ()) -> RowTemplate:
    """Return the template for rows of tagged words, in the published fields or in ours.

    names: the tags' names, if the hub's tags are numbers.
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
