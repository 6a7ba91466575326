"""Hub: an adapter is pushed in one commit with its card, comes back to the bit, and what is no adapter is
refused on one line.
"""

import json
import shlex
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import yaml

from softcue import api
from softcue.adapter import Adapter
from softcue.adapter.card import CARD, card_of, is_own_card, training_command
from softcue.adapter.folder import HEADER, TENSORS
from softcue.answering.predict import Predictor
from softcue.bank import open_source
from softcue.cli.flags import parse_settings
from softcue.errors import AdapterError, RequestError, WriteError
from softcue.interop.hub import push_folder
from softcue.training.full import Checkpoint
from tests.adapter.adapter_cases import edit, make, same
from tests.answering.test_predict import random_adapter
from tests.cli.shell import Shell, make_place, make_shell
from tests.interop.hub_stand import TOKEN, HubRepository, HubStand, make_hub
from tests.tiny_base import base_folder, tiny_base, tiny_data

__all__ = ["make_hub", "make_place", "make_shell"]

OWN = {HEADER, TENSORS, CARD}


def files_of(adapter: Adapter) -> dict[str, bytes]:
    return {name.replace(".", "__"): data for name, data in adapter.to_files("a test").items()}


def held(hub: HubStand, adapter: Adapter, name: str = "me/mine") -> HubRepository:
    """A repository that holds an adapter."""
    hub.repositories[name] = HubRepository()
    hub.repositories[name].put(**files_of(adapter))
    return hub.repositories[name]


def refused(where: str, **how: str) -> str:
    """What from_pretrained says: one line that names the repository."""
    with pytest.raises(AdapterError) as caught:
        Adapter.from_pretrained(where, **how)
    text = str(caught.value)
    assert "\n" not in text and "hf:me/mine" in text
    return text


def test_what_is_pushed_comes_back_to_the_bit(hub: HubStand) -> None:
    adapter = make("spt")
    done = adapter.push_to_hub("me/mine", private=True)
    assert set(done.files) == set(hub.repositories["me/mine"].files()) == OWN
    assert hub.repositories["me/mine"].private
    assert sum("/commit/" in one for one in hub.asked) == 1, "both files and the card are one commit"
    for name in ("me/mine", "hf:me/mine"):
        assert same(Adapter.from_pretrained(name), adapter)
    assert same(Adapter.load("hf:me/mine"), adapter)


@pytest.mark.parametrize(
    ("kind", "changes", "task", "asked"),
    [
        (
            "multilabel",
            {"threshold": 0.375, "columns": {"labels": "bird,fruit,metal"}},
            "text",
            "--labels bird",
        ),
        ("multilabel", {"pair": True, "columns": {"text_pair": "b"}}, "text", "--text-pair b"),
        ("tag", {"unsure_below": 0.5, "columns": {"tag_names": "O,B-LOC"}}, "token", "--tag-names O,B-LOC"),
    ],
)
def test_an_adapter_of_any_kind_comes_back_and_answers_as_before(
    kind: str, changes: dict[str, Any], task: str, asked: str, hub: HubStand, tmp_path: Path
) -> None:
    base = tiny_base()
    adapter = random_adapter(base, "pasta", kind, changes.pop("pair", False), **changes)
    adapter.push_to_hub("me/mine")
    found = {
        "pushed": Adapter.from_pretrained("me/mine"),
        "saved": Adapter.from_pretrained(adapter.save_pretrained(tmp_path / "saved")),
    }
    assert all(same(other, adapter) for other in found.values())
    predictor = Predictor(base, {"mine": adapter, **found})
    texts = {"text": "the owl in paris"} | ({"text_pair": "gold"} if adapter.pair else {})
    first, *others = predictor([{"adapter": name, **texts} for name in ("mine", *found)])
    assert others == [first, first]
    for card in (tmp_path / "saved" / CARD).read_bytes(), hub.repositories["me/mine"].files()[CARD]:
        text = card.decode()
        front = yaml.safe_load(text.split("---\n")[1])
        assert front["pipeline_tag"] == f"{task}-classification" and kind in front["tags"]
        assert f"--kind {kind} " in text and asked in text
        assert all(f'    "{label}"\n' in text for label in adapter.labels)


