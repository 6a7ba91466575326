"""softcue bank: what each command prints, in words and as JSON, and mistakes on one line."""

import json
from pathlib import Path

import pytest

from softcue.adapter import Adapter
from softcue.bank import Bank
from tests.adapter.adapter_cases import make, same
from tests.cli.shell import Shell, make_place, make_shell  # noqa: F401  (fixtures)


@pytest.fixture(name="bank")
def make_bank(tmp_path: Path, shell: Shell) -> Path:
    for name, method in (("ham", "pasta"), ("spam", "lora"), ("eggs", "spt")):
        make(method).save(tmp_path / "adapters" / name)
    result = shell("bank", "add", tmp_path / "bank", tmp_path / "adapters")
    assert result.code == 0, result.err
    assert [line.split(":")[0] for line in result.out.splitlines()] == [
        "added eggs@1",
        "added ham@1",
        "added spam@1",
    ]
    return tmp_path / "bank"


def test_adding_gives_the_next_version_and_a_name_of_ones_own(bank: Path, shell: Shell) -> None:
    ham = bank.parent / "adapters" / "ham"
    assert "added spam@2: pasta" in shell("bank", "add", bank, ham, "--name", "spam").out
    held = json.loads(shell("bank", "add", bank, ham, ham, "--json").out)
    assert [(entry["name"], entry["version"]) for entry in held] == [("ham", 2), ("ham", 3)]
    with Bank(bank) as kept:
        assert same(kept.load(kept.find("spam")), Adapter.load(ham))


def test_a_list_goes_page_by_page(bank: Path, shell: Shell) -> None:
    first = shell("bank", "list", bank, "--limit", "2").out
    assert "eggs@1" in first and "ham@1" in first and "spam" not in first
    assert "2 of 3 names; continue with --after ham" in first
    held = json.loads(shell("bank", "list", bank, "--after", "ham", "--json").out)
    assert [entry["name"] for entry in held["adapters"]] == ["spam"]
    assert (held["next"], held["count"]) == (None, 3)
    assert json.loads(shell("bank", "list", bank, "--limit", "1", "--json").out)["next"] == "eggs"
    held = json.loads(shell("bank", "list", bank, "--search", "AM", "--json").out)
    assert [entry["name"] for entry in held["adapters"]] == ["ham", "spam"]


def test_show_alias_and_remove(bank: Path, shell: Shell) -> None:
    shell("bank", "add", bank, bank.parent / "adapters" / "ham", "--name", "spam")
    assert shell("bank", "alias", bank, "spam@1", "prod").out == "spam@prod stands for spam@1\n"
    shown = shell("bank", "show", bank, "spam@prod").out
    assert shown.startswith("spam@1: lora, classify, 2 labels") and "spam@2" in shown and "prod" in shown
    held = json.loads(shell("bank", "show", bank, "spam@prod", "--json").out)
    assert (held["full_name"], held["aliases"], held["versions"]) == ("spam@1", ["prod"], [2, 1])
    removed = shell("bank", "alias", bank, "spam", "prod", "--remove").out
    assert removed == "removed spam@prod, which stood for spam@1\n"
    assert "spam@prod" in shell.refused("bank", "show", bank, "spam@prod")
    assert shell("bank", "remove", bank, "spam@2").out == "removed spam@2\n"
    held = json.loads(shell("bank", "remove", bank, "spam", "--json").out)
    assert [entry["version"] for entry in held] == [1]
    assert "was removed" in shell.refused("bank", "show", bank, "spam")


def test_an_export_is_the_adapter(bank: Path, shell: Shell) -> None:
    out = bank.parent / "out"
    assert shell("bank", "export", bank, "spam", out).out == f"saved spam@1 in {out}\n"
    assert same(Adapter.load(out), Adapter.load(bank.parent / "adapters" / "spam"))
    told = shell.refused("bank", "export", bank, "spam", bank.parent)
    assert "has files that are not a softcue adapter's" in told


def test_stats_and_compact(bank: Path, shell: Shell) -> None:
    shown = shell("bank", "stats", bank).out
    assert "backbone: bert-tiny" in shown and "3 names, 3 versions" in shown and "lora: 1" in shown
    shell("bank", "remove", bank, "spam")
    held = json.loads(shell("bank", "stats", bank, "--json").out)
    assert held["names"] == 2 and held["bytes_dead"] > 1000
    assert json.loads(shell("bank", "compact", bank, "--json").out)["freed"] == held["bytes_dead"]
    assert shell("bank", "compact", bank).out == "0 slabs compacted, 0 bytes freed\n"


def test_verify_names_what_is_damaged(bank: Path, shell: Shell) -> None:
    assert shell("bank", "verify", bank).out == "3 adapters checked, 0 damaged\n"
    slab = bank / "slabs" / "000001.slab"
    data = bytearray(slab.read_bytes())
    data[-1] ^= 1
    slab.write_bytes(data)
    result = shell("bank", "verify", bank)
    assert result.code == 1
    assert result.out.startswith("spam@1: ") and "3 adapters checked, 1 damaged" in result.out
    held = json.loads(shell("bank", "verify", bank, "--json").out)
    assert (held["checked"], [damage["name"] for damage in held["damaged"]]) == (3, ["spam@1"])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("list", "nowhere"), "is not a bank"),
        (("add", "{bank}", "nowhere"), "nowhere is not a folder"),
        (("add", "{bank}", "foreign"), "foreign has no adapters"),
        (("add", "foreign", "{ham}"), "has files that are not a bank"),
        (("add", "{bank}", "{ham}", "{ham}", "--name", "x"), "--name x came with 2 adapters"),
        (("add", "{bank}", "{ham}", "--name", "a/b"), "'a/b' is not an adapter's name"),
        (("add", "{bank}", "adapters/classify"), "was trained for"),
        (("show", "{bank}", "toast"), "there is no adapter 'toast'"),
        (("show", "{bank}", "ham@7"), "no version 7 yet"),
        (("alias", "{bank}", "ham", "3"), "'3' is not an alias"),
        (("list", "{bank}", "--limit", "0"), "limit is 0"),
    ],
)
def test_a_mistake_is_one_line(words: tuple[str, ...], told: str, bank: Path, shell: Shell) -> None:
    given = [word.format(bank=bank, ham=bank.parent / "adapters" / "ham") for word in words]
    said = shell.refused("bank", *given)
    assert told in said
    assert said.count("\n") == 1


def test_a_first_adapter_that_cannot_be_read_leaves_no_bank(shell: Shell, tmp_path: Path) -> None:
    folder = tmp_path / "adapters" / "broken"
    make("pasta").save(folder)
    (folder / "adapter_config.json").write_text("{")
    assert "adapter_config.json" in shell.refused("bank", "add", tmp_path / "bank", folder)
    assert not (tmp_path / "bank").exists()
