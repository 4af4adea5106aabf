"""Likely mistakes of lesson 5, and words by which the verdict must name each."""

from __future__ import annotations

_RIGHT = """
def my_tokentm(trace):
    C = torch.diag_embed(trace.embedding.norm(dim=-1))
    for layer in trace.layers:
        f = torch.einsum("bhjd,hDd->bhjD", layer.value, layer.head_projection)
        W = weight(layer.stream[:, None], f)
        mixing = (layer.gradient * layer.attention * W[:, :, None]).relu().mean(1)
        C = C + mixing @ C
        C = C + weight(layer.stream_mid, layer.ffn_update)[..., None] * C
    return torch.einsum("bn,bnm->bm", trace.readout, C)[:, trace.layout.prefix :]"""

_ASKED = "tokentm.explain(model, images, target=lambda z: z[:, {}] - z[:, {}]).scores"


def _instead(*changes: tuple[str, str]) -> str:
    """The right function with some of its text replaced."""
    source = _RIGHT
    for old, new in changes:
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    return source


def _signed(body: str) -> str:
    return f"def signed(model, images, wanted, other):\n    {body}"


WRONG: dict[str, list[tuple[str, str]]] = {
    "05.my_tokentm": [
        (_instead(("[:, trace.layout.prefix :]", "")), "there is a number for every token"),
        (_instead(("trace.layout.prefix :", "1:")), "3 prefix tokens, not 1"),
        (
            _instead(('torch.einsum("bn,bnm->bm", trace.readout, C)[:, trace.layout.prefix :]', "C")),
            "the whole contribution map",
        ),
        (_instead(("C)[:,", "C)[0,")), "yours is the map of one"),
        (_instead(("C = C + mixing @ C", "layer.stream.add_(mixing @ layer.stream)")), "changed the record: trace.lay"),
        (_instead(("layer.gradient * ", "")), "Multiply with the gradient before relu"),
        (_instead((".relu().mean(1)", ".relu().mean((0, 1))")), "when others are in the batch"),
        (_instead(('torch.einsum("bn,bnm->bm", trace.readout, C)', "C[:, 0]")), "it reads row 0"),
        (_instead(('"bn,bnm->bm"', '"bn,bmn->bm"')), "it reads a column of the map"),
        (_instead((".norm(dim=-1))\n", ".norm(dim=-1).clamp(1, 1))\n")), "C_0 is the diagonal of the token lengths"),
        (
            _instead(("C = C + weight(layer.stream_mid, layer.ffn_update)[..., None] * C", "pass")),
            "the FFN's step is missing",
        ),
        (
            _instead(
                ("W = weight(layer.stream[:, None], f)", "N = f.shape[2]; W = N * weight(layer.stream[:, None], f)"),
                ("C = C + weight(layer.stream_mid", "C = C + N * weight(layer.stream_mid"),
            ),
            "this is the reading normaliser='mean'",
        ),
        (
            _instead(("weight(layer.stream[:, None], f)", "weight(layer.stream[:, None], f.sum(1, keepdim=True))")),
            "this is the reading transformed='sum'",
        ),
        (
            _instead(
                ("weight(layer.stream[:, None], f)", "weight(layer.stream, layer.stream_mid)[:, None]"),
                ("weight(layer.stream_mid, layer.ffn_update)", "weight(layer.stream_mid, layer.stream_out)"),
            ),
            "this is the reading transformed='stream'",
        ),
        (
            _instead(
                ("weight(layer.stream[:, None], f)", "weight(layer.normed[:, None], f)"),
                ("weight(layer.stream_mid, ", "weight(layer.normed_mid, "),
            ),
            "this is the reading reference='normed'",
        ),
        (
            _instead(
                (
                    "(layer.gradient * layer.attention * W[:, :, None]).relu().mean(1)",
                    "layer.gradient.relu().mean(1) * (layer.attention * W[:, :, None]).mean(1)",
                )
            ),
            "this is the reading head_mean='before'",
        ),
        (
            _instead(
                (
                    "weight(layer.stream[:, None], f)",
                    "torch.cosine_similarity(layer.stream[:, None], f, dim=-1).softmax(-1)",
                ),
                (
                    "weight(layer.stream_mid, layer.ffn_update)",
                    "torch.cosine_similarity(layer.stream_mid, layer.ffn_update, dim=-1).softmax(-1)",
                ),
            ),
            "the change of length is missing",
        ),
        (
            _instead(
                ("weight(layer.stream[:, None], f)", "f.norm(dim=-1) / layer.stream[:, None].norm(dim=-1)"),
                (
                    "weight(layer.stream_mid, layer.ffn_update)",
                    "(layer.ffn_update.norm(dim=-1) / layer.stream_mid.norm(dim=-1))",
                ),
            ),
            "the direction, NECC, is missing",
        ),
        (_instead((".relu().mean(1)", ".relu().sum(1)")), "heads are averaged, not added"),
        (_instead((".relu().mean(1)", ".mean(1)")), "relu is missing"),
        (_instead((".relu().mean(1)", ".mean(1).relu()")), "relu comes before the mean over heads"),
        (_instead(("W[:, :, None]", "W[..., None]")), "the weight belongs to the token that is taken"),
        (_instead(("C = C + mixing @ C", "C = mixing @ C")), "the attention's step is I + mixing"),
        (_instead(("C = C + weight", "C = weight")), "the FFN's step is I + W, not W alone"),
        (
            _instead(
                ("        C = C + mixing @ C\n", ""),
                ("ffn_update)[..., None] * C", "ffn_update)[..., None] * C\n        C = C + mixing @ C"),
            ),
            "attention comes before the FFN",
        ),
        (_instead(("in trace.layers", "in trace.layers[::-1]")), "begin with trace.layers[0]"),
        (
            _instead(
                ("C + mixing @ C", "C + C @ mixing"),
                ("[..., None] * C", "[:, None] * C"),
            ),
            "each layer multiplies from the left",
        ),
        (_instead(("layer.stream[:, None]", "layer.stream")), "stopped with RuntimeError"),
        (
            "def my_tokentm(trace):\n    return tokentm.methods.METHODS['generic_attention'](trace).scores",
            "of the largest score, on a model of 3 layers",
        ),
        (
            "def my_tokentm(trace):\n    return tokentm.TokenTM()(trace).scores",
            "right, but it is tokentm.methods.tokentm that computes it",
        ),
        ("def my_tokentm(trace):\n    return tokentm.TokenTM()(trace)", "expected numbers of shape (3, 6)"),
    ],
    "05.signed": [
        (_signed("return tokentm.explain(model, images, target=wanted)"), "take its scores"),
        (_signed("return tokentm.explain(model, images, target=wanted).scores[0]"), "expected shape (2, 6)"),
        (_signed(f"return {_ASKED.format('wanted', 'other')}"), "that is one question"),
        (
            _signed(f"return {_ASKED.format('wanted', 'other')} - tokentm.explain(model, images, target=other).scores"),
            "every sign must turn",
        ),
        (
            _signed(
                "f = lambda a, b: tokentm.explain(model, images, target=lambda z: z.softmax(1)[:, a] - "
                "z.softmax(1)[:, b]).scores; return f(wanted, other) - f(other, wanted)"
            ),
            "Subtract logits, not probabilities",
        ),
        (
            _signed(f"return {_ASKED.format('other', 'wanted')} - {_ASKED.format('wanted', 'other')}"),
            "the signs are the wrong way round",
        ),
        (
            _signed(
                "return tokentm.explain(model, images, target=wanted).scores - "
                "tokentm.explain(model, images, target=other).scores"
            ),
            "the difference of two maps, each of one class",
        ),
        (
            _signed(
                f"a, b = {_ASKED.format('wanted', 'other')}, {_ASKED.format('other', 'wanted')}; return (a - b) / 2"
            ),
            "without scaling",
        ),
        (_signed("return tokentm.explain(model, images, target='wanted').scores"), "stopped with InvalidTargetError"),
        (_signed(f"{_ASKED.format('wanted', 'other')}"), "Is its `return` missing?"),
    ],
}