def test_a_branch_is_made_and_read_by_its_name(hub: HubStand) -> None:
    old, new = make(seed=1), make(seed=2)
    old.push_to_hub("me/mine")
    new.push_to_hub("me/mine", revision="next")
    assert Adapter.from_pretrained("me/mine").seed == 1
    assert Adapter.from_pretrained("me/mine", revision="next").seed == 2
    assert Adapter.load("hf:me/mine@next").seed == 2
    commit = hub.repositories["me/mine"].branches["main"]
    assert Adapter.load(f"hf:me/mine@{commit}").seed == 1
    with pytest.raises(AdapterError, match="name one"):
        Adapter.from_pretrained("me/mine@next", revision="main")


def test_a_second_load_downloads_nothing_and_a_new_commit_is_seen(hub: HubStand) -> None:
    repository = held(hub, make(seed=1))
    Adapter.load("hf:me/mine")
    before = len([one for one in hub.asked if one.startswith("GET")])
    assert Adapter.load("hf:me/mine").seed == 1
    assert len([one for one in hub.asked if one.startswith("GET")]) == before
    repository.put(**files_of(make(seed=5)))
    assert Adapter.load("hf:me/mine").seed == 5


def test_only_an_adapters_own_files_are_downloaded(hub: HubStand) -> None:
    held(hub, make()).put(evil__py=b"import os", weights__pkl=b"\x80\x04.", README__md=b"# Mine\n")
    Adapter.load("hf:me/mine")
    asked = {one.rsplit("/", 1)[1] for one in hub.asked if one.startswith("GET")}
    assert asked == {HEADER, TENSORS}


def test_cache_dir_is_where_it_is_kept(hub: HubStand, tmp_path: Path) -> None:
    held(hub, make())
    Adapter.from_pretrained("me/mine", cache_dir=tmp_path / "own")
    assert (tmp_path / "own" / "models--me--mine").is_dir()
    assert not (tmp_path / "cache").exists()


