"""Drag a token and its transformed token in the plane, and watch the transformation weight follow."""

from __future__ import annotations

import math
from typing import Annotated, Any, TypedDict

import torch
import traitlets
from torch import Tensor

from tokentm import transformation
from tokentm.errors import InvalidOptionError
from tokentm.plots import Plot
from tokentm.transformation import Normaliser
from tokentm_widgets.base import Position, Widget, front_end, styles
from tokentm_widgets.schema import Dims

TOKENS = ((1.2, 0.4), (-0.5, 2.0), (-1.5, -1.5))
TRANSFORMED = ((0.9, 1.2), (-1.4, -0.2), (1.2, -0.5))
"""One pair lengthened and turned a little, one turned aside, one nearly reversed; every T can be doubled."""
LIMIT, SHORTEST = 3.0, 0.1
"""How long an arrow may be, so that it stays on the plane, and how long E must be, because L(T) is divided by L(E)."""
MOST = 6
HUES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#9a6a00", "#56b4e9")
"""As in family.css."""
_ROUNDING = 1e-6  # an arrow on the edge is still on it when it has been turned, or came in single precision


class PointsData(TypedDict):
    """Tokens and transformed tokens as [x, y]."""

    tokens: Annotated[list[list[float]], Dims("list", "N 2")]
    transformed: Annotated[list[list[float]], Dims("list", "N 2")]


class TokenPlaygroundData(TypedDict):
    """How long arrows may be, and how they are at first."""

    limit: float
    shortest: float
    initial: PointsData


