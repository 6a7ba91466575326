"""A bank gives back what was added to the bit, by name, version and alias, or says what is wrong."""

import json
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from softcue.adapter import Adapter
from softcue.bank import Bank
from softcue.bank.bank import INDEX, LOCK
from softcue.bank.lock import only_writer
from softcue.bank.record import to_record
from softcue.bank.writing import Fresh
from softcue.cues import Cue
from softcue.errors import AdapterError, RequestError, UnknownAdapterError, WriteError
from softcue.protocol import Dims
from tests.adapter.adapter_cases import DIMS, make, same

KINDS = {
    "classify": {"labels": ("a", "b")},
    "tag": {"kind": "tag", "labels": ("O", "B-X")},
    "score": {"kind": "score", "labels": (), "centre": 2.5, "spread": 0.5},
    "choice": {"kind": "choice", "labels": ()},
    "multilabel": {"kind": "multilabel", "labels": ("a", "b"), "threshold": 0.25},
}


@pytest.fixture(name="bank")
def make_bank(tmp_path: Path) -> Iterator[Bank]:
    with Bank.create(tmp_path / "bank") as bank:
        yield bank


@pytest.fixture
def small_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slabs that a few adapters fill."""
    monkeypatch.setattr("softcue.bank.writing.SLAB_LIMIT", 20_000)


def of_kind(kind: str, method: str = "pasta") -> Adapter:
    made = make(method, **KINDS[kind])
    if made.labels:
        return made
    return replace(made, head={name: tensor[:1].clone() for name, tensor in made.head.items()})


def slab_of(bank: Bank) -> Path:
    (slab,) = bank.slabs.there()
    return bank.slabs.file(slab)


def flip(file: Path, at: int) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("method", sorted(Cue.registry))
@pytest.mark.parametrize("kind", KINDS)
def test_every_method_and_kind_comes_back_to_the_bit(method: str, kind: str, bank: Bank) -> None:
    adapter = of_kind(kind, method)
    entry = bank.add("spam", adapter)
    assert (entry.name, entry.version, entry.method, entry.kind) == ("spam", 1, method, kind)
    assert entry.labels == len(adapter.labels)
    assert entry == bank.find("spam") == bank.find("spam@1")
    assert same(bank.load(entry), adapter)
    assert same(bank.load_checked(entry), adapter)
    assert bank.verify().to_json() == {"checked": 1, "damaged": []}


def test_different_methods_stand_side_by_side(bank: Bank, tmp_path: Path) -> None:
    adapters = {method: make(method) for method in sorted(Cue.registry)}
    entries = bank.add_all(adapters.items())
    assert [entry.name for entry in entries] == list(adapters)
    with Bank(bank.path) as other:
        assert (other.backbone, other.fingerprint) == ("bert-tiny", "0f" * 32)
        for entry in entries:
            assert same(other.load(entry), adapters[entry.name])
            assert same(Adapter.load(other.export(entry.name, tmp_path / entry.name)), adapters[entry.name])


def test_versions_count_up_and_aliases_move(bank: Bank) -> None:
    adapters = [make(seed=seed) for seed in (1, 2, 3)]
    for adapter in adapters:
        bank.add("spam", adapter)
    assert bank.find("spam").version == 3
    assert bank.alias("spam", "prod", 2).aliases == ("prod",)
    assert bank.alias("spam", "best", 2).aliases == ("best", "prod")
    assert same(bank.load(bank.find("spam@prod")), adapters[1])
    bank.alias("spam", "prod", 1)
    assert bank.find("spam@prod").version == 1
    assert bank.find("spam@2").aliases == ("best",)
    assert bank.alias("spam", "best", None).full_name == "spam@2"
    assert [entry.full_name for entry in bank.versions("spam")] == ["spam@3", "spam@2", "spam@1"]
    with pytest.raises(UnknownAdapterError, match="no version has the alias 'best'"):
        bank.find("spam@best")
    with pytest.raises(UnknownAdapterError, match="no version 4 yet"):
        bank.alias("spam", "prod", 4)
    with pytest.raises(UnknownAdapterError):
        bank.alias("spam", "other", None)
    with pytest.raises(UnknownAdapterError):
        bank.alias("eggs", "prod", 1)
    assert bank.find("spam@prod").version == 1, "what is refused changes nothing"


def test_what_was_removed_is_an_error_and_its_number_is_not_given_again(bank: Bank) -> None:
    for _ in range(3):
        bank.add("spam", make())
    bank.alias("spam", "prod", 3)
    entry = bank.find("spam")
    assert [gone.full_name for gone in bank.remove("spam@prod")] == ["spam@3"]
    assert bank.find("spam").version == 2
    with pytest.raises(UnknownAdapterError, match="version 3 was removed; the newest is spam@2"):
        bank.find("spam@3")
    with pytest.raises(UnknownAdapterError, match="prod"):
        bank.find("spam@prod")
    with pytest.raises(UnknownAdapterError, match="version 3 was removed"):
        bank.load(entry)
    assert bank.add("spam", make()).version == 4
    assert [gone.version for gone in bank.remove("spam")] == [4, 2, 1]
    assert bank.count() == 0 and bank.page() == []
    for call in (bank.find, bank.remove, bank.versions):
        with pytest.raises(UnknownAdapterError, match="'spam' was removed"):
            call("spam")
    assert bank.add("spam", make()).version == 5
    assert bank.count() == 1


@pytest.mark.parametrize(
    "asked", ["", "@1", "../x", "a/b", "spam@", "spam@0", "spam@-1", "a b", "spam@1@2", None]
)
def test_what_is_no_name_is_refused(asked: str, bank: Bank) -> None:
    bank.add("spam", make())
    with pytest.raises(RequestError):
        bank.find(asked)
    with pytest.raises(RequestError):
        bank.add(asked, make())
    assert bank.count() == 1


def test_an_alias_that_looks_like_a_version_is_refused(bank: Bank) -> None:
    bank.add("spam", make())
    for alias in ("1", "", "a b", "x" * 40):
        with pytest.raises(RequestError, match="is not an alias"):
            bank.alias("spam", alias, 1)


def test_adapters_of_another_backbone_are_refused_and_nothing_is_stored(bank: Bank) -> None:
    bank.add("spam", make())
    with pytest.raises(AdapterError, match=r"'eggs' was trained for bert-tiny.*a bank for bert-tiny"):
        bank.add("eggs", make(fingerprint="0e" * 32))
    wide = Dims(**{**{f: getattr(DIMS, f) for f in DIMS.__dataclass_fields__}, "ff": 48})
    with pytest.raises(AdapterError, match="ff 48"):
        bank.add_all([("ham", make()), ("eggs", make(dims=wide))])
    assert [entry.name for entry in bank.page()] == ["spam"]
    bank.add("eggs", make(backbone="another/name"))


def test_a_fine_tuned_checkpoint_is_refused(bank: Bank) -> None:
    with pytest.raises(AdapterError, match="tuned in full"):
        bank.add("spam", make("probe", tuned="full", backbone="./encoder"))
    assert bank.backbone == bank.fingerprint == ""


def test_an_adapter_that_cannot_be_saved_is_refused(bank: Bank) -> None:
    broken = make()
    broken = replace(broken, head={**broken.head, "bias": torch.full((2,), torch.nan)})
    with pytest.raises(AdapterError, match="not finite"):
        bank.add("spam", broken)
    assert bank.count() == 0


def test_pages_go_over_five_thousand_names_in_order(bank: Bank) -> None:
    adapter = make()
    record = to_record(adapter.to_files("here"))
    names = [f"{'Team' if at % 7 else 'ops'}-{at:04}" for at in range(5000)]
    bank._store([Fresh(name, adapter, record) for name in names])
    bank._store([Fresh(name, adapter, record) for name in names[:10]])
    names.sort()
    seen, after = [], ""
    while page := bank.page(after, 700):
        seen += [entry.name for entry in page]
        after = page[-1].name
    assert seen == names and bank.count() == 5000
    found = [entry.name for entry in bank.page("team-1", 5, "EAM-2")]
    assert found == []
    found = [entry.name for entry in bank.page("Team-1", 5, "EAM-2")]
    assert found == [name for name in names if name > "Team-1" and "eam-2" in name][:5]
    assert [entry.full_name for entry in bank.page("Team-0000", 1)] == ["Team-0001@2"]
    for limit in (0, -1, 10**6):
        with pytest.raises(RequestError, match="limit"):
            bank.page(limit=limit)


def test_a_page_is_found_by_the_index_and_not_by_sorting(bank: Bank) -> None:
    from softcue.bank.lookup import NEXT

    with bank.index.reading() as index:
        plan = " ".join(str(row[3]) for row in index.execute(f"EXPLAIN QUERY PLAN {NEXT}", ("", "", 9)))
    assert "SEARCH n USING" in plan and "SEARCH v USING" in plan
    assert "TEMP B-TREE" not in plan


@pytest.mark.parametrize("where", ["first", "frame", "header", "numbers", "last"])
def test_a_damaged_byte_is_an_error_and_is_named(where: str, bank: Bank) -> None:
    for name in ("ham", "spam", "eggs"):
        bank.add(name, make("lora"))
    size = bank.find("spam").size
    at = {"first": 0, "frame": 12, "header": 100, "numbers": size - 2000, "last": size - 1}[where]
    flip(slab_of(bank), bank.find("ham").size + at)
    with pytest.raises(AdapterError, match=r"bank: spam@1 is damaged: its bytes in .*000001\.slab"):
        bank.load(bank.find("spam"))
    for name in ("ham", "eggs"):
        bank.load(bank.find(name))
    found = bank.verify()
    assert found.checked == 3
    assert [damage.name for damage in found.damaged] == ["spam@1"]


def test_a_slab_cut_short_or_lost_is_an_error_and_the_bank_can_go_on(bank: Bank) -> None:
    bank.add_all([("ham", make()), ("spam", make())])
    slab = slab_of(bank)
    slab.write_bytes(slab.read_bytes()[:-10])
    bank.load(bank.find("ham"))
    with pytest.raises(AdapterError, match="ends 10 bytes too early"):
        bank.load(bank.find("spam"))
    entry = bank.add("spam", make("lora"))
    assert same(bank.load(entry), bank.load_checked(entry))
    slab.unlink()
    with pytest.raises(AdapterError, match=r"ham@1 is damaged: .*000001\.slab is missing"):
        bank.load(bank.find("ham"))
    assert [damage.name for damage in bank.verify().damaged] == ["ham@1", "spam@1"]
    bank.load(bank.add("eggs", make()))


def test_a_record_of_another_adapter_is_not_taken(bank: Bank) -> None:
    """An index that points to a sound record of somebody else's."""
    bank.add_all([("ham", make(seed=1)), ("spam", make(seed=2))])
    with sqlite3.connect(bank.path / INDEX) as index:
        index.execute("UPDATE versions SET start = 0 WHERE name = 'spam'")
    index.close()
    with pytest.raises(AdapterError, match="spam@1 is damaged"):
        bank.load(bank.find("spam"))


