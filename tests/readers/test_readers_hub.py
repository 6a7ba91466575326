"""The hub's and Parquet's optional libraries: what is made of their rows, and what is said
where they are absent.
"""

import sys
import types

import pytest

from softcue.errors import RequestError
from softcue.readers import read_data


class FakeClassLabel:
    def __init__(self, names):
        self.names = names


class FakeRows(list):
    """Just what is used of datasets.Dataset."""

    def __init__(self, rows, features):
        super().__init__(rows)
        self.features = features

    def __getitem__(self, key):
        return [row[key] for row in self] if isinstance(key, str) else super().__getitem__(key)


def hub_of(monkeypatch, loaded):
    module = types.ModuleType("datasets")
    module.ClassLabel = FakeClassLabel
    module.load_dataset = loaded if callable(loaded) else lambda identity, config, revision: loaded
    monkeypatch.setitem(sys.modules, "datasets", module)


def test_hub_class_numbers_become_names_and_hidden_test_labels_are_left_out(monkeypatch):
    features = {"text": object(), "label": FakeClassLabel(["bad", "good"])}
    rows = FakeRows([{"text": "a", "label": 1}, {"text": "b", "label": 0}], features)
    hidden = FakeRows([{"text": "c", "label": -1}], features)
    hub_of(monkeypatch, {"train": rows, "validation": rows, "test": hidden})
    data = read_data("hf:someone/something")
    assert list(data.splits) == ["train", "dev"] and data.labels == ("bad", "good")
    assert data.splits["dev"][0].label == "good" and data.splits["dev"][0].where == "validation:1"
    assert data.warnings[0] == "test has no labels and is left out"


def test_a_hub_set_of_one_split_is_cut_like_a_single_file(monkeypatch):
    rows = FakeRows([{"text": f"t{n}", "label": "x"} for n in range(20)], {})
    hub_of(monkeypatch, {"train": rows})
    assert {split: len(records) for split, records in read_data("hf:a/b:c").splits.items()} == {
        "train": 16,
        "dev": 2,
        "test": 2,
    }


def test_hub_errors_name_the_set_and_an_absent_library_the_extra(monkeypatch):
    def broken(identity, config, revision):
        raise ConnectionError("no network\nand much more")

    hub_of(monkeypatch, broken)
    with pytest.raises(RequestError, match=r"hf:a/b could not be loaded \(no network\)"):
        read_data("hf:a/b")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(RequestError, match=r"install softcue\[hf\]"):
        read_data("hf:a/b")


def test_parquet_without_pyarrow_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "train.parquet").write_bytes(b"PAR1")
    with pytest.raises(RequestError, match=r"install softcue\[hf\]"):
        read_data(tmp_path)