class TokenPlayground(Widget):
    """A few tokens E and their transformed tokens T as arrows from the origin: the picture of the weight's formula.

        W_n = L(T_n) / L(E_n) * NECC_n          NECC_n = exp(cos(E_n, T_n)) / sum_k exp(cos(E_k, T_k))

    Tips are dragged, or moved by the arrow keys; both factors, the weight and the formula with its numbers follow, and
    no kernel is asked. The plane is a disc, so that arrows can be turned anywhere without leaving it.

    Args:
        tokens: E, (N, 2): a tensor, an array or a list of [x, y], N from 1 to 6; None takes three pairs that differ
            in length and direction.
        transformed: T, (N, 2); given with ``tokens`` or left out with them.
        normaliser: of NECC, see :func:`tokentm.transformation.necc`.

    Attributes:
        tokens: E, a list of [x, y], each between 0.1 and 3 long. Set a whole list; a change inside one is not seen.
        transformed: T, a list of [x, y], each at most 3 long. A T of length zero has no direction: its cosine counts
            as 0, its weight is 0.
        chosen: which pair stands out, has its numbers in the formula and is changed by the buttons, 0 .. N-1.
        normaliser: "sum" or "mean".
        length_ratio, cosine, necc, weight: what the table shows, each (N,), float64; not synchronised.

    Raises:
        InvalidOptionError: tokens that are no such list, are not finite, do not fit the plane, or come without partner.
        traitlets.TraitError: an attribute set to a value that does not exist, with those that do.

    Source: Wu et al., "Token Transformation Matters", CVPR 2024.

    Example:
        >>> playground = TokenPlayground(tokens=[[1, 0], [0, 1]], transformed=[[2, 0], [0, 2]])
        >>> playground.weight
        tensor([1., 1.], dtype=torch.float64)
    """

    _esm, _css, _schema = front_end("token_playground"), styles("token_playground"), TokenPlaygroundData

    tokens: Any = traitlets.TraitType().tag(sync=True)
    transformed: Any = traitlets.TraitType().tag(sync=True)
    chosen = Position("N")
    normaliser: Any = traitlets.Enum(("sum", "mean"), "sum").tag(sync=True)

    reading = (
        "Each token is an arrow E, and T what a layer makes of it. How much of its length it keeps, times its share of "
        "direction (NECC), is its weight. Drag an arrow, or move it with the arrow keys, and watch the formula."
    )

    by_keys = "Keys: Tab goes from arrow to arrow; the arrow keys move the one that is reached."

    @property
    def heading(self) -> str:
        return "How a token gets its weight"

    def __init__(
        self, tokens: Any = None, transformed: Any = None, normaliser: Normaliser = "sum", **state: Any
    ) -> None:
        if (tokens is None) != (transformed is None):
            raise InvalidOptionError(
                "expected tokens and transformed together, as many of one as of the other; got only "
                f"{'tokens' if transformed is None else 'transformed'}."
            )
        pairs = {
            "tokens": _points("tokens", TOKENS if tokens is None else tokens),
            "transformed": _points("transformed", TRANSFORMED if transformed is None else transformed),
        }
        self._count = len(pairs["tokens"])
        if not 1 <= self._count == len(pairs["transformed"]) <= MOST:
            raise InvalidOptionError(
                f"expected 1 to {MOST} tokens and as many transformed tokens; got {self._count} and "
                f"{len(pairs['transformed'])}."
            )
        super().__init__(
            {"limit": LIMIT, "shortest": SHORTEST, "initial": pairs},
            **pairs,
            normaliser=normaliser,
            **state,
        )

    @property
    def length_ratio(self) -> Tensor:
        return self._compared()[0]

    @property
    def cosine(self) -> Tensor:
        return self._compared()[1]

    @property
    def necc(self) -> Tensor:
        return transformation.necc(self.cosine, self.normaliser)

    @property
    def weight(self) -> Tensor:
        return transformation.weight(*self._compared(), normaliser=self.normaliser)

    def _compared(self) -> tuple[Tensor, Tensor]:
        tokens, transformed = (torch.tensor(points, dtype=torch.float64) for points in (self.tokens, self.transformed))
        return transformation.compare(tokens, transformed)

    def figure(self) -> Plot:
        """The arrows and their weights as they are now, as a figure; E is solid, T dashed."""
        ratio, necc, weight = (values.tolist() for values in (self.length_ratio, self.necc, self.weight))
        described = ", ".join(f"pair {n + 1} has weight {w:.3f}" for n, w in enumerate(weight))
        figure = Plot(f"Tokens E as solid arrows, transformed tokens T as dashed arrows: {described}", 7.2, 3.7)
        plane, bars = figure.subplots(1, 2, width_ratios=(1.25, 1))
        self._draw_arrows(plane)
        numbers = [f"{r:.2f} × {c:.3f} = {w:.3f}" for r, c, w in zip(ratio, necc, weight, strict=True)]
        drawn = bars.barh(range(self._count), weight, color=HUES[: self._count])
        bars.bar_label(drawn, numbers, padding=3, fontsize=9)
        bars.set(xlim=(0, 2 * max(1.0, *weight)), xlabel=f"W = length ratio × NECC ({self.normaliser})")
        bars.set_yticks(range(self._count), [f"pair {n + 1}" for n in range(self._count)])
        bars.invert_yaxis()
        return figure

    def _draw_arrows(self, axis: Any) -> None:
        turn = torch.linspace(0, 2 * math.pi, 121)
        for radius in range(1, math.floor(LIMIT) + 1):
            axis.plot(radius * turn.cos(), radius * turn.sin(), color="0.85", linewidth=1, zorder=0)
        for n, (e, t) in enumerate(zip(self.tokens, self.transformed, strict=True)):
            wide = 2.4 if n == self.chosen else 1.4
            side = 1 if e[0] * t[1] >= e[1] * t[0] else -1  # names stand beside the tips, E's away from T
            for name, tip, line, fill, beside in (
                ("E", e, "-", HUES[n], -side),
                ("T", t, (0, (4, 2)), "white", side),
            ):
                colours = {"edgecolor": HUES[n], "facecolor": fill}
                shape = {"arrowstyle": "-|>,head_length=0.6,head_width=0.3", "shrinkA": 0, "shrinkB": 0}
                axis.annotate("", tip, (0, 0), arrowprops={**colours, **shape, "linestyle": line, "linewidth": wide})
                x, y = tip
                length = math.hypot(x, y)
                if length == 0:
                    axis.plot(0, 0, "o", markeredgecolor=HUES[n], markerfacecolor=fill, markersize=5)
                ux, uy = (x / length, y / length) if length else (0.0, -1.0)
                at = x + 0.16 * ux - 0.2 * beside * uy, y + 0.16 * uy + 0.2 * beside * ux
                axis.text(*at, f"${name}_{n + 1}$", ha="center", va="center")
        edge = 1.12 * LIMIT
        axis.set(xlim=(-edge, edge), ylim=(-edge, edge), aspect="equal")
        axis.set_axis_off()

    @traitlets.validate("tokens", "transformed")
    def _on_the_plane(self, proposal: traitlets.Bunch) -> list[list[float]]:
        name = proposal["trait"].name
        try:
            points = _points(name, proposal["value"])
        except InvalidOptionError as wrong:
            raise traitlets.TraitError(str(wrong)) from None
        if len(points) != self._count:
            raise traitlets.TraitError(
                f"expected {self._count} {name}, one for each pair; got {len(points)}. "
                "For another number of pairs make another TokenPlayground(tokens, transformed)."
            )
        return points

    def __repr__(self) -> str:
        return f"TokenPlayground({self._count} pair{'s' if self._count > 1 else ''}; {self.normaliser})"


def _points(name: str, given: Any) -> list[list[float]]:
    """Anything of shape (N, 2) as a list of [x, y], if every arrow is as long as arrows of this name may be."""
    try:
        points = torch.as_tensor(given, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        points = None
    if points is None or points.ndim != 2 or points.shape[1] != 2:
        got = repr(given) if points is None else f"shape {tuple(points.shape)}"
        raise InvalidOptionError(f"expected {name} as a list of [x, y], shape (N, 2); got {got}.")
    lengths = torch.linalg.vector_norm(points, dim=-1)
    shortest = SHORTEST if name == "tokens" else 0.0
    fits = (lengths >= shortest * (1 - _ROUNDING)) & (lengths <= LIMIT * (1 + _ROUNDING))  # never true of NaN
    if not fits.all():
        n = int(fits.logical_not().nonzero()[0])
        why = f"{'L(T) is divided by L(E), and ' if shortest else ''}the plane ends at {LIMIT:g}"
        raise InvalidOptionError(
            f"expected {name} from {shortest:g} to {LIMIT:g} long ({why}); got {points[n].tolist()} at {n}, "
            f"length {lengths[n]:g}."
        )
    return points.tolist()