def test_a_damaged_index_is_an_error_in_words(bank: Bank) -> None:
    bank.add("spam", make())
    bank.close()
    (bank.path / INDEX).write_bytes(b"precious" * 1000)
    with pytest.raises(AdapterError, match="index cannot be read"):
        Bank(bank.path)
    with pytest.raises(AdapterError, match="index cannot be read"):
        bank.find("spam")
    with pytest.raises(WriteError, match="cannot be written"):
        bank.add("spam", make())


def test_what_is_no_bank_is_not_opened_and_not_written_over(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"is not a bank.*softcue bank add"):
        Bank(tmp_path / "nowhere")
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(WriteError, match=r"thesis\.txt"):
        Bank.create(tmp_path)
    with pytest.raises(WriteError, match="cannot make a bank"):
        Bank.create(tmp_path / "thesis.txt")
    sqlite3.connect(tmp_path / INDEX).execute("CREATE TABLE mine (x)").connection.close()
    with pytest.raises(RequestError, match="is not the index of a softcue bank"):
        Bank(tmp_path)


def test_a_bank_of_a_later_format_says_so(bank: Bank) -> None:
    with sqlite3.connect(bank.path / INDEX) as index:
        index.execute("PRAGMA user_version = 2")
    index.close()
    with pytest.raises(RequestError, match="has format 2; this softcue reads 1"):
        Bank(bank.path)


