"""A map for every token inside the model, instead of one for the output; and what belongs together by these maps.

Source: Hosseini, Hosseini Mighan, Afzali, Amini, Houmansadr, "ULTra: Unveiling Latent Token Interpretability in
Transformer-Based Understanding and Segmentation", arXiv 2411.12589, and the notebooks that its authors published. With
TokenTM's weights (Wu et al., "Token Transformation Matters", CVPR 2024) the same is this project's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tokentm import linkage, steadiness
from tokentm.descent import BUDGET, Descent, Folding, Unweighted, Weighing, at_once, together
from tokentm.errors import InvalidOptionError, ZeroTokenError
from tokentm.explanation import require_finite
from tokentm.isolation import isolated
from tokentm.methods import TokenTM
from tokentm.pictures import Picture, Transform
from tokentm.run import Run, Subject, run, subject
from tokentm.tokenwise import check_tokenwise
from tokentm.vit import Anatomy, Layout

LatentMethod = Literal["ultra", "tokentm"]
LatentScore = Literal["sum", "norm"]

CUT = 0.25
"""Average cosine distance up to which ULTra's notebook merges maps."""

_METHODS: dict[str, Weighing] = {"ultra": Unweighted(), "tokentm": TokenTM()}


@dataclass(frozen=True, eq=False)  # equality of tensors has no single answer
class LatentMaps:
    """What each patch contributed to tokens inside the model. B images, T tokens, P patches.

    Attributes:
        maps: contribution of each patch to each token, (B, T, P). Unit: the method's own; compare patches of one map.
        tokens: which tokens, by their place in the sequence, prefix tokens first.
        layer: after how many blocks they were taken.
        method: "ultra" or "tokentm".
        score: "sum" or "norm": of which number of a token the gradient was taken.
        layout: where the tokens of the sequence come from.
        image_size: (height, width) of the images in pixels.
    """

    maps: Tensor
    tokens: tuple[int, ...]
    layer: int
    method: str
    score: str
    layout: Layout
    image_size: tuple[int, int]

    def grid(self) -> Tensor:
        """The maps as they lie on the picture, (B, T, rows, columns)."""
        return self.maps.unflatten(2, (self.layout.rows, self.layout.columns))

    def __repr__(self) -> str:
        grid = (self.layout.rows, self.layout.columns)
        return (
            f"LatentMaps({self.method}, images={len(self.maps)}, tokens={len(self.tokens)} after {self.layer} blocks, "
            f"grid={grid})"
        )


