"""Assignment 1, TokenTM from the record: what a student's functions must do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

import tokentm
from tokentm.teaching.core import Exercise, same, tensor
from tokentm.teaching.fresh import small_images, small_vit
from tokentm.teaching.watch import Work, borrowed

Answer = Callable[..., Any]

_LIBRARY = ("transformation", "aggregation", "methods", "paths")
"""What the assignment is to write, as the library has it."""


def _by_hand(answer: Answer, *given: Any) -> str | None:
    if names := borrowed(_LIBRARY, answer, *given):
        return f"right, but it calls {names[0]}. To write that is the task: use torch alone."
    return None


class _Tokens(NamedTuple):
    """Tokens (B, N, D), values (B, H, N, d) and projections (H, D, d)."""

    token: Tensor
    value: Tensor
    projection: Tensor

    @property
    def transformed(self) -> Tensor:
        """f^h(x_j), (B, H, N, D)."""
        return torch.einsum("bhjd,hDd->bhjD", self.value, self.projection)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        batch, heads, tokens, _ = self.value.shape
        return 2, batch, heads, tokens


def _tokens() -> Iterator[_Tokens]:
    """Batch, heads, tokens, width, head width: no two of the first alike, width other than heads times head width."""
    for seed, (batch, heads, count, width, narrow) in enumerate(((2, 3, 5, 8, 4), (1, 2, 7, 6, 3), (3, 1, 4, 9, 2))):
        generator = torch.Generator().manual_seed(seed)
        yield _Tokens(
            torch.randn(batch, count, width, generator=generator),
            torch.randn(batch, count, heads, narrow, generator=generator).transpose(1, 2),  # as it leaves a model
            torch.randn(heads, width, narrow, generator=generator),
        )


def _compared(compare_heads: Answer, given: _Tokens) -> tuple[Tensor, Tensor]:
    found = tensor(compare_heads(*given), given.shape, "(ratio and cosine, batch, heads, tokens)")
    return found[0], found[1]


def an_unchanged_token_has_ratio_and_cosine_one(compare_heads: Answer) -> str | None:
    generator = torch.Generator().manual_seed(4)
    token = torch.randn(2, 5, 6, generator=generator) * 3
    for factor, cosine in ((1.0, 1.0), (2.0, 1.0), (0.5, 1.0), (-1.0, -1.0)):
        given = _Tokens(token, token.unsqueeze(1).clone(), factor * torch.eye(6).unsqueeze(0))
        found = _compared(compare_heads, given)
        said = f"for f(x) = {factor:g} x the length ratio is {abs(factor):g} and the cosine {cosine:g}; yours"
        if same(found[0], torch.full_like(found[0], abs(factor))):
            if not same(found[1], torch.full_like(found[1], cosine)):
                return f"{said} has the cosine {found[1].mean():.3g}. Divide the inner product by both lengths."
        elif abs(factor) != 1 and same(found[0], torch.full_like(found[0], 1 / abs(factor))):
            return f"{said} has the ratio {found[0].mean():.3g}: it is L(T) / L(E), not the other way round."
        elif abs(factor) != 1 and same(found[0], torch.full_like(found[0], factor**2)):
            return f"{said} has the ratio {found[0].mean():.3g}: take the root of the squared length."
        else:
            return f"{said} has the ratio {found[0].mean():.3g}."
    return None


def a_head_of_values_zero_hands_over_nothing(compare_heads: Answer) -> str | None:
    for given in _tokens():
        value = given.value.clone()
        value[:, -1, 0] = 0
        found = compare_heads(*given._replace(value=value))
        parts = found if isinstance(found, tuple | list) else [found]
        if any(isinstance(part, Tensor) and not torch.isfinite(part).all() for part in parts):
            return "a value of zeros must give the ratio 0 and the cosine 0; yours gives NaN. Where L(T) is 0, take 0."
    return None


def every_head_has_its_own_projection(compare_heads: Answer) -> str | None:
    for given in _tokens():
        ratio, cosine = _compared(compare_heads, given)
        turned = given._replace(value=given.value.flip(1), projection=given.projection.flip(0))
        again = _compared(compare_heads, turned)
        if not same(again[0], ratio.flip(1)) or not same(again[1], cosine.flip(1)):
            return "with the heads in another order, the result must be the same in that order; yours is not."
        if given.projection.shape[0] > 1:
            other = given._replace(projection=given.projection.clone())
            other.projection[1] *= 2
            moved = _compared(compare_heads, other)[0] - ratio
            if moved[:, 0].abs().max() > 1e-4 * ratio.max():
                return "head 1 must not depend on the projection of head 2; yours does. Keep the heads apart."
    return None


def every_token_is_compared_with_itself(compare_heads: Answer) -> str | None:
    for given in _tokens():
        ratio, cosine = _compared(compare_heads, given)
        louder = given.token.clone()
        louder[:, 0] *= 2
        again = _compared(compare_heads, given._replace(token=louder))
        ratio[:, :, 0] /= 2
        if not same(again[0], ratio) or not same(again[1], cosine):
            return (
                "a token twice as long halves its own length ratio and leaves every cosine and every other ratio; "
                "yours does otherwise. Compare f^h(x_j) with E_j of the same j."
            )
    return None


def turning_the_stream_changes_nothing(compare_heads: Answer) -> str | None:
    for given in _tokens():
        turn = torch.linalg.qr(torch.randn(*given.token.shape[-1:] * 2, generator=torch.Generator().manual_seed(1)))[0]
        turned = given._replace(token=given.token @ turn.T, projection=turn @ given.projection)
        before, after = _compared(compare_heads, given), _compared(compare_heads, turned)
        if not all(same(b, a, 1e-3) for b, a in zip(before, after, strict=True)):
            return (
                "lengths and angles stay when E and P are turned together; yours change. Compare vectors of the "
                "stream, P_h v, and not the values v inside the head."
            )
    return None


def ratio_and_cosine_are_those_of_the_transformed_tokens(compare_heads: Answer) -> str | None:
    for given in _tokens():
        transformed, token = given.transformed, given.token.unsqueeze(1)
        lengths = transformed.norm(dim=-1) / token.norm(dim=-1)
        cosines = torch.cosine_similarity(token, transformed, dim=-1)
        ratio, cosine = _compared(compare_heads, given)
        if not same(ratio, lengths, 1e-3):
            return "the ratio must be the length of P_h v_j over that of E_j; for random tokens yours is another."
        if not same(cosine, cosines, 1e-3):
            return "the cosine must be that of E_j and P_h v_j; for random tokens yours is another."
    return None


def comparing_is_written_by_hand(compare_heads: Answer) -> str | None:
    return _by_hand(compare_heads, *next(_tokens()))


COMPARE = Exercise(
    properties=(
        an_unchanged_token_has_ratio_and_cosine_one,
        a_head_of_values_zero_hands_over_nothing,
        every_head_has_its_own_projection,
        every_token_is_compared_with_itself,
        turning_the_stream_changes_nothing,
        ratio_and_cosine_are_those_of_the_transformed_tokens,
        comparing_is_written_by_hand,
    ),
    right="every head's transformed token is compared with its own token, in length and in direction.",
    hints=(
        "f^h(x_j) = P_h v_j. How long is it, and what is its inner product with E_j?",
        'torch.einsum("bhjd,hDd->bhjD", value, projection) are all transformed tokens; E needs an axis for the heads.',
        "where a length is 0, the cosine is 0 / 0: torch.where(length > 0, ..., 0.0) puts a 0 there.",
    ),
)


def never_holds_all_transformed_tokens(compare_heads: Answer) -> str | None:
    generator = torch.Generator().manual_seed(5)
    heads, count, width, narrow = 4, 40, 64, 4
    given = _Tokens(
        torch.randn(1, count, width, generator=generator),
        torch.randn(1, heads, count, narrow, generator=generator),
        torch.randn(heads, width, narrow, generator=generator),
    )
    with Work() as work:
        compare_heads(*given)
    allowed = max(count * width, heads * narrow * width)
    if work.largest > allowed:
        return (
            f"for {heads} heads and {count} tokens of {width} numbers it makes a tensor of {work.largest} numbers; "
            f"wanted: none larger than the tokens themselves, {allowed}. L(f)^2 = v^T (P^T P) v, <E, f> = (P^T E) v."
        )
    return None


FRUGAL = Exercise(
    properties=(ratio_and_cosine_are_those_of_the_transformed_tokens, never_holds_all_transformed_tokens),
    right="same numbers, and no tensor of all transformed tokens was ever made.",
    hints=(
        "the square of a length is f^T f, with f = P v. Which part of it does not depend on the token?",
        "P^T P is a small matrix, one for each head. And <E, P v> = <P^T E, v>.",
    ),
)


def _factors() -> Iterator[tuple[Tensor, Tensor]]:
    """Length ratios and cosines, (batch, heads, tokens), no two axes alike."""
    for seed, shape in enumerate(((2, 3, 5), (1, 4, 7), (3, 2, 4))):
        generator = torch.Generator().manual_seed(seed)
        yield torch.rand(shape, generator=generator) * 2 + 0.1, torch.rand(shape, generator=generator) * 2 - 1


def _weighed(weight: Answer, ratio: Tensor, cosine: Tensor) -> Tensor:
    return tensor(weight(ratio, cosine), tuple(ratio.shape), "one weight for each length ratio")


def tokens_alike_share_one(weight: Answer) -> str | None:
    for ratio, _ in _factors():
        ones, count = torch.ones_like(ratio), ratio.shape[-1]
        found = _weighed(weight, ones, ones)
        if same(found, ones):
            return (
                f"{count} unchanged tokens weigh 1/{count} each under the normaliser sum; yours weigh 1 each. "
                "That is the mean."
            )
        if not same(found, ones / count):
            return (
                f"{count} unchanged tokens, ratio and cosine 1, weigh 1/{count} each; yours weigh {found.mean():.3g}. "
                "Divide by the sum over the tokens of one head and one image."
            )
    return None


def a_weight_follows_its_length_ratio(weight: Answer) -> str | None:
    for ratio, cosine in _factors():
        expected = _weighed(weight, ratio, cosine)
        longer = ratio.clone()
        longer[..., 0] *= 2
        found = _weighed(weight, longer, cosine)
        if same(found, expected):
            return "a token made twice as long must weigh twice as much; yours weighs the same. Where is L(T) / L(E)?"
        expected[..., 0] *= 2
        if not same(found, expected):
            return "twice the length ratio doubles that weight and leaves all others; yours does otherwise."
    return None


def a_reversed_token_weighs_less(weight: Answer) -> str | None:
    for ratio, _ in _factors():
        cosine = torch.ones_like(ratio)
        cosine[..., 0] = -1
        found = _weighed(weight, torch.ones_like(ratio), cosine)
        share = found[..., 0] / found[..., 1]
        if (share >= 1 - 1e-6).any():
            return "a reversed token must weigh less than an unchanged one; yours does not. Where is the cosine?"
        if not same(share, torch.full_like(share, torch.e**-2)):
            return (
                f"a reversed token must weigh e^-2 = 0.135 times as much as an unchanged one; yours {share.mean():.3g} "
                "times. Take the exponential of each cosine."
            )
    return None


def the_exponentials_are_normalised_over_the_tokens(weight: Answer) -> str | None:
    for ratio, cosine in _factors():
        found = _weighed(weight, torch.ones_like(ratio), cosine)
        if not same(found.sum(-1), torch.ones_like(found.sum(-1))):
            return (
                "with all ratios 1 the weights of one head sum to 1 over its tokens; yours do not. Normalise over the "
                "last axis."
            )
    return None


def any_leading_axes_will_do(weight: Answer) -> str | None:
    ratio, cosine = next(_factors())
    whole = _weighed(weight, ratio, cosine)
    for index in ((0,), (1, 2)):
        if not same(_weighed(weight, ratio[index], cosine[index]), whole[index]):
            return "one image, or one head, alone must give what it gives among others; yours does not."
    return None


def the_weight_is_both_factors(weight: Answer) -> str | None:
    for ratio, cosine in _factors():
        share = cosine.exp() / cosine.exp().sum(-1, keepdim=True)
        if not same(_weighed(weight, ratio, cosine), ratio * share):
            return "for random ratios and cosines it is not L(T) / L(E) times NECC."
    return _by_hand(weight, *next(_factors()))


WEIGHT = Exercise(
    properties=(
        tokens_alike_share_one,
        a_weight_follows_its_length_ratio,
        a_reversed_token_weighs_less,
        the_exponentials_are_normalised_over_the_tokens,
        any_leading_axes_will_do,
        the_weight_is_both_factors,
    ),
    right="length times direction, and the directions of one head share 1 among its tokens.",
    hints=(
        "two factors: the ratio as it is, and NECC of the cosines.",
        "NECC is a softmax. Over which axis do tokens lie?",
    ),
)


def _heads() -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Attention (B, H, N, N), weight (B, H, N), gradient (B, H, N, N)."""
    for seed, (batch, heads, count) in enumerate(((2, 3, 5), (1, 4, 6), (3, 1, 4))):
        generator = torch.Generator().manual_seed(seed)
        attention = torch.randn(batch, heads, count, count, generator=generator).mul(2).softmax(-1)
        weight = torch.rand(batch, heads, count, generator=generator) + 0.1
        yield attention, weight, torch.randn(batch, heads, count, count, generator=generator)


