"""The forward pass that a graph holds: the encoder's own weights over padded examples, adapters as inputs."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from softcue.encoder.core import Embed, Encoder
from softcue.encoder.layer import Halves, Layer
from softcue.encoder.linear import ACTIVATIONS
from softcue.errors import BackboneError
from softcue.interop.onnx_numbers import Numbers

HIDDEN = -torch.inf  # logit towards what is not seen


def check_family(encoder: Encoder, name: str) -> None:
    """Refuse an encoder whose layers are more than post-norm attention with absolute positions.

    Raises BackboneError.
    """
    layers = [layer for layer in encoder.layers if isinstance(layer, Layer)]
    own = [type(layer) for layer in layers]
    plain = (
        len(layers) == len(encoder.layers)
        and all(kind.mix is Layer.mix and kind.finish is Layer.finish for kind in own)
        and all(kind.forward is Halves.forward and kind.scale is Layer.scale for kind in own)
        and type(encoder).shared is Encoder.shared
        and type(encoder.embed) is Embed
        and encoder.embed.position is not None
        and encoder.norm is None
    )
    if not plain:
        raise BackboneError(
            f"backbone {name!r} adds to the logits between rows, or has other layers than BERT's; the ONNX "
            "graph covers BERT, RoBERTa, XLM-R, CamemBERT, ELECTRA, DistilBERT and ALBERT"
        )


class PaddedForward(nn.Module):
    """Logits of padded examples, each by the numbers of its own seat.

    Letters: B examples, T tokens, R rows in front; others as in GRAPH_INPUTS.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.spec = encoder.spec

    def forward(
        self,
        token: Tensor,  # (B, T) token ids
        segment: Tensor,  # (B, T) sentence A / B
        slot: Tensor,  # (B, T) number of a special token among its example's, -1 for others
        mask: Tensor,  # (B, T) 1 for tokens, 0 for padding
        seat: Tensor,  # (B,) which adapter serves each example
        numbers: Numbers,  # (A, ..) each
    ) -> tuple[Tensor, Tensor]:
        """Return logits of the examples, (B, C), and of their tokens, (B, T, C)."""
        own = {name: table.index_select(0, seat) for name, table in numbers.items()}
        real = mask > 0
        front = own.get("front")
        hidden = self.embedded(token, segment, own)
        seen = real if front is None else torch.cat([front > 0, real], 1)  # (B, R + T)
        rows = 0 if front is None else front.shape[1]
        memory: Tensor | None = None
        for number in range(self.spec.layers):
            if "entered" in own:
                hidden, memory = self.prompted(number, hidden, memory, own)
            if "delta" in own:
                delta = own["delta"][:, number]  # (B, S, D)
                chosen = (slot.unsqueeze(-1) == torch.arange(delta.shape[1])).to(delta.dtype)
                added = chosen @ delta
                hidden = (
                    torch.cat([hidden[:, :rows], hidden[:, rows:] + added], 1) if rows else hidden + added
                )
            text = hidden[:, rows:] if front is not None else hidden
            prefix = self.prefix(number, text, real, own) if "prefix" in own else None
            hidden = self.layer(number, hidden, seen, prefix, own)
        text = hidden[:, rows:] if front is not None else hidden
        first = text[:, 0]
        head = first if front is None else torch.where(front[:, :1] > 0, hidden[:, 0], first)
        return self.logits(text, first, head, real, own)

    def embedded(self, token: Tensor, segment: Tensor, own: Numbers) -> Tensor:
        """Return the first layer's input: (B, T), (B, T) -> (B, R+T, D)."""
        embed, spec = self.encoder.embed, self.spec
        word = F.embedding(token, embed.words.weight)
        # beyond the table stands padding alone
        place = own["shift"].unsqueeze(1) + torch.arange(token.shape[1]).unsqueeze(0)
        if "front" in own:
            front = own["front"]
            words = own["words"] if "words" in own else front.unsqueeze(-1) * word.new_zeros(spec.embed)
            word = torch.cat([words, word], 1)
            ahead = torch.arange(front.shape[1]).unsqueeze(0).expand(front.shape[0], -1)
            place = torch.cat([ahead, place], 1)
            segment = torch.cat([torch.zeros_like(ahead), segment], 1)
        assert embed.position is not None
        word = word + embed.position(place.clamp(max=spec.positions - 1) + spec.offset)
        if embed.segment is not None:
            word = word + embed.segment(segment.clamp(max=spec.segments - 1))
        normed = embed.norm(word)
        if "bias.embed_norm" in own:
            normed = normed + own["bias.embed_norm"].unsqueeze(1)
        return normed if embed.project is None else mapped(embed.project, normed)

    def prompted(
        self, number: int, hidden: Tensor, memory: Tensor | None, own: Numbers
    ) -> tuple[Tensor, Tensor]:
        """Write the rows in front at a layer's input; return the input, and what the cell remembers.

        (B, R+T, D), (B, R, D) -> (B, R+T, D), (B, R, D).
        """
        rows = own["front"].shape[1]
        left, text = hidden[:, :rows], hidden[:, rows:]
        if memory is None:
            entered = torch.where(own["enters"].view(-1, 1, 1) > 0, own["entered"], left)
        elif "cell" in own:
            entered = self.cell(left, memory, own)
        else:
            return hidden, memory
        kept = entered
        if memory is not None:
            kept = torch.where(own["cell"][:, 4].view(-1, 1, 1) > 0, memory, entered)
        return torch.cat([entered, text], 1), kept

    def cell(self, left: Tensor, memory: Tensor, own: Numbers) -> Tensor:
        """Return what a cell makes of the prompt, and of other rows in front what they are.

        (B, R, D), (B, R, D) -> (B, R, D).
        """
        is_cell, is_tanh, is_gate, is_normed = (own["cell"][:, i].view(-1, 1, 1) > 0 for i in range(4))
        mixed = memory @ own["remember"] + left @ own["forget"]
        if "cell_bias" in own:
            mixed = mixed + own["cell_bias"].unsqueeze(1)
        keep = torch.sigmoid(mixed)
        mixed = torch.where(is_tanh, torch.tanh(mixed), mixed)
        mixed = torch.where(is_gate, keep * memory + (1 - keep) * left, mixed)
        if "cell_norm" in own:
            weight, bias = own["cell_norm"].unbind(1)
            normed = F.layer_norm(mixed, mixed.shape[-1:]) * weight.unsqueeze(1) + bias.unsqueeze(1)
            mixed = torch.where(is_normed, normed, mixed)
        return torch.where(is_cell, mixed, left)

    def prefix(self, number: int, text: Tensor, real: Tensor, own: Numbers) -> tuple[Tensor, Tensor]:
        """Return the layer's prefix, gated by its input: (B, T, D) -> (B, H, P, K), (B, H, P, K)."""
        kv = own["prefix"][:, number]  # (B, 2, P, H, K)
        if "gate" in own:
            mean = mean_of(text, real)
            read = torch.where(own["gate_mean"].unsqueeze(1) > 0, mean, text[:, 0])
            logit = (read.unsqueeze(1) @ own["gate"][:, number]).squeeze(1) + own["gate_bias"][:, number]
            gate = torch.where(own["gates"].unsqueeze(1) > 0, torch.sigmoid(logit), torch.ones_like(logit))
            weight = gate * (own["scale_less_one"][:, number].unsqueeze(1) + 1)
            kv = kv * weight[:, None, :, None, None]
        key, value = kv.transpose(2, 3).unbind(1)
        return key, value

    def layer(
        self, number: int, hidden: Tensor, seen: Tensor, prefix: tuple[Tensor, Tensor] | None, own: Numbers
    ) -> Tensor:
        """Apply one layer; seen: (B, R+T) what attention may look at.

        (B, R+T, D) -> (B, R+T, D).
        """
        layer = self.encoder.layers[number]
        assert isinstance(layer, Layer)
        parts = mapped(layer.qkv, hidden).chunk(3, -1)
        query, key, value = (
            self.edited(site, number, hidden, y, own).unflatten(-1, (self.spec.heads, -1)).transpose(1, 2)
            for site, y in zip(("query", "key", "value"), parts, strict=True)
        )
        query = query * query.shape[-1] ** -0.5
        scores = (query @ key.mT).masked_fill(~seen[:, None, None], HIDDEN)
        if prefix is not None:
            ahead = query @ prefix[0].mT  # (B, H, U, P)
            if "selects" in own:
                selects, tau = (own[name].view(-1, 1, 1, 1) for name in ("selects", "tau"))
                ahead = ahead + selects * F.logsigmoid(tau * ahead)
            visible = own["prefix_seen"][:, number] > 0
            ahead = ahead.masked_fill(~visible[:, None, None], HIDDEN)
            scores, value = torch.cat([ahead, scores], -1), torch.cat([prefix[1], value], 2)
        mixed = (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
        out = self.edited("out", number, mixed, mapped(layer.out, mixed), own)
        hidden = self.edited("norm1", number, hidden, layer.norm1(hidden + out), own)
        wide = self.edited("up", number, hidden, mapped(layer.up, hidden), own)
        wide = F.gelu(wide) if self.spec.activation == "gelu" else ACTIVATIONS[self.spec.activation](wide)
        down = self.edited("down", number, wide, mapped(layer.down, wide), own)
        return self.edited("norm2", number, hidden, layer.norm2(hidden + down), own)

    def edited(self, site: str, number: int, x: Tensor, y: Tensor, own: Numbers) -> Tensor:
        """Add what the adapters add to the output of one map: (B, R+T, I), (B, R+T, O) -> (B, R+T, O)."""
        if f"shrink.{site}" in own:
            y = y + (x @ own[f"shrink.{site}"][:, number]) @ own[f"grow.{site}"][:, number]
        if f"bias.{site}" in own:
            y = y + own[f"bias.{site}"][:, number].unsqueeze(1)
        return y

    def logits(
        self, text: Tensor, first: Tensor, head: Tensor, real: Tensor, own: Numbers
    ) -> tuple[Tensor, Tensor]:
        """Return logits of the examples and of the tokens.

        first, head: the rows of [CLS], and of the example's first row; real: whether a token is there.
        (B, T, D), (B, D), (B, D), (B, T) -> (B, C), (B, T, C).
        """
        features = [first, mean_of(text, real)]
        if self.encoder.pooler is not None:
            features += [self.pooled(first, own), self.pooled(head, own)]
        read = sum(
            (own["pooling"][:, i : i + 1] * x for i, x in enumerate(features)), torch.zeros_like(first)
        )
        weight, bias = own["head_weight"].mT, own["head_bias"].unsqueeze(1)
        return (read.unsqueeze(1) @ weight + bias).squeeze(1), text @ weight + bias

    def pooled(self, row: Tensor, own: Numbers) -> Tensor:
        """Apply the checkpoint's own pooler: (B, D) -> (B, D)."""
        assert self.encoder.pooler is not None
        y = mapped(self.encoder.pooler, row)
        return torch.tanh(y + own["bias.pooler"] if "bias.pooler" in own else y)


def mapped(linear: nn.Linear, x: Tensor) -> Tensor:
    """Apply an affine map by torch's own operator, which can be exported: (.., I) -> (.., O)."""
    return F.linear(x, linear.weight, linear.bias)


def mean_of(text: Tensor, real: Tensor) -> Tensor:
    """Return the mean of the tokens: (B, T, D), (B, T) -> (B, D)."""
    weight = real.unsqueeze(-1).to(text.dtype)
    return (text * weight).sum(1) / weight.sum(1)
