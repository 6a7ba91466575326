"""Looks inside: their numbers against the slow way, and what a view refuses."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel

from softcue import api
from softcue.adapter import Adapter
from softcue.encoder.attention_mass import attention_mass
from softcue.errors import RequestError
from softcue.inspection.attention import inspect_attention
from softcue.inspection.looking import open_subject, watch
from softcue.inspection.parts import inspect_cell, inspect_gates, inspect_plan, inspect_selection
from softcue.inspection.views import inspect
from tests.cli.shell import Shell
from tests.test_api import written
from tests.tiny_base import base_folder, tiny_base, tiny_data

METHODS = {
    "pasta": {},
    "stp": {"cls_budget": 1, "sep_budget": 1},
    "spt": {"length": 3},
    "gpc": {"length": 3},
    "apt": {"length": 3},
    "lora": {},
}


def trained(method: str, kind: str = "classify") -> Adapter:
    """An adapter whose numbers have moved."""
    settings = {"epochs": 1, "batch": 8, **METHODS[method]}
    adapter = api.train(
        tiny_data(kind, train=24, dev=8, test=8), backbone=tiny_base(), method=method, settings=settings
    )
    assert isinstance(adapter, Adapter)
    return adapter


@pytest.mark.parametrize("kind", ["classify", "tag", "choice"])
@pytest.mark.parametrize("method", list(METHODS))
def test_attention_is_a_probability_and_agrees_with_the_mean_over_heads(method: str, kind: str) -> None:
    data = tiny_data(kind, train=24, dev=8, test=8)
    adapter = trained(method, kind)
    look = inspect_attention(adapter, data, backbone=tiny_base())
    subject = open_subject(adapter, data, backbone=tiny_base())
    mass = attention_mass(subject.encoder, subject.examples, len(subject.slots))
    torch.testing.assert_close(torch.tensor(look.before).mean(1), mass)
    after = torch.tensor(look.after)
    assert after.shape == (mass.shape[0], subject.encoder.dims.heads, mass.shape[1])
    assert after.min() > 0
    assert after.sum(2).max() < 1  # text and prefixes get the rest
    assert not torch.allclose(after, torch.tensor(look.before), atol=1e-7)
    assert look.rows == 8


def test_attention_by_head_equals_that_of_transformers() -> None:
    data = tiny_data(train=24, dev=8, test=8)
    adapter = trained("pasta")
    look = inspect_attention(adapter, data, rows=1, backbone=tiny_base())
    (example,) = open_subject(adapter, data, rows=1, backbone=tiny_base()).examples
    model = AutoModel.from_pretrained(base_folder(), attn_implementation="eager").eval()
    with torch.inference_mode():
        found = model(torch.tensor([example.token]), output_attentions=True).attentions
    slow = torch.stack([layer[0, :, :, [0, len(example.token) - 1]].mean(1) for layer in found])
    torch.testing.assert_close(torch.tensor(look.before), slow, atol=1e-5, rtol=1e-4)
    heads = (torch.tensor(look.before).sum(2) > 0.5).float().mean(1)
    assert list(look.mostly_before) == heads.tolist()


def inputs_of_layers(adapter: Adapter) -> list[torch.Tensor]:
    """What enters each layer for the first test row, (N, D) each, taken with a hook."""
    subject = open_subject(adapter, tiny_data(train=24, dev=8, test=8), rows=1, backbone=tiny_base())
    taken: list[torch.Tensor] = []
    hooks = [
        layer.register_forward_pre_hook(lambda _, given: taken.append(given[0].clone()))
        for layer in subject.encoder.layers
    ]
    watch(subject)
    for hook in hooks:
        hook.remove()
    return taken


def test_gates_are_the_sigmoid_of_the_first_token() -> None:
    adapter = trained("apt")
    look = inspect_gates(adapter, tiny_data(train=24, dev=8, test=8), rows=1, backbone=tiny_base())
    for layer, hidden in enumerate(inputs_of_layers(adapter)):
        slow = torch.sigmoid(hidden[0] @ adapter.cue["gate"][layer] + adapter.cue["gate_bias"][layer])
        torch.testing.assert_close(torch.tensor(look.gate[layer]), slow, atol=1e-5, rtol=1e-4)
    assert look.scale == pytest.approx(adapter.cue["scale"].flatten().tolist())
    assert max(map(max, look.deviation)) == 0  # of one text
    both = inspect_gates(adapter, tiny_data(train=24, dev=8, test=8), rows=2, backbone=tiny_base())
    assert max(map(max, both.deviation)) > 0


def test_selection_is_the_sigmoid_of_the_scaled_logit() -> None:
    adapter = trained("spt")
    data = tiny_data(train=24, dev=8, test=8)
    look = inspect_selection(adapter, data, rows=1, backbone=tiny_base())
    encoder, kv = tiny_base().backbone.encoder, adapter.cue["kv"]
    dims = encoder.dims
    model = AutoModel.from_pretrained(base_folder()).eval()
    for layer, hidden in enumerate(inputs_of_layers(adapter)):
        with torch.inference_mode():
            query = model.encoder.layer[layer].attention.self.query(hidden).unflatten(1, (dims.heads, -1))
        logit = torch.einsum("nhk,phk->hnp", query, kv[layer, 0]) / dims.head**0.5
        slow = torch.sigmoid(8.0 * logit).mean((0, 1))
        torch.testing.assert_close(torch.tensor(look.gate[layer]), slow, atol=1e-4, rtol=1e-3)
        keys = kv[layer, 0].flatten(1)
        cosine = torch.nn.functional.cosine_similarity(keys[:, None], keys[None], dim=2).abs()
        torch.testing.assert_close(torch.tensor(look.pairs[layer]), cosine, atol=1e-5, rtol=1e-4)
        expected = float(cosine[0, 1] + cosine[0, 2] + cosine[1, 2]) / 3
        assert look.likeness[layer] == pytest.approx(expected, abs=1e-5)


def test_a_gate_is_a_mean_over_an_examples_own_rows() -> None:
    """Rows of padding beside longer texts count for nothing."""
    adapter = trained("spt")
    data = tiny_data(train=24, dev=8, test=8)
    alone = [inspect_selection(adapter, one_row(data, i), backbone=tiny_base()).gate for i in range(8)]
    together = inspect_selection(adapter, data, backbone=tiny_base()).gate
    torch.testing.assert_close(torch.tensor(together), torch.tensor(alone).mean(0), atol=1e-5, rtol=1e-4)


def one_row(data: Any, number: int) -> Any:
    """The data with one row of test."""
    from dataclasses import replace

    return replace(data, splits={**data.splits, "test": data.splits["test"][number : number + 1]})


def test_a_new_cell_passes_the_prompt_through() -> None:
    data = tiny_data(train=24, dev=8, test=8)
    settings = {"epochs": 1, "rate": 1e-12, "length": 3}
    new = api.train(data, backbone=tiny_base(), method="gpc", settings=settings)
    assert isinstance(new, Adapter)
    look = inspect_cell(new, data, backbone=tiny_base())
    assert max(look.remembered) < 1e-6
    assert max(look.changed) < 1e-6
    moved = inspect_cell(trained("gpc"), data, backbone=tiny_base())
    assert min(moved.remembered) > 0
    assert len(moved.taken) == tiny_base().backbone.encoder.dims.layers - 1


def test_a_plan_is_the_headers_own() -> None:
    data = tiny_data(train=24, dev=8, test=8)
    adapter = trained("stp")
    look = inspect_plan(adapter, data, backbone=tiny_base())
    assert look.place == adapter.config.place
    assert len(look.attention) == len(look.place)


@pytest.mark.parametrize(
    ("view", "method"), [("gates", "spt"), ("selection", "apt"), ("cell", "pasta"), ("plan", "lora")]
)
def test_a_method_without_what_a_view_shows_is_refused(view: str, method: str, tmp_path: Path) -> None:
    data = tiny_data(train=24, dev=8, test=8)
    with pytest.raises(RequestError, match=f"trained with {method}.*expected an adapter"):
        inspect(view, [(trained(method), data)], tmp_path, backbone=tiny_base())  # type: ignore[list-item]
    assert not list(tmp_path.iterdir())


def test_the_command_writes_what_python_returns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shell, data = Shell(capsys), tiny_data(train=24, dev=8, test=8)
    folder = written(data, tmp_path / "data")
    adapter = trained("apt").save(tmp_path / "adapter")
    flags = "--out", tmp_path / "out", "--backbone", base_folder()
    done = shell("inspect", "gates", adapter, folder, "--beside", adapter, folder, *flags)
    assert (done.err, done.code) == ("", 0)
    assert "layer scale" in done.out
    held = json.loads((tmp_path / "out" / "gates.json").read_text())
    look = inspect_gates(adapter, folder, backbone=str(base_folder()))
    assert held == {"view": "gates", "looks": json.loads(json.dumps([look.to_json()] * 2))}
    assert (tmp_path / "out" / "gates.png").read_bytes().startswith(b"\x89PNG")
    wrong = shell("inspect", "attention", adapter, folder, "--beside", adapter, folder, *flags)
    assert wrong.code == 2
    assert "expected one" in wrong.err
    assert "view 'heads' is unknown" in shell("inspect", "heads", adapter, folder, *flags).err
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "plan.png").write_bytes(b"mine")
    refused = shell(
        "inspect", "plan", adapter, folder, "--out", tmp_path / "other", "--backbone", base_folder()
    )
    assert refused.code == 2
    assert (tmp_path / "other" / "plan.png").read_bytes() == b"mine"


@pytest.mark.parametrize("method", ["pasta", "stp", "spt", "gpc", "apt"])
def test_every_picture_is_drawn(method: str, tmp_path: Path) -> None:
    views = {"pasta": "attention", "stp": "plan", "spt": "selection", "gpc": "cell", "apt": "gates"}
    data = tiny_data(train=24, dev=8, test=8)
    inspect(views[method], [(trained(method), data)], tmp_path, backbone=tiny_base())  # type: ignore[list-item]
    assert sorted(file.suffix for file in tmp_path.iterdir()) == [".json", ".png"]