def _mixed(mix: Answer, attention: Tensor, weight: Tensor, gradient: Tensor) -> Tensor:
    batch, _, count, _ = attention.shape
    return tensor(mix(attention, weight, gradient), (batch, count, count), "(batch, tokens, tokens), heads averaged")


def a_token_of_weight_zero_hands_over_nothing(mix: Answer) -> str | None:
    for attention, weight, gradient in _heads():
        silent = weight.clone()
        silent[..., 1] = 0
        found = _mixed(mix, attention, silent, gradient.abs())
        off = found - torch.diag_embed(torch.diagonal(found, dim1=1, dim2=2))
        if off[:, :, 1].any():
            if not off[:, 1].any():
                return (
                    "W_j belongs to what token j hands over, column j of A; yours weighs row j, what j takes. "
                    "A * weight needs the weight along the last axis."
                )
            return "a token of weight 0 must hand over nothing, column j is 0; yours is not. Multiply column j by W_j."
        if found[:, 1, 1].any():
            return "the identity of the residual comes in the next step; here its place is empty. Leave it out."
    return None


def against_the_score_counts_nothing(mix: Answer) -> str | None:
    for attention, weight, gradient in _heads():
        found = _mixed(mix, attention, weight, -gradient.abs())
        if (found < 0).any():
            return "where the gradient is negative, nothing may be left; yours is negative there. Where is the relu?"
        if found.any():
            return "where the gradient is negative, nothing may be left; yours is positive. relu, not abs."
    return None