def test_creating_again_opens_what_is_there(bank: Bank) -> None:
    bank.add("spam", make())
    with Bank.create(bank.path) as again:
        assert again.count() == 1


@pytest.mark.usefixtures("small_slabs")
def test_compaction_keeps_every_record_and_frees_the_rest(bank: Bank) -> None:
    adapters = {f"n{at}": make("lora" if at % 2 else "pasta", seed=at) for at in range(40)}
    bank.add_all(adapters.items())
    assert bank.stats().slabs > 5 and bank.stats().bytes_dead == 0
    assert bank.compact().to_json() == {"slabs": 0, "freed": 0, "left": []}
    bank.alias("n1", "prod", 1)
    for at in range(0, 40, 4):
        bank.remove(f"n{at + 1 if at > 0 else 0}")
        del adapters[f"n{at + 1 if at > 0 else 0}"]
    before = {entry.name: entry for entry in bank.page()}
    dead = bank.stats().bytes_dead
    done = bank.compact()
    assert done.slabs > 0 and done.left == () and done.freed > dead / 2
    assert bank.stats().bytes_dead == dead - done.freed
    assert {entry.name: entry for entry in bank.page()} == before
    assert bank.find("n1@prod").version == 1
    for name, adapter in adapters.items():
        assert same(bank.load(bank.find(name)), adapter)
    assert bank.verify().damaged == ()
    assert bank.add("n0", make()).version == 2
    stats = bank.stats()
    assert stats.names == stats.versions == len(adapters) + 1
    assert sum(stats.methods.values()) == stats.versions


