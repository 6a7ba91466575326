"""A folder of adapter folders answers like a bank, with one version of each, and sees what others change."""

import json
import os
import shutil
from pathlib import Path

import pytest

from softcue.adapter import Adapter
from softcue.adapter.folder import HEADER, TENSORS
from softcue.bank import AdapterFolders, Bank, Source, open_source
from softcue.errors import AdapterError, RequestError, UnknownAdapterError, WriteError
from tests.adapter.adapter_cases import make, same


@pytest.fixture(name="place")
def make_place(tmp_path: Path) -> Path:
    for name in ("ham", "spam", "Eggs"):
        make(seed=len(name)).save(tmp_path / "adapters" / name)
    return tmp_path / "adapters"


def test_names_are_found_in_order_and_loaded_to_the_bit(place: Path) -> None:
    folders = AdapterFolders(place)
    assert [entry.full_name for entry in folders.page()] == ["Eggs@1", "ham@1", "spam@1"]
    assert [entry.name for entry in folders.page(after="Eggs", limit=1)] == ["ham"]
    assert [entry.name for entry in folders.page(search="EGG")] == ["Eggs"]
    assert (folders.count(), folders.backbone, folders.fingerprint) == (3, "bert-tiny", "0f" * 32)
    entry = folders.find("spam")
    assert entry == folders.find("spam@1")
    assert (entry.method, entry.kind, entry.labels) == ("pasta", "classify", 2)
    assert entry.size == sum(file.stat().st_size for file in (place / "spam").iterdir())
    assert same(folders.load(entry), Adapter.load(place / "spam"))


@pytest.mark.parametrize("asked", ["toast", "spam@2", "spam@prod", "adapters"])
def test_what_is_not_there_is_unknown(asked: str, place: Path) -> None:
    folders = AdapterFolders(place)
    with pytest.raises(UnknownAdapterError):
        folders.find(asked)
    with pytest.raises(UnknownAdapterError):
        folders.remove(asked)


@pytest.mark.parametrize("asked", ["../adapters/spam", "spam/", ".", "", "spam@0"])
def test_what_is_no_name_is_refused(asked: str, place: Path) -> None:
    with pytest.raises(RequestError, match="is not an adapter's name"):
        AdapterFolders(place).find(asked)


def test_an_adapter_that_is_replaced_has_a_new_version_and_the_old_one_is_gone(place: Path) -> None:
    folders, other = AdapterFolders(place), AdapterFolders(place)
    old = other.find("spam")
    new = folders.add("spam", make("lora", seed=9))
    assert folders.find("spam") == new and new.method == "lora"
    assert other.find("spam").version == 2, "another object, as in another process, sees it at once"
    assert other.load(other.find("spam")).seed == 9
    with pytest.raises(UnknownAdapterError, match="one version"):
        other.load(old)
    with pytest.raises(UnknownAdapterError, match="one version"):
        other.find("spam@1")


def test_versions_go_on_counting_after_a_removal(place: Path) -> None:
    folders = AdapterFolders(place)
    assert [gone.full_name for gone in folders.remove("spam")] == ["spam@1"]
    assert not (place / "spam").exists() and folders.count() == 2
    with pytest.raises(UnknownAdapterError):
        folders.find("spam")
    assert folders.add("spam", make()).version == 2
    assert not [name for name in os.listdir(place) if name.startswith(".")], "nothing half-removed is left"


def test_what_another_process_adds_and_removes_is_seen(place: Path) -> None:
    folders = AdapterFolders(place)
    make().save(place / "toast")
    assert folders.find("toast").version == 1 and folders.count() == 4
    shutil.rmtree(place / "toast")
    with pytest.raises(UnknownAdapterError):
        folders.find("toast")


def test_a_broken_adapter_is_named_and_does_not_stop_the_others(place: Path) -> None:
    (place / "Eggs" / HEADER).write_text("{")
    (place / "ham" / TENSORS).unlink()
    folders = AdapterFolders(place)
    assert folders.backbone == "bert-tiny"
    assert [entry.name for entry in folders.page()] == ["ham", "spam"]
    with pytest.raises(AdapterError, match=r"Eggs/adapter_config\.json"):
        folders.find("Eggs")
    with pytest.raises(AdapterError, match=r"ham/adapter_model\.safetensors"):
        folders.load(folders.find("ham"))
    folders.load(folders.find("spam"))
    with pytest.raises(WriteError, match="has files that are not"):
        folders.add("Eggs", make())