def heads_are_averaged_last(mix: Answer) -> str | None:
    for attention, weight, gradient in _heads():
        if attention.shape[1] < 2:
            continue
        alike = [t[:, :1].expand(-1, 2, *t.shape[2:]).contiguous() for t in (attention, weight, gradient.abs())]
        torn = torch.stack((alike[2][:, 0], -alike[2][:, 1]), dim=1)
        both, one = _mixed(mix, *alike), _mixed(mix, alike[0], alike[1], torn)
        if not one.any():
            return (
                "two heads that disagree must not cancel: the one with the positive gradient counts, halved. Yours "
                "gives 0. relu first, then the mean over heads."
            )
        if same(both, 2 * _mixed(mix, *(t[:, :1] for t in alike))):
            return "two heads alike give what one gives; yours gives twice that: mean over heads, not sum."
    return None


def the_mixing_is_gradient_times_weighed_attention(mix: Answer) -> str | None:
    for attention, weight, gradient in _heads():
        wanted = (gradient * attention * weight.unsqueeze(-2)).relu().mean(1)
        found = _mixed(mix, attention, weight, gradient)
        if same(found, wanted):
            continue
        if same(found, gradient.relu().mean(1) * (attention * weight.unsqueeze(-2)).mean(1)):
            return "each head's gradient belongs to that head's attention: multiply head by head, then average."
        return "for random heads it is not mean_h relu(G^h * A^h W^h)."
    return _by_hand(mix, *next(_heads()))