def test_a_folder_of_that_name_is_taken_before_the_hub_is_asked(
    hub: HubStand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make(seed=8).save("me/mine")
    assert Adapter.from_pretrained("me/mine").seed == 8
    assert not hub.asked


def test_what_is_no_adapter_is_refused_on_one_line(hub: HubStand, tmp_path: Path) -> None:
    assert "no such repository, or it is private" in refused("me/mine")
    repository = hub.repositories["me/mine"] = HubRepository()
    repository.put(pytorch_model__bin=b"\x80\x04.")
    assert "holds no adapter; expected adapter_config.json" in refused("me/mine")
    assert "no such revision" in refused("me/mine", revision="next")
    repository.put(adapter_config__json=b'{"peft_type": "LORA"}', adapter_model__safetensors=b"")
    assert "PEFT" in refused("me/mine")
    assert not [one for one in hub.asked if one.endswith(TENSORS)], "the header is looked at first"
    repository.put(adapter_config__json=b"<html>")
    assert "not JSON" in refused("me/mine")
    repository.put(**{**files_of(make()), "adapter_model__safetensors": b"\x80\x04\x95."})
    with pytest.raises(AdapterError) as caught:
        Adapter.load("hf:me/mine")
    assert "\n" not in str(caught.value) and TENSORS in str(caught.value)


@pytest.mark.parametrize("name", ["hf:", "hf:mine", "hf:a/b/c", "hf:../up", "hf:me/mine@", "hf:me/a..b"])
def test_what_names_no_repository_asks_nothing(hub: HubStand, name: str) -> None:
    with pytest.raises(AdapterError, match="names no repository of the hub; expected hf:OWNER/NAME"):
        Adapter.load(name)
    assert not hub.asked


def test_a_token_opens_a_private_repository_and_a_wrong_one_is_told_of(
    hub: HubStand, monkeypatch: pytest.MonkeyPatch
) -> None:
    held(hub, make(seed=6)).private = True
    monkeypatch.delenv("HF_TOKEN")
    assert "give a token" in refused("me/mine")
    assert Adapter.from_pretrained("me/mine", token=TOKEN).seed == 6
    with pytest.raises(RequestError, match=r"the hub answered 401; check the token"):
        make().push_to_hub("me/other", token="hf_wrong")
    assert "me/other" not in hub.repositories


def test_without_a_network_the_cache_answers_and_what_it_lacks_is_told_of(
    hub: HubStand, monkeypatch: pytest.MonkeyPatch
) -> None:
    held(hub, make(seed=6))
    Adapter.load("hf:me/mine")
    nowhere = "http://127.0.0.1:9"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", nowhere)
    template = nowhere + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(huggingface_hub.utils._http.time, "sleep", lambda seconds: None)
    assert Adapter.load("hf:me/mine").seed == 6
    assert "the hub cannot be reached" in refused("hf:me/mine@other")
    with pytest.raises(RequestError, match="cannot push to hf:me/mine: "):
        make().push_to_hub("me/mine")


def test_a_download_that_was_cut_is_no_adapter_and_is_fetched_again(
    hub: HubStand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.utils._http.time, "sleep", lambda seconds: None)
    held(hub, make(seed=6))
    hub.cut = TENSORS
    refused("me/mine")
    hub.cut = None
    assert Adapter.load("hf:me/mine").seed == 6


def test_files_of_two_commits_are_never_mixed(hub: HubStand, monkeypatch: pytest.MonkeyPatch) -> None:
    """A push between the two downloads changes nothing of what is read."""
    repository = held(hub, make(seed=1))
    real = huggingface_hub.HfApi.hf_hub_download

    def pushed_meanwhile(self: huggingface_hub.HfApi, name: str, file: str, **how: object) -> str:
        path = real(self, name, file, **how)
        if file == HEADER:
            repository.put(**files_of(make("lora", seed=2)))
        return path

    monkeypatch.setattr(huggingface_hub.HfApi, "hf_hub_download", pushed_meanwhile)
    assert Adapter.load("hf:me/mine").seed == 1


def test_a_card_that_somebody_wrote_stays(hub: HubStand) -> None:
    adapter = make()
    repository = held(hub, adapter)
    repository.put(README__md=b"# My own words\n")
    done = adapter.push_to_hub("me/mine")
    assert repository.files()[CARD] == b"# My own words\n"
    assert CARD not in done.files and "stays as it is" in done.notes[0]
    repository.put(README__md=card_of(make(seed=9)))
    assert CARD in adapter.push_to_hub("me/mine").files
    assert is_own_card(repository.files()[CARD])


def test_a_card_says_the_data_the_scores_and_the_command(hub: HubStand) -> None:
    adapter = make(scores={"accuracy": 0.75, "selection": 0.8, "selection_step": 4, "matthews": None})
    adapter.push_to_hub("me/mine")
    text = hub.repositories["me/mine"].files()[CARD].decode()
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["library_name"] == "softcue" and front["base_model"] == "bert-tiny"
    assert (front["pipeline_tag"], front["datasets"]) == ("text-classification", ["nyu-mll/glue"])
    assert {"softcue", "pasta", "classify"} <= set(front["tags"])
    [result] = front["model-index"][0]["results"]
    assert result["dataset"]["type"] == "nyu-mll/glue" and result["metrics"][0]["value"] == 0.75
    assert "test; selected on dev" in result["metrics"][0]["name"] and front["metrics"] == ["accuracy"]
    assert "| accuracy | 0.7500 |" in text and "test; selected on dev" in text
    assert "softcue predict hf:me/mine" in text and "softcue train glue/rte --method pasta" in text
    assert "reconstruction" not in text


@pytest.mark.parametrize(("method", "grade"), [("stp", "stp (reconstruction)"), ("apt", "apt (partly a rec")])
def test_a_card_calls_a_reconstruction_one(method: str, grade: str) -> None:
    text = card_of(make(method)).decode()
    assert f"# {grade}" in text and "reconstruction" in yaml.safe_load(text.split("---\n")[1])["tags"]
    assert "no claim about the paper's method" in text


def test_a_card_names_no_folder_of_this_machine(tmp_path: Path) -> None:
    adapter = make(backbone=str(tmp_path / "encoder"))
    assert str(tmp_path) not in card_of(adapter).decode()
    assert "--backbone BACKBONE" in training_command(adapter)


@pytest.mark.parametrize(
    ("kind", "pair", "how"),
    [
        ("classify", False, '"a text" --backbone BACKBONE'),
        ("score", True, '"a text" "another" --backbone BACKBONE'),
        ("choice", False, "--file QUESTIONS.jsonl --backbone BACKBONE"),
    ],
)
def test_a_card_shows_a_command_that_gives_what_the_adapter_reads(kind: str, pair: bool, how: str) -> None:
    adapter = random_adapter(tiny_base(), "pasta", kind, pair)
    assert f"    softcue predict hf:me/mine {how}\n" in card_of(adapter, "me/mine").decode()
    named = replace(adapter, backbone="minilm")
    assert "BACKBONE" not in card_of(named, "me/mine").decode().split("## Training")[0]


@pytest.mark.slow
def test_the_command_of_a_card_trains_the_same_adapter(tmp_path: Path) -> None:
    data, base = tiny_data(train=20, dev=6, test=6), tiny_base()
    for method, own in {"stp": {}, "spt": {"length": 3}}.items():
        first = api.train(
            data, backbone=base, method=method, settings={**own, "epochs": 2, "rate": 1e-2}, seed=4
        )
        words = shlex.split(training_command(first))
        settings = parse_settings([value for flag, value in pairwise(words) if flag == "--set"])
        again = api.train(data, backbone=base, method=method, settings=settings, seed=4, limit=first.limit)
        assert same(replace(again, training=first.training), first)


def test_hostile_labels_stay_inside_the_card() -> None:
    text = card_of(make(labels=("a\n---\n# b", "`\u202e|"))).decode()
    assert "\n# b" not in text and "\u202e" not in text
    assert yaml.safe_load(text.split("---\n")[1])["library_name"] == "softcue"


def test_save_pretrained_replaces_its_own_card_and_no_other(tmp_path: Path) -> None:
    folder = make(seed=1).save_pretrained(tmp_path / "mine")
    assert {file.name for file in folder.iterdir()} == OWN
    newer = make(seed=2)
    assert same(Adapter.from_pretrained(newer.save_pretrained(folder)), newer)
    (folder / CARD).write_text("# My own words\n")
    with pytest.raises(WriteError, match=CARD):
        make(seed=3).save_pretrained(folder)
    assert (folder / CARD).read_text() == "# My own words\n"


@pytest.mark.slow
def test_a_fine_tuned_checkpoint_goes_and_comes_with_its_encoder(hub: HubStand, tmp_path: Path) -> None:
    settings = {"epochs": 1}
    trained = api.train(
        tiny_data(train=8, dev=4, test=4), backbone=tiny_base(), method="full", settings=settings
    )
    assert isinstance(trained, Checkpoint)
    folder = trained.save(tmp_path / "full")
    (folder / "encoder" / "notes.txt").write_text("mine")
    with pytest.raises(AdapterError, match="softcue push"):
        Adapter.load(folder).push_to_hub("me/mine")
    done = push_folder(folder, "me/mine")
    assert {"encoder/model.safetensors", "encoder/tokenizer.json"} <= set(done.files)
    assert "encoder/notes.txt" not in done.files
    requests = [{"text": "the apple"}]
    assert api.predict("hf:me/mine", requests, precision="float32") == api.predict(
        folder, requests, precision="float32"
    )


def test_every_place_that_takes_a_folder_takes_a_repository(hub: HubStand, shell: Shell, place: Path) -> None:
    base = tiny_base()
    adapter = random_adapter(base, "pasta", task="classify")
    held(hub, adapter)
    backbone = ("--backbone", str(base_folder()), "--precision", "float32")
    local = shell("predict", "adapters/classify", "the apple", *backbone)
    assert shell("predict", "hf:me/mine", "the apple", *backbone).out == local.out
    told = shell("eval", "hf:me/mine", "data/classify", *backbone, "--json")
    assert json.loads(told.out)["rows"] == 9
    assert "hf:me/mine: pasta" in shell("info", "hf:me/mine").out
    assert shell("bank", "add", "bank", "hf:me/mine").out.startswith("added mine@1")
    source = open_source("hf:me/mine")
    assert same(source.load(source.find("mine")), adapter)
    with pytest.raises(WriteError, match="copy"):
        source.add("mine", adapter)
    predictor = Predictor(base, {"a": "hf:me/mine", "b": adapter})
    one, other = predictor([{"adapter": name, "text": "the apple"} for name in "ab"])
    assert one["label"] == other["label"]
    assert "no such repository" in shell.refused("predict", "hf:me/absent", "the apple", *backbone)
    assert "no such repository" in shell.refused("bank", "add", "bank", "hf:me/absent")


def test_the_push_command_pushes_what_is_softcues_and_says_where(
    hub: HubStand, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make(backbone=str(tmp_path)).save(tmp_path / "mine")
    (folder / "thesis.txt").write_text("precious")
    result = shell("push", folder, "me/mine")
    assert result.code == 0 and "/me/mine/commit/" in result.out
    assert "others cannot fetch" in result.err
    assert set(hub.repositories["me/mine"].files()) == OWN
    assert json.loads(shell("push", folder, "me/mine", "--json").out)["files"] == sorted(OWN)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert "check the token" in shell.refused("push", folder, "me/mine")
    assert "names no repository" in shell.refused("push", folder, "mine")
    edit(folder, lambda header: header.update(labels=[]))
    assert "labels" in shell.refused("push", folder, "me/mine")
