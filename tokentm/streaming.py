"""TokenTM in one forward and one backward pass: of the contribution map, only the row that is read out is ever held.

Equal to the full form of :class:`tokentm.TokenTM` up to rounding; how the row is folded stands in descent.py.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tokentm import steadiness
from tokentm.descent import BUDGET, Descent, Folding, Weighing, at_once, together
from tokentm.explanation import Explanation, require_finite
from tokentm.isolation import isolated
from tokentm.outputs import Meaning
from tokentm.questions import ClassScore, Difference
from tokentm.run import Run, Subject, run
from tokentm.target import Target
from tokentm.tokenwise import check_tokenwise


def explain(
    given: Subject, target: Target, method: Weighing, outputs: Meaning | None = None, budget: int = BUDGET
) -> Explanation:
    """The map of a method that streams; see :func:`tokentm.explain`.

    One image that was expanded to a batch, one target each, runs forward once.

    Args:
        budget: see :data:`BUDGET`.

    Returns:
        An :class:`Explanation` without ``layer_scores``, which only the full form has.
    """
    return isolated(lambda: _explain(given, target, method, outputs, budget))


def _explain(given: Subject, target: Target, method: Weighing, asked: Meaning | None, budget: int) -> Explanation:
    batch = len(given.images)
    one = batch > 1 and given.images.stride(0) == 0  # one image, many targets
    steadiness.check_steady(given)
    keeper = Folding(method)
    shared = Subject(given.anatomy, given.images[:1], given.state) if one else given
    found = run(shared, target, keeper, asked, expand=batch if one else None)
    check_tokenwise(given)
    steadiness.check_unmixed(found)
    row = _rows(found, keeper, method, budget) if one else _row(found, keeper, method, budget)
    if method.initialise:
        row = row * keeper.lengths[0]
    layout = found.layout
    scores = row[:, layout.prefix :]
    require_finite(scores, method.name)
    return Explanation(
        method=method.name,
        scores=scores,
        layer_scores=scores.new_zeros(batch, 0, scores.shape[1]),
        grid=(layout.rows, layout.columns),
        logits=found.logits.detach().expand(batch, -1).clone(),
        target=found.target,
        image_size=(given.images.shape[2], given.images.shape[3]),
        outputs=found.outputs,
        class_names=found.anatomy.class_names,
        offset=layout.offset,
        explained=found.explained if isinstance(found.explained, (ClassScore, Difference)) else None,
    )


def _row(found: Run, keeper: Folding, method: Weighing, budget: int) -> Tensor:
    return Descent(found, keeper.weights, method, budget, keep_graph=False).row(found.scores.sum())


def _rows(found: Run, keeper: Folding, method: Weighing, budget: int) -> Tensor:
    """Those of several scores of one image, (S, N)."""
    (reads,) = torch.autograd.grad(found.scores.sum(), found.answers, retain_graph=True)

    def down(some: slice, last: bool) -> Tensor:
        return Descent(found, keeper.weights, method, budget, keep_graph=not last).rows(reads[some])

    return torch.cat([*together(len(reads), at_once(found, budget), down)])