MIX = Exercise(
    properties=(
        a_token_of_weight_zero_hands_over_nothing,
        against_the_score_counts_nothing,
        heads_are_averaged_last,
        the_mixing_is_gradient_times_weighed_attention,
    ),
    right="weighed by what each token hands over, kept where it raises the score, averaged over heads.",
    hints=(
        "A^h W^h multiplies every column j of A^h by W^h_j. The last axis of A is j.",
        "then times the gradient, relu, and last of all the mean over heads.",
    ),
)


def _layers() -> Iterator[tuple[Tensor, list[Tensor], list[Tensor]]]:
    """Embedding (B, N, D), mixings [(B, N, N)], FFN weights [(B, N)]."""
    for seed, (batch, count, width, depth) in enumerate(((2, 4, 3, 1), (1, 5, 6, 2), (3, 3, 4, 3))):
        generator = torch.Generator().manual_seed(seed)
        yield (
            torch.randn(batch, count, width, generator=generator),
            [torch.rand(batch, count, count, generator=generator) for _ in range(depth)],
            [torch.rand(batch, count, generator=generator) for _ in range(depth)],
        )


def _folded(fold: Answer, embedding: Tensor, mixings: list[Tensor], ffn_weights: list[Tensor]) -> Tensor:
    batch, count, _ = embedding.shape
    return tensor(fold(embedding, mixings, ffn_weights), (batch, count, count), "(batch, tokens, tokens)")


