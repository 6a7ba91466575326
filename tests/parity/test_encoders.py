"""Every family agrees with transformers: hidden states, pooler and gradients."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from softcue.attention.attend import KERNELS
from softcue.attention.layout import Layout
from softcue.batch import Example, pack
from softcue.encoder.core import Encoder
from softcue.encoder.deberta import DebertaLayer
from softcue.encoder.load import load_encoder
from softcue.encoder.modernbert import ModernbertEncoder, ModernbertLayer
from softcue.protocol import Context, Cue, Prefix
from tests.tiny import TINY, Nothing, padded, random_examples, real_rows, tiny_encoder, tiny_hf

LENGTHS = (1, 50, 2, 23, 7, 48, 31, 12)
FAMILIES = pytest.mark.parametrize("family", TINY)


def run(encoder: Encoder, examples: list[Example], cue: Cue | None = None) -> Tensor:
    return encoder(pack(examples), Nothing() if cue is None else cue)[0]


@FAMILIES
@pytest.mark.parametrize("kernel", KERNELS)
def test_hidden_states_and_pooler_equal_transformers(family: str, kernel: str) -> None:
    model, encoder = tiny_hf(family), tiny_encoder(family)
    encoder.kernel = kernel
    examples = random_examples(family, LENGTHS)
    batch = pack(examples)
    with torch.no_grad():
        theirs = model(**padded(model, examples))
        hidden, _ = encoder(batch, Nothing())
        torch.testing.assert_close(hidden, real_rows(theirs.last_hidden_state, batch), atol=1e-5, rtol=0)
        pooled = theirs.get("pooler_output")
        assert (pooled is not None) == (encoder.pooler is not None) == encoder.dims.pooler
        if pooled is not None:
            torch.testing.assert_close(
                encoder.pool(hidden[batch.special[:, 0]], None), pooled[list(batch.order)], atol=1e-5, rtol=0
            )


@FAMILIES
def test_gradient_of_the_word_vectors_equals_transformers(family: str) -> None:
    model, encoder = tiny_hf(family), tiny_encoder(family)
    examples = random_examples(family, LENGTHS, seed=1)
    batch = pack(examples)
    weight = torch.randn(sum(LENGTHS), encoder.dims.hidden, generator=torch.Generator().manual_seed(3))
    loss = (real_rows(model(**padded(model, examples)).last_hidden_state, batch) * weight).sum()
    embedding = model.get_input_embeddings()
    assert isinstance(embedding, torch.nn.Embedding)
    (theirs,) = torch.autograd.grad(loss, [embedding.weight])
    words = encoder.embed.words.weight.requires_grad_(True)
    (ours,) = torch.autograd.grad((encoder(batch, Nothing())[0] * weight).sum(), [words])
    ours = ours.to_dense()
    assert (ours - theirs).norm() <= 1e-4 * theirs.norm()
    assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()


@FAMILIES
def test_an_example_alone_equals_itself_in_company(family: str) -> None:
    encoder = tiny_encoder(family)
    examples = random_examples(family, LENGTHS)
    together = run(encoder, examples).split(list(LENGTHS))
    for example, hidden in zip(examples, together, strict=True):
        torch.testing.assert_close(run(encoder, [example]), hidden, atol=1e-5, rtol=0)


@FAMILIES
def test_training_drops_and_evaluation_does_not(family: str) -> None:
    encoder = tiny_encoder(family)
    examples = random_examples(family, (9, 30))
    assert torch.equal(run(encoder, examples), run(encoder, examples))
    encoder.train()
    assert not torch.equal(run(encoder, examples), run(encoder, examples))


DROPOUTS = (
    "attention_dropout",
    "attention_probs_dropout_prob",
    "dropout",
    "hidden_dropout_prob",
    "embedding_dropout",
    "mlp_dropout",
)


@FAMILIES
def test_dropping_everything_in_one_place_equals_transformers_doing_so(family: str, tmp_path: Path) -> None:
    known = [name for name in DROPOUTS if name in tiny_hf(family).config.to_dict()]
    assert len(known) >= 2
    examples = random_examples(family, (9, 30))
    batch = pack(examples)
    for chosen in known:
        model = tiny_hf(family, settings={name: float(name == chosen) for name in known})
        model.save_pretrained(tmp_path)
        encoder = load_encoder(tmp_path).encoder.train()
        with torch.no_grad():
            theirs = model.train()(**padded(model, examples)).last_hidden_state
            torch.testing.assert_close(
                encoder(batch, Nothing())[0], real_rows(theirs, batch), atol=1e-5, rtol=0
            )


class Fixed(Cue):
    """The same prefix in every layer, of which each example sees the first `length` columns."""

    def __init__(self, prefix: Prefix) -> None:
        torch.nn.Module.__init__(self)
        self.given = prefix

    def prefix(self, layer: int, hidden: Tensor, ctx: Context) -> Prefix:
        return self.given


@FAMILIES
def test_every_row_sees_its_own_prefix_and_no_other(family: str) -> None:
    encoder = tiny_encoder(family)
    examples = random_examples(family, (40, 45))
    dims = encoder.dims
    key, value = torch.randn(2, 2, 3, dims.heads, dims.head, generator=torch.Generator().manual_seed(0))
    plain = run(encoder, examples)
    unseen = run(encoder, examples, Fixed(Prefix(key, value, length=torch.tensor([0, 0]))))
    torch.testing.assert_close(unseen, plain, atol=1e-5, rtol=0)
    seen = run(encoder, examples, Fixed(Prefix(key, value, length=torch.tensor([3, 0]))))
    torch.testing.assert_close(seen[40:], plain[40:], atol=1e-5, rtol=0)
    assert ((seen - plain)[:40].abs().amax(dim=1) > 1e-3).all()


class Recorder(Cue):
    """Notes every site and leaves it alone."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)
        self.seen: dict[tuple[int, str], tuple[Tensor, Tensor]] = {}

    def on_affine(self, layer: int, site: str, x: Tensor, y: Tensor, ctx: Context) -> Tensor:
        assert (layer, site) not in self.seen
        self.seen[layer, site] = (x, y)
        return y