def latent(
    model: nn.Module,
    images: Tensor | Picture | Sequence[Picture],
    layer: int,
    tokens: Sequence[int] | None = None,
    method: LatentMethod = "ultra",
    score: LatentScore = "sum",
    transform: Transform | None = None,
    anatomy: Anatomy | None = None,
    report: Callable[[float], None] | None = None,
) -> LatentMaps:
    """Which patches made a token inside the model what it is? All tokens of one layer from one forward pass an image.

    The token z_i that leaves block l takes the place of the output: a number s of it takes the place of a class's
    score, and row i of the product over the blocks below it takes the place of the readout's row:

        s = sum_d z_id / |z_i|, |z_i| a constant      score "sum"          s = |z_i|      score "norm"
        G_b = ds / dA_b
        C = U_l ... U_1 C_0                           map of token i: row i of C at the patches
        U_b = I + mean_h relu(G_b^h * A_b^h), C_0 = I                               method "ultra"
        U_b and C_0 as in :class:`tokentm.TokenTM` with all of its defaults         method "tokentm"

    The rows of all tokens go down through the blocks with their gradients, as many at once as fit into
    :data:`tokentm.descent.BUDGET`; no N x N matrix of a token is held. The model is checked as by
    :func:`tokentm.record`, and left as it was found. Each image runs alone.

    Args:
        model, images, transform, anatomy: as for :func:`tokentm.record`. No target: no class takes part.
        layer: l, after how many blocks the tokens are taken, 1 to the number of blocks.
        tokens: which ones, by their place in the sequence: 0 is the class token, where there is one, and the patches
            come after the prefix tokens. None takes all patches.
        method: see above.
        score: "sum" is that of the authors' newer notebook, "norm" that of the older one. A LayerNorm above subtracts
            the mean over d, so that it never sees this sum; it does see in which direction the token lies.
        report: hears of the share of the work done, 0 .. 1, several times for each image; what it raises ends the work.

    Returns:
        :class:`LatentMaps`. A map holds the token's own share, which is mostly the largest: a token stays where it is
        in every block.

    Raises:
        InvalidOptionError: a layer or a token that does not exist, or another method or score.
        ZeroTokenError: a token of length zero.
        UnsupportedModelError, InvalidImagesError, NotFiniteError: see :func:`tokentm.record`.

    Example:
        >>> demo = tokentm.load_demo()
        >>> maps = latent(demo.model, demo.transform(demo.scene(3).image)[None], layer=8, tokens=[0, 1, 105])
        >>> maps.grid().shape
        torch.Size([1, 3, 14, 14])

    Departures: where the older notebook takes one norm of a batch, each image has its own. ULTra's text numbers layers
    by what enters them: its layer l + 1 is l here.
    """
    for name, found, known in (("method", method, LatentMethod), ("score", score, LatentScore)):
        if found not in get_args(known):
            raise InvalidOptionError(f"expected {name} {' or '.join(map(repr, get_args(known)))}; got {found!r}.")
    given = subject(model, images, transform, anatomy)
    blocks = len(given.anatomy.blocks)
    if isinstance(layer, bool) or not isinstance(layer, int) or not 1 <= layer <= blocks:
        raise InvalidOptionError(
            f"expected a layer from 1 to {blocks}, after how many blocks tokens are taken; got {layer!r}. Before the "
            "first block every patch's token is made of its own patch."
        )
    asked = _Asked(layer, tokens, method, score)
    return isolated(lambda: _latent(given, asked, report or (lambda share: None)))


@dataclass(frozen=True, eq=False)
class _Asked:
    """Which maps were asked for; see :func:`latent`."""

    layer: int
    tokens: Sequence[int] | None
    method: LatentMethod
    score: LatentScore


def _latent(given: Subject, asked: _Asked, report: Callable[[float], None]) -> LatentMaps:
    steadiness.check_steady(given)
    maps: list[Tensor] = []
    for i in range(len(given.images)):
        keeper = Folding(_METHODS[asked.method])
        one = Subject(given.anatomy, given.images[i : i + 1], given.state)
        found = run(one, lambda logits: logits.amax(1), keeper)  # any score will do: its gradient is never taken
        check_tokenwise(given)
        layout = found.layout
        tokens = _checked(asked.tokens, layout)
        maps.append(_of_image(found, keeper, asked, tokens, _part(report, i, len(given.images))))
    made = torch.stack(maps)
    require_finite(made, asked.method)
    size = (given.images.shape[2], given.images.shape[3])
    return LatentMaps(made, tokens, asked.layer, asked.method, asked.score, layout, size)


def _part(report: Callable[[float], None], done: int, images: int) -> Callable[[float], None]:
    """How the share of one image is told as one of all."""
    return lambda share: report((done + share) / images)


def _of_image(
    found: Run, keeper: Folding, asked: _Asked, tokens: tuple[int, ...], report: Callable[[float], None]
) -> Tensor:
    """The maps (T, P) of the only image of a run."""
    stream = found.passes.blocks[asked.layer - 1].stream_out.detach()[0]
    where = torch.tensor(tokens, device=stream.device)
    starts = F.one_hot(where, len(stream)).to(stream)
    slopes = _slopes(stream[where], asked.score)

    def down(some: slice, last: bool) -> Tensor:
        reads = starts[some].unsqueeze(-1) * slopes[some].unsqueeze(1)  # only its own token counts for a score
        descent = Descent(found, keeper.weights, keeper.method, BUDGET, keep_graph=not last)
        return descent.tokens(asked.layer, starts[some], reads)

    made, done = [], 0
    for rows in together(len(tokens), at_once(found, BUDGET), down):
        made.append(rows * keeper.lengths[0] if keeper.method.initialise else rows)
        done += len(rows)
        report(done / len(tokens))
    return torch.cat(made)[:, found.layout.prefix :]