def without_layers_a_token_is_its_own_length(fold: Answer) -> str | None:
    for embedding, _, _ in _layers():
        found = _folded(fold, embedding, [], [])
        if same(found, torch.eye(embedding.shape[1]).expand_as(found)):
            return "without layers it must be C_0, the lengths of the tokens on the diagonal; yours is the identity."
        if not same(found, torch.diag_embed(embedding.norm(dim=-1))):
            return "without layers it must be C_0 = diag(L(E_1), ..., L(E_N)), for each image; yours is not."
    return None


def a_layer_that_does_nothing_changes_nothing(fold: Answer) -> str | None:
    for embedding, mixings, ffn_weights in _layers():
        still = _folded(fold, embedding, [m * 0 for m in mixings], [w * 0 for w in ffn_weights])
        if not still.any():
            return "a layer that mixes nothing keeps what the residual carries; yours loses it. U = I + ..."
        if not same(still, torch.diag_embed(embedding.norm(dim=-1))):
            return "a layer that mixes nothing, with FFN weights 0, must leave C as it is; yours changes it."
    return None


def the_ffn_strengthens_rows(fold: Answer) -> str | None:
    for embedding, mixings, ffn_weights in _layers():
        one = _folded(fold, embedding, mixings[:1], [ffn_weights[0] * 0])
        found = _folded(fold, embedding, mixings[:1], ffn_weights[:1])
        if same(found, one):
            return "the FFN's weights change nothing: U_ffn = I + W is missing."
        if same(found, one * (1 + ffn_weights[0]).unsqueeze(-2)):
            return (
                "the FFN comes after attention: (I + W_ffn)(I + M) C multiplies rows. Yours multiplies columns, as if "
                "it came before."
            )
        if not same(found, one * (1 + ffn_weights[0]).unsqueeze(-1)):
            return "the FFN must multiply row i of what attention left by 1 + W_i; yours does otherwise."
    return None


