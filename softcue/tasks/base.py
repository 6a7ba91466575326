"""Task: one benchmark entry, as data; where its files are found, how its rows read and how it is scored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from softcue.errors import DataError, RequestError
from softcue.readers import DATA_KINDS, SPLITS, Data, Hub, RawRow, RowTemplate, Shape, read_folder, read_hub
from softcue.scoring.metrics import METRICS


@dataclass(frozen=True)
class Task:
    """A benchmark entry."""

    name: str  # "glue/sst2"
    kind: str
    metrics: tuple[str, ...]  # the official ones, the one that selects first
    # a row as published, or as a folder of ours holds it -> rows under our own field names
    template: RowTemplate
    folders: tuple[str, ...]  # names under the data root, the first that exists
    hub: Hub | None = None
    positive: str | None = None  # the label that F1 is measured on
    extra_columns: tuple[str, ...] = ()  # keys of the template's rows that records carry along
    # of the official splits with labels; fewer is a subset
    rows: Mapping[str, int] = field(default_factory=dict)
    # folder -> how the known incomplete copy of that name was made
    subsets: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        wrong = [name for name in self.metrics if name not in METRICS]
        if self.kind not in DATA_KINDS or wrong or not self.metrics:
            raise DataError(
                f"task {self.name!r} has kind {self.kind!r} and metrics {self.metrics}; "
                f"expected a kind of {', '.join(DATA_KINDS)} and metrics of {', '.join(METRICS)}"
            )


_TASKS: dict[str, Task] = {}


def register(task: Task) -> Task:
    """Add a task to those that can be named; a name that is taken is refused."""
    if _TASKS.get(task.name, task) != task:
        raise DataError(f"there is a task {task.name!r} already; give the new one another name")
    _TASKS[task.name] = task
    return task


def forget(name: str) -> None:
    """Take a task away again."""
    del _TASKS[name]


def all_tasks() -> tuple[Task, ...]:
    """Return every task, in the order of registration."""
    return tuple(_TASKS.values())


def find_task(name: str) -> Task | None:
    """Return the task of that name; the suite may be left out.

    "sst2" is enough; where two suites have it, the first is meant.
    """
    if name in _TASKS:
        return _TASKS[name]
    return next((task for task in _TASKS.values() if task.name.rpartition("/")[2] == name), None)


def present(task: Task, root: Path | None) -> Path | None:
    """Return the task's folder under the data root, if it is there."""
    if root is None:
        return None
    return next((root / folder for folder in task.folders if (root / folder).is_dir()), None)


def load(
    task: Task,
    root: Path | None,
    *,
    seed: int = 0,
    limit: Mapping[str, int] | None = None,
    splits: Sequence[str] = SPLITS,
) -> Data:
    """Read a task from its folder under the data root, else from the hub.

    An incomplete copy is named a subset.
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
    """Turn a request in a benchmark's published fields into its text, pair or choices.

    The benchmark's template makes them.

    A name without a task, or fields that are ours already, leave the request as it is. Raises RequestError
    where it reads as neither.
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
    return {key: value for key, value in rows[0].items() if key not in ("label", "tags")}


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
    return f"subset of {task.name} ({', '.join(short)})" + (f": {known}" if known else "")


def single(field_name: str = "text") -> RowTemplate:
    """Make a template: one text, in the published field or in ours."""

    def template(raw: RawRow) -> list[RawRow]:
        return [{"text": raw["text"] if "text" in raw else raw[field_name], "label": raw.get("label")}]

    return template


def pair(first: str, second: str) -> RowTemplate:
    """Make a template: two texts, in the published fields or in ours; true and false as words."""

    def template(raw: RawRow) -> list[RawRow]:
        ours = "text_pair" in raw
        return [
            {
                "text": raw["text" if ours else first],
                "text_pair": raw["text_pair" if ours else second],
                "label": truth(raw.get("label")),
            }
        ]

    return template


def tagged(tokens: str = "tokens", tags: str = "tags", names: Sequence[str] = ()) -> RowTemplate:
    """Make a template: tagged words, in the published fields or in ours.

    `names`: where the hub has numbers for tags.
    """

    def template(raw: RawRow) -> list[RawRow]:
        given = raw["tags"] if "tags" in raw else raw[tags]
        return [
            {
                "tokens": raw[tokens],
                "tags": [names[tag] if isinstance(tag, int) and names else tag for tag in given],
            }
        ]

    return template


def truth(label: object) -> object:
    """Return True and False, as the hub names them, in the spelling of our folders."""
    return label.lower() if label in ("True", "False") and isinstance(label, str) else label