@FAMILIES
def test_every_affine_map_is_shown_to_the_cue_with_its_own_widths(family: str) -> None:
    encoder, cue = tiny_encoder(family), Recorder()
    examples = random_examples(family, (4, 11))
    plain = run(encoder, examples)
    torch.testing.assert_close(run(encoder, examples, cue), plain, atol=1e-6, rtol=0)
    sites = ("query", "key", "value", "out", "up", "down", "norm1", "norm2")
    assert set(cue.seen) == {(0, "embed_norm")} | {
        (layer, site) for layer in range(encoder.dims.layers) for site in sites
    }
    for (_, site), (x, y) in cue.seen.items():
        assert len(x) == len(y) == 15
        if site != "embed_norm":
            assert y.shape[1] == (encoder.dims.ff if site == "up" else encoder.dims.hidden)
        if site not in ("embed_norm", "down"):
            assert x.shape[1] == encoder.dims.hidden


@FAMILIES
def test_rows_that_cannot_see_each_other_do_not_change_each_other(family: str) -> None:
    encoder = tiny_encoder(family)
    first, second = random_examples(family, (17, 20))
    changed = Example([*second.token[:-1], 6 if second.token[-1] != 6 else 7], second.segment, second.special)
    torch.testing.assert_close(
        run(encoder, [first, second])[:17], run(encoder, [first, changed])[:17], atol=0, rtol=0
    )


def test_modernbert_has_both_local_and_global_layers_and_the_window_matters() -> None:
    encoder = tiny_encoder("modernbert")
    assert [layer.local for layer in encoder.layers if isinstance(layer, ModernbertLayer)] == [
        False,
        True,
        True,
        False,
    ]
    assert isinstance(encoder, ModernbertEncoder) and encoder.reach == 4
    examples = random_examples("modernbert", (40,))
    narrow = run(encoder, examples)
    encoder.reach = 40
    assert (run(encoder, examples) - narrow).abs().max() > 1e-3


@pytest.mark.parametrize("longest", [3, 4, 5, 6, 7])
def test_texts_about_as_long_as_modernberts_window_equal_transformers(longest: int) -> None:
    model, encoder = tiny_hf("modernbert"), tiny_encoder("modernbert")
    examples = random_examples("modernbert", (longest, 2))
    with torch.no_grad():
        theirs = real_rows(model(**padded(model, examples)).last_hidden_state, pack(examples))
    torch.testing.assert_close(run(encoder, examples), theirs, atol=1e-5, rtol=0)


def test_deberta_drops_position_vectors_anew_in_every_layer_of_training() -> None:
    encoder = tiny_encoder("deberta-v3")
    batch = pack(random_examples("deberta-v3", (9,)))
    layout = Layout(batch)
    content = torch.ones(1, encoder.dims.heads, 9, encoder.dims.head)
    layer, shared = encoder.layers[0], encoder.shared(batch, layout)
    assert isinstance(layer, DebertaLayer)

    def terms() -> Tensor:
        bias = layer.bias(shared)
        assert bias is not None
        return bias(content, content, layout.buckets[0])

    assert torch.equal(terms(), terms())
    encoder.train()
    assert not torch.equal(terms(), terms())


@FAMILIES
def test_bfloat16_stays_close_to_float32(family: str) -> None:
    encoder = tiny_encoder(family)
    examples = random_examples(family, LENGTHS)
    exact = run(encoder, examples)
    rough = run(encoder.bfloat16(), examples).float()
    assert rough.isfinite().all()
    assert torch.cosine_similarity(exact, rough, dim=-1).mean() > 0.99


def test_minilm_equals_transformers_on_sentences() -> None:
    backbone = load_encoder("minilm")
    tokenizer = AutoTokenizer.from_pretrained(backbone.folder)
    model = AutoModel.from_pretrained(backbone.folder, attn_implementation="eager").eval()
    texts = [
        "Who wrote Hamlet?",
        "A man, a plan, a canal: Panama! " * 4,
        "x",
        "Alice met Bob in Paris on a rainy day.",
    ]
    inputs = tokenizer(
        texts, ["", "It was Shakespeare.", "", "They talked for hours."], padding=True, return_tensors="pt"
    )
    counts = inputs["attention_mask"].sum(1).tolist()
    rows = zip(inputs["input_ids"].tolist(), inputs["token_type_ids"].tolist(), counts, strict=True)
    batch = pack([Example(token[:count], segment[:count], [0, count - 1]) for token, segment, count in rows])
    with torch.no_grad():
        theirs = model(**inputs)
        hidden, _ = backbone.encoder(batch, Nothing())
        torch.testing.assert_close(hidden, real_rows(theirs.last_hidden_state, batch), atol=1e-5, rtol=0)
        pooled = backbone.encoder.pool(hidden[batch.special[:, 0]], None)
        torch.testing.assert_close(pooled, theirs.pooler_output, atol=1e-5, rtol=0)