def later_layers_stand_on_the_left(fold: Answer) -> str | None:
    for embedding, mixings, ffn_weights in _layers():
        wanted, backwards = torch.diag_embed(embedding.norm(dim=-1)), torch.diag_embed(embedding.norm(dim=-1))
        layers = zip(mixings, ffn_weights, strict=True)
        updates = [(1 + w).unsqueeze(-1) * (m + torch.eye(m.shape[-1])) for m, w in layers]
        for update in updates:
            wanted = update @ wanted
        for update in updates[::-1]:
            backwards = update @ backwards
        found = _folded(fold, embedding, mixings, ffn_weights)
        if len(updates) > 1 and same(found, backwards):
            return "the first layer comes first: C_l = U_l C_{l-1}. Yours goes through the layers from the last."
        if not same(found, wanted):
            if same(found.sum(2), wanted.sum(1)):
                return "it is transposed: row i must say what counts in token i."
            return "it is not U_L ... U_2 U_1 C_0. Multiply each layer from the left, U_l @ C."
    return _by_hand(fold, *next(_layers()))


FOLD = Exercise(
    properties=(
        without_layers_a_token_is_its_own_length,
        a_layer_that_does_nothing_changes_nothing,
        the_ffn_strengthens_rows,
        later_layers_stand_on_the_left,
    ),
    right="from the lengths of the tokens through every layer, attention first, FFN after it.",
    hints=(
        "begin with C = torch.diag_embed(lengths). What does one layer make of it?",
        "attention: C = C + mixing @ C. The FFN then multiplies row i by 1 + W_i.",
    ),
)

# what is wrong, where the answer equals another reading of the method
_READINGS: dict[str, tokentm.TokenTM] = {
    "the length ratio is missing in the weights": tokentm.TokenTM(length=False),
    "the direction, NECC, is missing in the weights": tokentm.TokenTM(direction=False),
    "the FFN is missing: U = I + W of g(x') against x'": tokentm.TokenTM(ffn=False),
    "the lengths of the tokens at the start are missing, C_0": tokentm.TokenTM(initialise=False),
    "the gradient is missing: it answers the same for every class": tokentm.TokenTM(gradient=False),
    "NECC is normalised by the mean, wanted is the sum": tokentm.TokenTM(normaliser="mean"),
    "T is taken over all heads together, wanted is each head's own f^h(x)": tokentm.TokenTM(transformed="sum"),
    "T is taken as the stream after the sublayer; wanted are f^h(x) and g(x')": tokentm.TokenTM(transformed="stream"),
    "E is taken as LN(x); wanted is the stream x": tokentm.TokenTM(reference="normed"),
    "heads are averaged before gradient and attention are multiplied": tokentm.TokenTM(head_mean="before"),
}


@cache
def _traces() -> tuple[tokentm.Trace, ...]:
    """Records of small models: one image, several, another model."""
    runs = ((0, 1, 2), (1, 3, [0, 4, 1]), (2, 2, None))
    return tuple(tokentm.record(small_vit(seed), small_images(seed, count), target) for seed, count, target in runs)


def _scored(scores: Answer, trace: tokentm.Trace) -> Tensor:
    shape = (len(trace.images), trace.layout.rows * trace.layout.columns)
    return tensor(scores(trace), shape, "(images, patches), the class token left out")


def scores_are_not_another_reading(scores: Answer) -> str | None:
    for trace in _traces():
        found, wanted = _scored(scores, trace), tokentm.TokenTM()(trace).scores
        if same(found, wanted, 1e-5):
            continue
        for mistake, reading in _READINGS.items():
            if same(found, reading(trace).scores, 1e-5):
                return f"{mistake}."
        mean = wanted.double().mean(-1, keepdim=True)
        if same(found / found.mean(-1, keepdim=True), wanted.double() / mean):
            return "every image's map is right up to one factor. Scores are contributions: leave them as they come."
    return None


