"""Gates, selection, cell and plan against their equations written the slow way."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from softcue.api import train
from softcue.cues.spt import Spt
from softcue.cues.stp import highest
from softcue.encoder.attention_mass import attention_mass
from softcue.errors import RequestError
from softcue.inspection.cell import cell_view
from softcue.inspection.gates import gate_table, inspect_gates
from softcue.inspection.plan import inspect_plan, plan_view
from softcue.inspection.selection import selection_view
from tests.inspection.slow import Seen, opened, pair_of, seen
from tests.tiny_base import tiny_base, tiny_data


def close(found: object, wanted: Tensor, tolerance: float = 1e-4) -> None:
    torch.testing.assert_close(torch.tensor(found), wanted.float(), rtol=tolerance, atol=1e-6)


@pytest.mark.parametrize("kind", ["classify", "tag", "choice"])
def test_apts_gates_are_its_sigmoid_written_the_slow_way(kind: str) -> None:
    subject = opened("apt", kind)
    cue, length = subject.adapter.cue, subject.adapter.config.length

    def gate(layer: int, hidden: Tensor) -> Tensor:
        return torch.sigmoid(hidden[0] @ cue["gate"][layer] + cue["gate_bias"][layer])

    def front(layer: int, hidden: Tensor) -> tuple[Tensor, Tensor]:
        weight = (gate(layer, hidden) * cue["scale"][layer])[:, None]
        return weight * cue["kv"][layer, 0].flatten(1), weight * cue["kv"][layer, 1].flatten(1)

    walks = [seen(one, front=front, shift=length) for one in subject.examples]
    wanted = torch.stack(
        [torch.stack([gate(layer, own.hidden) for layer, own in enumerate(walk)]) for walk in walks]
    )  # (texts, L, P)
    table = gate_table(subject)
    close(table.mean, wanted.mean(0))
    close(table.deviation, (wanted - wanted.mean(0)).square().mean(0).sqrt(), 1e-3)
    close(table.scale, cue["scale"])
    assert wanted[:, 1:].std(0).min() > 1e-4, "texts differ, so that a mean over them could be wrong"


def test_gates_of_a_classifier_stand_beside_those_of_a_tagger() -> None:
    (one, data), (other, tags) = pair_of("apt"), pair_of("apt", "tag")
    view = inspect_gates(one, data, beside=[(other, tags)], backbone=tiny_base())
    assert view.adapters == (gate_table(opened("apt")), gate_table(opened("apt", "tag")))
    assert [own.shown.data for own in view.adapters] == ["tiny-classify", "tiny-tag"]
    assert all("APT (partly a reconstruction)" in line for line in view.lines())


@pytest.mark.parametrize("kind", ["classify", "tag", "choice"])
def test_spts_gates_and_cosines_are_its_equations_written_the_slow_way(kind: str) -> None:
    subject = opened("spt", kind)
    kv, tau = subject.adapter.cue["kv"], subject.adapter.config.tau  # (L, 2, P, H, K)
    length = kv.shape[2]
    walks = [
        seen(
            one,
            front=lambda layer, hidden: (kv[layer, 0].flatten(1), kv[layer, 1].flatten(1)),
            gate=lambda score: torch.sigmoid(tau * score),
        )
        for one in subject.examples
    ]
    gates = [
        torch.stack([torch.sigmoid(tau * own.score[..., :length]).mean((0, 1)) for own in walk])
        for walk in walks
    ]
    view = selection_view(subject)
    close(view.gate, torch.stack(gates).mean(0))
    for layer in range(len(kv)):
        cosines = []
        for a in range(length):
            for b in range(length):
                both = [
                    abs(float(part[a].flatten() @ part[b].flatten())) / float(part[a].norm() * part[b].norm())
                    for part in kv[layer]
                ]
                assert view.pairs[layer][a][b] == pytest.approx(sum(both) / 2, rel=1e-4)
                cosines += [sum(both) / 2] if a < b else []
        assert view.likeness[layer] == pytest.approx(sum(cosines) / len(cosines), rel=1e-4)


def test_the_mean_likeness_is_the_one_that_spts_loss_has() -> None:
    """The loss adds keys' and values' cosines and divides by n (n - 1), twice the number of pairs."""
    subject = opened("spt")
    cue = subject.model.mixture.cue(0)
    assert isinstance(cue, Spt)
    view = selection_view(subject)
    assert sum(view.likeness) / len(view.likeness) == pytest.approx(
        float(cue.likeness().detach()[0]), rel=1e-5
    )


@pytest.mark.parametrize("memory", ["previous", "initial"])
def test_gpcs_parts_are_its_recurrence_written_the_slow_way(memory: str) -> None:
    config = type(opened("gpc").adapter.config)(length=3, memory=memory)
    subject = opened("gpc", config=config)
    cue, parts = subject.adapter.cue, dict[int, list[tuple[Tensor, Tensor]]]()

    def walk(one: object) -> list[Seen]:
        carried = [cue["vectors"]]

        def before(layer: int, hidden: Tensor) -> Tensor:
            if layer:
                kept = carried[0] if memory == "initial" else carried[-1]
                both = kept @ cue["remember"][0], hidden[:3] @ cue["forget"][0]
                parts.setdefault(layer, []).append((both[0].norm(dim=1), both[1].norm(dim=1)))
                carried.append(both[0] + both[1])
            return torch.cat([carried[-1], hidden[3:]])

        return seen(one, before=before, shift=3, rows=cue["vectors"])

    for one in subject.examples:
        walk(one)
    view, layers = cell_view(subject), subject.encoder.dims.layers
    assert view.layers == tuple(range(1, layers))
    remembered, renewed = (
        torch.stack([torch.stack([both[part] for both in parts[layer]]) for layer in range(1, layers)])
        for part in (0, 1)
    )  # (L - 1, texts, P)
    close(view.remembered, remembered.mean((1, 2)))
    close(view.renewed, renewed.mean((1, 2)))
    close(view.share, (remembered / (remembered + renewed)).mean((1, 2)))
    size = cue["forget"].shape[-1]
    moved = cue["remember"][0].norm() / size**0.5, (cue["forget"][0] - torch.eye(size)).norm() / size**0.5
    assert view.remember_moved == pytest.approx([float(moved[0])] * (layers - 1), rel=1e-5)
    assert view.forget_moved == pytest.approx([float(moved[1])] * (layers - 1), rel=1e-5)


def test_a_cell_that_began_with_random_numbers_has_no_distance() -> None:
    config = type(opened("gpc").adapter.config)(length=3, init="normal", combine="tanh")
    view = cell_view(opened("gpc", config=config))
    assert view.remember_moved is None
    assert view.forget_moved is None
    assert len(view.lines()) == 1


@pytest.mark.parametrize(("kind", "pair"), [("classify", True), ("tag", False), ("choice", False)])
def test_stps_plan_is_the_headers_place_beside_the_bare_encoders_attention(kind: str, pair: bool) -> None:
    subject = opened("stp", kind, pair)
    view = plan_view(subject)
    assert view.plan == subject.adapter.config.place
    close(view.mass, attention_mass(subject.encoder, subject.examples, len(subject.slots)))
    assert view.prompted(0) == list(subject.adapter.config.cls_layers)
    assert view.prompted(1) == list(subject.adapter.config.sep_layers)
    assert "STP (reconstruction)" in view.lines()[0]


def test_the_attention_beside_a_measured_plan_is_what_chose_it() -> None:
    data, base = tiny_data(pair=True), tiny_base()
    settings = {"cls_budget": 1, "sep_budget": 2, "epochs": 1}
    view = inspect_plan(train(data, backbone=base, method="stp", settings=settings), data, backbone=base)
    on_cls, on_sep = [row[0] for row in view.mass], [row[1] + row[2] for row in view.mass]
    assert view.shown.split == "train"
    assert view.prompted(0) == list(highest(on_cls, 1))
    assert view.prompted(1) == view.prompted(2) == list(highest(on_sep, 2))


@pytest.mark.parametrize(
    ("look", "told"),
    [
        (gate_table, "has no token gates; expected one of apt"),
        (selection_view, "has no gates on its prefix tokens' own scores; expected one of spt"),
        (cell_view, "has no cell; expected one of gpc"),
        (plan_view, "has no plan of layers; expected one of stp"),
    ],
)
@pytest.mark.parametrize("method", ["pasta", "ptuning", "probe"])
def test_an_adapter_that_has_nothing_to_show_is_refused(look: object, told: str, method: str) -> None:
    with pytest.raises(RequestError, match=f"is an adapter of {method} and {told}"):
        look(opened(method, rows=3))


def test_an_apt_without_its_token_gate_is_refused() -> None:
    adapter, data = pair_of("apt")
    bare = replace(
        adapter,
        config=replace(adapter.config, token_gate=False),
        cue={name: adapter.cue[name] for name in ("kv", "scale")},
    )
    with pytest.raises(RequestError, match="token_gate on"):
        inspect_gates(bare, data, backbone=tiny_base())
