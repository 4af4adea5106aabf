"""TokenTM in one forward and one backward pass: of the contribution map, only the row that is read out is ever held.

Equal to the full form of :class:`tokentm.TokenTM` up to rounding; how the row is folded stands in descent.py.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tokentm import steadiness
from tokentm.descent import BUDGET, Descent, Folding, Weighing
from tokentm.errors import TokenTMError
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
    """Those of several scores of one image, (S, N): as many gradients at once as fit, or one after the other where an
    operation of the model cannot take several.
    """

    def descent(last: bool) -> Descent:
        return Descent(found, keeper.weights, method, budget, keep_graph=not last)

    (reads,) = torch.autograd.grad(found.scores.sum(), found.answers, retain_graph=True)
    some = reads.split(_at_once(found, budget))
    try:
        rows = [descent(last=False).rows(some[0])]
    except TokenTMError:
        raise
    except (RuntimeError, ValueError):  # torch.vmap's, of what it cannot take apart; any other error is the model's own
        scores = list(found.scores)
        return torch.cat([descent(last=score is scores[-1]).row(score) for score in scores])
    for more in some[1:]:
        rows.append(descent(last=more is some[-1]).rows(more))
    return torch.cat(rows)


def _at_once(found: Run, budget: int) -> int:
    """How many gradients go down together: of each, what an FFN holds, 4 times as wide as the stream, in and out."""
    tokens = found.passes.last
    return max(1, budget // (8 * tokens.numel() * tokens.element_size()))