def test_adapters_of_another_backbone_and_checkpoints_are_refused_by_name(place: Path) -> None:
    make(fingerprint="0e" * 32).save(place / "toast")
    make("probe", tuned="full", backbone="./encoder").save(place / "whole")
    folders = AdapterFolders(place)
    assert [entry.name for entry in folders.page()] == ["Eggs", "ham", "spam"]
    with pytest.raises(AdapterError, match="'toast' was trained for bert-tiny"):
        folders.find("toast")
    with pytest.raises(AdapterError, match="tuned in full"):
        folders.find("whole")
    with pytest.raises(AdapterError, match="'jam' was trained for"):
        folders.add("jam", make(fingerprint="0e" * 32))
    with pytest.raises(AdapterError, match="tuned in full"):
        folders.add("jam", make("probe", tuned="full", backbone="./encoder"))
    assert not (place / "jam").exists()


def test_a_folder_with_something_of_others_is_neither_removed_nor_replaced(place: Path) -> None:
    (place / "spam" / "thesis.txt").write_text("precious")
    folders = AdapterFolders(place)
    with pytest.raises(WriteError, match="has files that are not"):
        folders.remove("spam")
    with pytest.raises(WriteError, match="has files that are not"):
        folders.add("spam", make())
    assert (place / "spam" / "thesis.txt").read_text() == "precious"
    assert folders.find("spam").version == 1


def test_a_link_to_another_place_is_read_but_not_written_through(place: Path, tmp_path: Path) -> None:
    make(seed=4).save(tmp_path / "elsewhere")
    (place / "link").symlink_to(tmp_path / "elsewhere")
    folders = AdapterFolders(place)
    assert folders.load(folders.find("link")).seed == 4
    for write in (lambda: folders.remove("link"), lambda: folders.add("link", make())):
        with pytest.raises(WriteError, match="is a link"):
            write()
    assert Adapter.load(tmp_path / "elsewhere").seed == 4


def test_aliases_want_a_bank(place: Path) -> None:
    with pytest.raises(RequestError, match="softcue bank add"):
        AdapterFolders(place).alias("spam", "prod", 1)


def test_opening_reads_no_numbers(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unread(*_: object) -> None:
        raise AssertionError("numbers were read")

    monkeypatch.setattr("softcue.adapter.store.read_tensors", unread)
    folders = AdapterFolders(place)
    assert folders.backbone and len(folders.page()) == 3


def test_a_header_is_read_once_while_it_stays(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = AdapterFolders(place)
    entry = folders.find("spam")
    monkeypatch.setattr("softcue.bank.folders.read_header", None)
    assert folders.find("spam") is entry


def test_an_adapter_that_a_crash_left_aside_is_found(place: Path) -> None:
    (place / "spam").rename(place / ".spam.softcue-aside")
    assert AdapterFolders(place).find("spam").version == 1


def test_open_source_knows_what_is_there(place: Path, tmp_path: Path) -> None:
    with Bank.create(tmp_path / "bank") as bank:
        bank.add("spam", make())
    (tmp_path / "empty").mkdir()
    sources: dict[str, Source] = {
        name: open_source(tmp_path / name) for name in ("bank", "adapters", "adapters/spam", "empty")
    }
    assert [type(source).__name__ for source in sources.values()] == ["Bank", *["AdapterFolders"] * 3]
    found = [[entry.name for entry in source.page()] for source in sources.values()]
    assert found == [["spam"], ["Eggs", "ham", "spam"], ["spam"], []]
    assert (sources["empty"].backbone, sources["empty"].count()) == ("", 0)
    assert sources["empty"].add("toast", make()).full_name == "toast@1"
    assert sources["empty"].fingerprint == "0f" * 32


def test_a_single_adapter_is_a_source_of_one(place: Path) -> None:
    source = open_source(place / "spam")
    assert source.count() == 1 and source.load(source.find("spam")).seed == 4
    with pytest.raises(UnknownAdapterError):
        source.find("ham")
    with pytest.raises(RequestError, match="is a single adapter"):
        source.add("ham", make())
    assert source.add("spam", make(seed=8)).version == 2


@pytest.mark.parametrize("what", ["nothing", "a file", "other things", "a name that cannot be"])
def test_open_source_says_what_was_expected(what: str, place: Path) -> None:
    path = place / what
    if what == "a file":
        path.write_text("precious")
    elif what == "other things":
        path.mkdir()
        (path / "thesis.txt").write_text(json.dumps("precious"))
    elif what == "a name that cannot be":
        make().save(path)
    with pytest.raises(RequestError, match="expected a"):
        open_source(path)