def images_do_not_mix(scores: Answer) -> str | None:
    alone = tokentm.record(small_vit(1), small_images(1, 3)[1:2], 4)
    if not same(_scored(scores, alone)[0], _scored(scores, _traces()[1])[1], 1e-4):
        return "an image alone must score as it does among others; yours does not. Keep the batch axis everywhere."
    return None


def leaves_the_trace_alone(scores: Answer) -> str | None:
    trace = tokentm.record(small_vit(1), small_images(1, 3), 4)  # not the ones that other tests read
    before = [tensor.clone() for layer in trace.layers for tensor in vars(layer).values() if isinstance(tensor, Tensor)]
    scores(trace)
    after = [tensor for layer in trace.layers for tensor in vars(layer).values() if isinstance(tensor, Tensor)]
    if not all(torch.equal(old, new) for old, new in zip(before, after, strict=True)):
        return "your function changes the trace in place. Work on copies: x = x * 2 rather than x *= 2."
    return None


def scores_are_tokentm(scores: Answer) -> str | None:
    for trace in _traces():
        if not same(_scored(scores, trace), tokentm.TokenTM()(trace).scores, 1e-5):
            return (
                "the scores are not those of TokenTM, relative error above 1e-5. Check each part alone: E is "
                "layer.stream, T comes from layer.value and layer.head_projection; in the FFN E is layer.stream_mid "
                "and T layer.ffn_update."
            )
    return None


def scores_are_written_by_hand(scores: Answer) -> str | None:
    return _by_hand(scores, _traces()[0])


SCORES = Exercise(
    properties=(
        leaves_the_trace_alone,
        scores_are_not_another_reading,
        images_do_not_mix,
        scores_are_tokentm,
        scores_are_written_by_hand,
    ),
    right="your TokenTM agrees with the library to 1e-5.",
    hints=(
        "everything is in the trace: go through trace.layers, then fold what you have collected.",
        "the FFN's T is layer.ffn_update, its E is layer.stream_mid, one head; weight takes (B, N) as well.",
        "the readout: torch.einsum('bn,bnm->bm', trace.readout, C), then leave out the first trace.layout.prefix.",
    ),
)


@cache
def _wide() -> tokentm.Trace:
    """A record of more tokens than the model is wide, so that products of large matrices stand out."""
    family = type(tokentm.load_demo().model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = family(img_size=48, patch_size=8, embed_dim=12, depth=3, num_heads=2, num_classes=5).eval()
        return tokentm.record(model, torch.randn(1, 3, 48, 48), 1)


def _carried(trace: tokentm.Trace, upwards: bool = False, ffn_last: bool = False, residual: bool = True) -> Tensor:
    """The row r, carried through the layers with a mistake or two, (B, patches)."""
    steps = list(tokentm.TokenTM().steps(trace))
    r = trace.readout
    for step in steps if upwards else reversed(steps):
        assert step.ffn_weight is not None
        strengthened = 1 + step.ffn_weight
        r = r if ffn_last else r * strengthened
        moved = torch.einsum("bn,bnm->bm", r, step.mixing)
        r = r + moved if residual else moved
        r = r * strengthened if ffn_last else r
    return (r * trace.embedding.norm(dim=-1))[:, trace.layout.prefix :]


def passes_the_layers_from_the_last(stream: Answer) -> str | None:
    mistakes = {
        "the row passes the last layer first: r U_L ... U_1. Yours begins with the first layer.": {"upwards": True},
        "read from the left, the FFN comes before attention: r (I + W_ffn)(I + M). Yours takes attention first.": {
            "ffn_last": True
        },
        "both are the wrong way round: the last layer comes first, and in each layer the FFN.": {
            "upwards": True,
            "ffn_last": True,
        },
        "what stays in its token is lost: r = r + r M, not r = r M.": {"residual": False},
    }
    for trace in _traces():
        found = _scored(stream, trace)
        if not same(found, tokentm.TokenTM()(trace).scores, 1e-5):
            for mistake, way in mistakes.items():
                if same(found, _carried(trace, **way), 1e-5):
                    return mistake
    return None


def multiplies_no_two_maps(stream: Answer) -> str | None:
    trace = _wide()
    count = trace.layout.tokens
    with Work() as work:
        stream(trace)
    if (count, count, count) in work.products or work.largest >= count**3:
        return (
            f"it multiplies two maps of {count} x {count}. Carry one row r instead: begin at the top with the readout, "
            "and let it pass the layers from the last to the first."
        )
    return None


STREAM = Exercise(
    properties=(
        leaves_the_trace_alone,
        passes_the_layers_from_the_last,
        *SCORES.properties[1:-1],
        multiplies_no_two_maps,
        scores_are_written_by_hand,
    ),
    right="the same scores, and only one row went through the layers.",
    hints=(
        "r = e^T U_L ... U_1 C_0 can be multiplied from the left: a row times a matrix is a row.",
        "for the last layer first: r = r * (1 + W_ffn), then r = r + r @ mixing; at the end r * L(E).",
    ),
)


def _necc(cosine: Tensor) -> Tensor:
    return cosine.softmax(-1)


# right up to one positive factor: these must pass a test that knows the method
_RIGHT_WEIGHTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "the weight with NECC normalised by the sum": lambda r, c: r * _necc(c),
    "the weight with NECC normalised by the mean": lambda r, c: r * _necc(c) * c.shape[-1],
    "a right weight, computed in float32": lambda r, c: (r.float() * _necc(c.float())).to(r.dtype),
}