def _slopes(tokens: Tensor, score: LatentScore) -> Tensor:
    """Gradient of each token's score with respect to the token: (T, D) -> (T, D)."""
    lengths = torch.linalg.vector_norm(tokens, dim=1, keepdim=True)
    if (lengths == 0).any():
        bad = (lengths.flatten() == 0).nonzero().flatten().tolist()
        raise ZeroTokenError(
            f"expected tokens of positive length; number(s) {bad} of those asked for are all zeros, so they have no "
            "direction that could be explained. Take other tokens, or another layer."
        )
    return (torch.ones_like(tokens) if score == "sum" else tokens) / lengths


def _checked(tokens: Sequence[int] | None, layout: Layout) -> tuple[int, ...]:
    if tokens is None:
        return tuple(range(layout.prefix, layout.tokens))
    listed = list(tokens) if isinstance(tokens, Sequence) else [tokens]
    known = range(layout.tokens)
    wrong = [t for t in listed if isinstance(t, bool) or not isinstance(t, int) or t not in known]
    if wrong or not listed or not isinstance(tokens, Sequence):
        raise InvalidOptionError(
            f"expected a list of tokens from 0 to {layout.tokens - 1}, {layout.prefix} before the patches; got "
            f"{', '.join(map(repr, wrong or listed)) or 'none'}. None takes all patches."
        )
    return tuple(listed)


def segment(maps: LatentMaps, clusters: int | None = None) -> Tensor:
    """Which patches belong together, without any label: tokens whose maps point the same way are one cluster.

    A token's own patch is first given the largest value of its other patches. Then clusters of maps are merged by
    average linkage on cosine distances, the maps of each cluster are summed and scaled to 0 .. 1, and a patch belongs
    to the cluster whose sum is the largest there. Nothing is drawn at random.

    Args:
        maps: of tokens that cover the picture, such as all patches.
        clusters: how many; None merges what lies at most :data:`CUT` apart, as ULTra's notebook does.

    Returns:
        The number of a cluster for each patch, (B, rows, columns), int64. Clusters are numbered in the order of their
        first tokens; one that is nowhere the largest has no patch.

    Raises:
        InvalidOptionError: anything but :class:`LatentMaps`, or a number of clusters that is not 1 to T.

    Example:
        >>> segment(latent(demo.model, images, layer=8), clusters=3).shape
        torch.Size([1, 14, 14])

    Source: as above, section 4.1 and the notebook: its order of steps, linkage, cut and scaling.

    Departures: the notebook clusters as many tokens as the grid has columns, less one, here all that are given; it
    scales to 0 .. 5, which changes nothing. A cluster whose sum is the same everywhere counts as 0, where its scaling
    divides by zero; equal values go to the first cluster.
    """
    if not isinstance(maps, LatentMaps):
        raise InvalidOptionError(f"expected LatentMaps, from tokentm.latent(...); got {type(maps).__name__}.")
    count = len(maps.tokens)
    whole = isinstance(clusters, int) and not isinstance(clusters, bool)
    if clusters is not None and not (whole and 1 <= clusters <= count):
        raise InvalidOptionError(
            f"expected a number of clusters from 1 to {count}, one a token, or None; got {clusters!r}."
        )
    filled = _filled(maps)
    labels = torch.stack([_segmented(one, clusters) for one in filled])
    return labels.unflatten(1, (maps.layout.rows, maps.layout.columns))


def _filled(maps: LatentMaps) -> Tensor:
    """(B, T, P), each token's own patch as large as the largest of the others."""
    filled = maps.maps.clone()
    for t, token in enumerate(maps.tokens):
        own = token - maps.layout.prefix
        if own >= 0:
            filled[:, t, own] = -torch.inf
            filled[:, t, own] = filled[:, t].amax(1)
    return filled


def _segmented(maps: Tensor, clusters: int | None) -> Tensor:
    """(T, P) -> (P,)."""
    cut = CUT if clusters is None else None
    of_token = linkage.average_linkage(linkage.cosine_distances(maps), clusters, cut)
    sums = maps.new_zeros(int(of_token.max()) + 1, maps.shape[1]).index_add_(0, of_token, maps)
    low, high = sums.amin(1, keepdim=True), sums.amax(1, keepdim=True)
    return torch.where(high > low, (sums - low) / (high - low), 0.0).argmax(0)
