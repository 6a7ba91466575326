"""Tables in memory: DataFrames, Datasets, lists of objects, columns and pairs give the records of a file."""

from typing import Any

import pytest

from softcue.errors import RequestError
from softcue.readers.tables import plain, requests_of
from softcue.tasks import open_data

ROWS = [{"text": f"text {n}", "label": "yes" if n % 3 else "no"} for n in range(20)]
TEXTS, LABELS = [row["text"] for row in ROWS], [row["label"] for row in ROWS]


def frame(kind: str, rows: list[dict[str, Any]]) -> Any:
    if kind == "pandas":
        return pytest.importorskip("pandas").DataFrame(rows)
    if kind == "polars":
        return pytest.importorskip("polars").DataFrame(rows)
    if kind == "arrow":
        return pytest.importorskip("pyarrow").Table.from_pylist(rows)
    if kind == "dataset":
        return pytest.importorskip("datasets").Dataset.from_list(rows)
    if kind == "columns":
        return {key: [row[key] for row in rows] for key in rows[0]}
    return rows if kind == "list" else tuple([row[key] for row in rows] for key in ("text", "label"))


KINDS = ("pandas", "polars", "arrow", "dataset", "columns", "list", "pair")


def everything(data: Any) -> list[tuple[Any, Any, str]]:
    rows = [record for records in data.splits.values() for record in records]
    return sorted(((r.text, r.label, r.where) for r in rows), key=lambda row: int(row[2].split(":")[1]))


@pytest.mark.parametrize("kind", KINDS)
def test_every_table_gives_the_rows_of_a_file_and_is_split_like_one(kind: str) -> None:
    table = frame(kind, ROWS)
    data = open_data(table, seed=1)
    name = type(table).__name__
    expected = [(row["text"], row["label"], f"{name}:{n}") for n, row in enumerate(ROWS, start=1)]
    assert everything(data) == expected
    assert {split: len(rows) for split, rows in data.splits.items()} == {"train": 16, "dev": 2, "test": 2}
    assert open_data(table, seed=1, splits=("test",)).splits["test"] == data.splits["test"]
    assert "is a single table; split by seed 1" in data.warnings[0]


@pytest.mark.parametrize("kind", KINDS)
def test_tables_by_split_are_known_by_the_usual_names(kind: str) -> None:
    tables = {"train": frame(kind, ROWS), "validation": frame(kind, ROWS[:5])}
    data = open_data(tables)
    assert {split: len(rows) for split, rows in data.splits.items()} == {"train": 20, "dev": 5}
    assert data.splits["dev"][4].where == "validation:5"
    assert len(open_data({"test": frame(kind, ROWS[:4])}, splits=("test",)).splits["test"]) == 4


def test_a_dataset_dict_is_read_with_the_names_of_its_classes() -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "tokens": datasets.Sequence(datasets.Value("string")),
            "ner_tags": datasets.Sequence(datasets.ClassLabel(names=["O", "B-PER"])),
        }
    )
    rows = datasets.Dataset.from_list([{"tokens": ["a", "b"], "ner_tags": [1, 0]}] * 3, features=features)
    data = open_data(datasets.DatasetDict(train=rows, test=rows))
    assert data.splits["test"][0].tags == ("B-PER", "O") and list(data.splits) == ["train", "test"]


@pytest.mark.parametrize("kind", ["pandas", "polars", "dataset", "list"])
def test_missing_values_are_counted_by_column_and_never_dropped(kind: str) -> None:
    rows = [*ROWS, {"text": None, "label": "yes"}, {"text": "a", "label": None}, {"text": "b", "label": None}]
    with pytest.raises(RequestError, match="missing values by column: 'label' 2, 'text' 1") as caught:
        open_data(frame(kind, rows))
    assert f"{type(frame(kind, rows)).__name__}:21: text is empty" in str(caught.value)


def test_every_sort_of_missing_value_is_none_and_values_are_plain() -> None:
    pandas = pytest.importorskip("pandas")
    numpy = pytest.importorskip("numpy")
    for value in (None, float("nan"), numpy.nan, numpy.float32("nan"), pandas.NA, pandas.NaT):
        assert plain(value) is None
    for given, expected in (
        (numpy.int64(3), 3),
        (numpy.float32(0.5), 0.5),
        (numpy.bool_(True), True),
        (numpy.str_("a"), "a"),
        (numpy.array([1, 2]), [1, 2]),
        (("a", ["b"]), ["a", ["b"]]),
        ({"a": numpy.array(["b"])}, {"a": ["b"]}),
    ):
        assert plain(given) == expected and type(plain(given)) is type(expected)


def test_a_frame_of_pandas_own_types_is_read() -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"Text": TEXTS, "label": LABELS})
    table["label"] = table["label"].astype("category")
    table["Text"] = table["Text"].astype("string")
    table.index = range(100, 120)
    assert [row[0] for row in everything(open_data(table))] == TEXTS
    numbers = pandas.DataFrame({0: TEXTS, 1: [n / 3 for n in range(20)]})
    assert open_data(numbers, columns={"text": "0", "label": "1"}).kind == "score"


def test_tags_come_as_arrays_too() -> None:
    numpy = pytest.importorskip("numpy")
    rows = [{"tokens": numpy.array(["a", "b"]), "tags": numpy.array([1, 0])}] * 4
    data = open_data(rows, columns={"tag_names": "O,B-X"})
    assert data.splits["train"][0].tags == ("B-X", "O")


@pytest.mark.parametrize(
    "value", [3, object(), ["text"], [{"text": "a"}, "b"], {"train": 3}, b"ab", {}, None]
)
def test_what_is_no_table_is_refused(value: Any) -> None:
    with pytest.raises(RequestError, match="came as data; expected a path"):
        open_data(value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ((TEXTS, LABELS[:-1]), "tuple has columns of different lengths .20 of text, 19 of label."),
        ({"text": TEXTS, "label": LABELS[:3]}, "dict has columns of different lengths"),
        ([], "list:1: the table has no rows"),
        ({"text": [], "label": []}, "dict:1: the table has no rows"),
        ({"train": ROWS, "test": []}, "test:1: the table has no rows"),
        ({"first": ROWS, "second": ROWS}, "has no train or dev or test split; it has first, second"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused(value: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        open_data(value)


def test_two_columns_of_one_name_are_refused() -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame([["a", "b", "x"]] * 4, columns=["text", "text", "label"])
    with pytest.raises(RequestError, match="DataFrame has two columns 'text'"):
        open_data(table)


@pytest.mark.parametrize("kind", ["pandas", "polars", "arrow", "dataset", "columns", "list"])
def test_requests_are_rows_of_any_table(kind: str) -> None:
    assert list(requests_of(frame(kind, ROWS))) == ROWS
    assert requests_of(["a", "b"]) == [{"text": "a"}, {"text": "b"}]
