"""Attention by layer and head against transformers' own, and against PASTA, APT and GPC written
the slow way.
"""

import random

import pytest
import torch
from torch import Tensor

from softcue.answering.served import reading_of
from softcue.encoder.attention_mass import attention_mass
from softcue.errors import RequestError
from softcue.inspection.attention import AttentionTable, attention_view, inspect_attention
from softcue.inspection.subject import DRAW_SEED, Subject, slot_names
from softcue.readers.items import make_items
from tests.answering.test_predict import random_adapter
from tests.contract.cases import METHODS
from tests.cues.test_pasta import adding
from tests.inspection.slow import Seen, opened, pair_of, seen
from tests.tiny import padded, tiny_hf
from tests.tiny_base import tiny_base, tiny_data


def close(found: object, wanted: Tensor) -> None:
    torch.testing.assert_close(torch.tensor(found), wanted.float(), rtol=1e-4, atol=1e-6)


def agrees(table: AttentionTable, subject: Subject, walks: list[list[Seen]], front: int, rows: int) -> None:
    """Compare with walks of all examples, with `front` prefix columns and `rows` reserved rows."""
    slots = [[], [], []][: len(subject.slots)]
    special, prompt = [], []
    for example, layers in zip(subject.examples, walks, strict=True):
        text = torch.stack([layer.chance[:, rows:].mean(1) for layer in layers])  # (L, H, P + t)
        columns = [front + rows + place for place in example.special]
        for own, column in zip(slots, columns, strict=True):
            own.append(text[:, :, column])
        special.append(text[:, :, columns].sum(-1))
        prompt.append(text[:, :, : front + rows].sum(-1))
    for found, own in zip(table.slots, slots, strict=True):
        close(found, torch.stack(own).mean(0))
    mean = torch.stack(special).mean(0)
    close(table.special, mean)
    close(table.prompt, torch.stack(prompt).mean(0))
    close(table.mostly, (mean > 0.5).float().mean(1))


@pytest.mark.parametrize("pair", [False, True])
def test_before_tuning_it_is_what_transformers_reports(pair: bool) -> None:
    subject = opened("pasta", pair=pair)
    examples, model = subject.examples, tiny_hf("bert").eval()
    assert subject.slots == (("[CLS]", "[SEP] 1", "[SEP] 2") if pair else ("[CLS]", "[SEP]"))
    with torch.no_grad():
        layers = model(**padded(model, examples), output_attentions=True).attentions
    before = attention_view(subject).before
    for slot, found in enumerate(before.slots):
        wanted = [
            torch.stack(
                [chance[i, :, : len(one.token), one.special[slot]].mean(1) for i, one in enumerate(examples)]
            ).mean(0)
            for chance in layers
        ]
        close(found, torch.stack(wanted))
    assert not torch.tensor(before.prompt).any()


@pytest.mark.parametrize("kind", ["classify", "score", "choice", "tag", "multilabel"])
def test_its_mean_over_heads_is_attention_mass(kind: str) -> None:
    subject = opened("spt", kind)
    mass = attention_mass(subject.encoder, subject.examples, len(subject.slots))
    before = torch.tensor(attention_view(subject).before.slots)  # (S, L, H)
    torch.testing.assert_close(before.mean(-1).T, mass, rtol=1e-5, atol=1e-7)


def test_after_tuning_it_is_pasta_written_the_slow_way() -> None:
    subject = opened("pasta", pair=True)
    delta = subject.adapter.cue["delta"]
    walks = [seen(one, before=adding(delta, one)) for one in subject.examples]
    view = attention_view(subject)
    agrees(view.after, subject, walks, 0, 0)
    agrees(view.before, subject, [seen(one) for one in subject.examples], 0, 0)
    assert view.before != view.after


def test_after_tuning_prefix_tokens_take_their_part() -> None:
    subject = opened("ptuning")
    kv, length = subject.adapter.cue["kv"], subject.adapter.config.length  # (L, 2, P, H, K)
    walks = [
        seen(
            one,
            front=lambda layer, hidden: (kv[layer, 0].flatten(1), kv[layer, 1].flatten(1)),
            shift=length if subject.adapter.config.shift else 0,
        )
        for one in subject.examples
    ]
    view = attention_view(subject)
    agrees(view.after, subject, walks, length, 0)
    assert torch.tensor(view.after.prompt).min() > 0


def test_after_tuning_the_rows_of_a_prompt_are_looked_at_and_do_not_look() -> None:
    subject = opened("gpc")
    cue, length = subject.adapter.cue, subject.adapter.config.length

    def walk(one: object) -> list[Seen]:
        carried = [cue["vectors"]]

        def before(layer: int, hidden: Tensor) -> Tensor:
            if layer:
                carried.append(carried[-1] @ cue["remember"][0] + hidden[:length] @ cue["forget"][0])
            return torch.cat([carried[-1], hidden[length:]])

        return seen(one, before=before, shift=length, rows=cue["vectors"])

    agrees(attention_view(subject).after, subject, [walk(one) for one in subject.examples], 0, length)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["classify", "tag"])
def test_a_head_pays_no_more_than_all_its_attention(method: str, kind: str) -> None:
    view = attention_view(opened(method, kind, rows=6))
    for table in (view.before, view.after):
        special, prompt = torch.tensor(table.special), torch.tensor(table.prompt)
        torch.testing.assert_close(special, torch.tensor(table.slots).sum(0))
        assert ((special + prompt) <= 1 + 1e-5).all()
        assert (special > 0).all()


@pytest.mark.parametrize("family", ["roberta", "deberta-v3", "modernbert", "mpnet", "albert"])
def test_it_looks_into_every_family(family: str) -> None:
    base = tiny_base(family)
    adapter = random_adapter(base, "apt", pair=True)
    view = inspect_attention(adapter, tiny_data(pair=True), backbone=base, rows=8)
    mass = torch.tensor(view.before.slots).sum(0)
    assert mass.shape == (base.backbone.encoder.dims.layers, base.backbone.encoder.dims.heads)
    assert (mass <= 1 + 1e-5).all()
    assert "partly a reconstruction" in view.lines()[0]


def test_rows_are_a_draw_and_the_split_is_test_or_else_dev() -> None:
    adapter, data = pair_of("pasta")
    view = inspect_attention(adapter, data, backbone=tiny_base(), rows=5)
    assert (view.shown.split, view.shown.texts) == ("test", 5)
    subject = opened("pasta", rows=5)
    chosen = sorted(random.Random(DRAW_SEED).sample(range(24), 5))
    records = [data.splits["test"][i] for i in chosen]
    items = make_items(records, tiny_base().text, reading_of(subject.adapter))
    assert [one.token for one in subject.examples] == [item.examples[0].token for item in items]
    train = inspect_attention(adapter, data, backbone=tiny_base(), split="train")
    assert (train.shown.split, train.shown.texts) == ("train", 60)


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"split": "valid"}, "has no valid split"),
        ({"rows": 0}, "rows"),
        ({"root": "."}, "root came with data that are read already"),
    ],
)
def test_what_cannot_be_looked_at_is_said(how: dict, told: str) -> None:
    adapter, data = pair_of("pasta")
    with pytest.raises(RequestError, match=told):
        inspect_attention(adapter, data, backbone=tiny_base(), **how)


def test_special_tokens_of_one_role_are_numbered() -> None:
    assert slot_names(("cls", "sep", "sep", "sep")) == ("[CLS]", "[SEP] 1", "[SEP] 2", "[SEP] 3")