_WRONG_WEIGHTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "a weight that ignores the length": lambda r, c: _necc(c),
    "a weight that ignores the direction": lambda r, c: r.clone(),
    "a weight with the length ratio turned over": lambda r, c: _necc(c) / r,
    "a weight with the squared length ratio": lambda r, c: r**2 * _necc(c),
    "a weight that prefers reversed tokens": lambda r, c: r * _necc(-c),
    "a weight that takes a reversed token for an unchanged one": lambda r, c: r * _necc(c.abs()),
    "a weight without the exponential": lambda r, c: r * (c + 2) / (c + 2).sum(-1, keepdim=True),
    "a weight that adds ratio and NECC": lambda r, c: r + _necc(c),
    "a weight whose exponentials are not normalised": lambda r, c: r * c.exp(),
}


def _accepts(accepts: Answer, weight: Callable[[Tensor, Tensor], Tensor]) -> bool | str:
    found = accepts(weight)
    if (isinstance(found, Tensor) and found.shape == ()) or type(found).__name__ in ("bool_", "bool"):
        return bool(found)
    return f"expected True or False; yours returns {type(found).__name__}."


def accepts_what_is_right(accepts: Answer) -> str | None:
    for name, weight in _RIGHT_WEIGHTS.items():
        verdict = _accepts(accepts, weight)
        if isinstance(verdict, str):
            return verdict
        if not verdict:
            return f"it rejects {name}. Test what every reading shares, with a tolerance."
    return None


def rejects_what_is_wrong(accepts: Answer) -> str | None:
    missed = [name for name, weight in _WRONG_WEIGHTS.items() if _accepts(accepts, weight) is True]
    if missed:
        return f"it accepts {missed[0]}. {len(_WRONG_WEIGHTS) - len(missed)} of {len(_WRONG_WEIGHTS)} are rejected."
    return None


TEST = Exercise(
    properties=(accepts_what_is_right, rejects_what_is_wrong),
    right="your test lets every right weight pass and finds every broken one.",
    hints=(
        "which property of W can you state without knowing its value? What happens if one length ratio doubles?",
        "compare weights with each other: a reversed token against an unchanged one is e^-2, whatever the normaliser.",
        "adding a number to all cosines must change nothing, and three tokens tell more than two.",
    ),
)

EXERCISES: dict[str, Exercise] = {
    "A1.compare": COMPARE,
    "A1.frugal": FRUGAL,
    "A1.weight": WEIGHT,
    "A1.mix": MIX,
    "A1.fold": FOLD,
    "A1.scores": SCORES,
    "A1.stream": STREAM,
    "A1.test": TEST,
}