@pytest.mark.usefixtures("small_slabs")
def test_compaction_of_all_that_was_removed_leaves_nothing(bank: Bank) -> None:
    bank.add_all((f"n{at}", make("lora")) for at in range(9))
    for at in range(9):
        bank.remove(f"n{at}")
    bank.compact()
    stats = bank.stats()
    assert (stats.bytes_live, stats.bytes_dead, stats.slabs) == (0, 0, 0)
    assert bank.slabs.there() == []
    bank.load(bank.add("n0", make()))
    assert bank.slabs.there()[0] > 3, "the number of a slab that is gone is not used again"


@pytest.mark.usefixtures("small_slabs")
def test_compaction_leaves_a_slab_with_a_damaged_record_and_says_so(bank: Bank) -> None:
    bank.add_all((f"n{at}", make("lora")) for at in range(4))
    bank.remove("n0")
    flip(bank.slabs.file(1), bank.find("n1").size + 5)
    done = bank.compact()
    assert len(done.left) == 1 and "n1@1 in it is damaged" in done.left[0]
    assert [damage.name for damage in bank.verify().damaged] == ["n1@1"]
    bank.load(bank.find("n2"))


def test_bytes_of_a_killed_write_are_written_over(bank: Bank) -> None:
    first = bank.add("spam", make())
    with slab_of(bank).open("ab") as file:
        file.write(b"half a record")
    assert bank.stats().bytes_dead == 13
    second = bank.add("spam", make("lora"))
    assert bank.stats().bytes_dead == 0
    assert slab_of(bank).stat().st_size == first.size + second.size
    assert bank.verify().damaged == ()


def test_a_stray_slab_is_dropped_by_compaction(bank: Bank) -> None:
    bank.add("spam", make())
    bank.slabs.file(7).write_bytes(b"x" * 99)
    assert bank.compact().freed == 99
    assert bank.slabs.there() == [1]


def test_a_group_is_stored_whole_or_not_at_all(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("softcue.bank.bank.GROUP_RECORDS", 3)
    given = [(f"n{at}", make()) for at in range(7)] + [("not a name", make())]
    with pytest.raises(RequestError):
        bank.add_all(given)
    assert [entry.name for entry in bank.page()] == [f"n{at}" for at in range(6)]


def test_a_disk_that_is_full_is_told_and_nothing_has_changed(
    bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank.add("spam", make())

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("softcue.bank.slabs.os.fsync", full)
        with pytest.raises(WriteError, match="No space left on device; nothing has changed"):
            bank.add("spam", make())
    assert bank.find("spam").version == 1
    assert bank.add("spam", make()).version == 2
    assert bank.verify().damaged == ()


def test_a_writer_waits_for_another_and_gives_up_in_words(
    bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("softcue.bank.lock.LOCK_PATIENCE", 0.05)
    with only_writer(bank.path / LOCK):
        with pytest.raises(WriteError, match="another process has been writing"):
            bank.add("spam", make())
        assert bank.count() == 0, "readers go on"
    bank.add("spam", make())


def test_many_threads_may_add_and_read(bank: Bank) -> None:
    failed: list[BaseException] = []

    def work(own: int) -> None:
        try:
            for at in range(6):
                entry = bank.add(f"n{at}", make(seed=own))
                assert bank.load(entry).seed == own
                assert bank.find(entry.full_name) == entry
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(own,)) for own in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert [entry.version for entry in bank.page()] == [4] * 6


def test_an_entry_is_ready_for_json(bank: Bank) -> None:
    bank.add("spam", make())
    held = json.loads(json.dumps(bank.alias("spam", "prod", 1).to_json()))
    assert held["name"] == "spam" and held["aliases"] == ["prod"] and held["sha256"]
