"""After which layer a model's answer stays what it is: its own head, asked after every layer."""

from __future__ import annotations

import torch
from torch import Tensor

from tokentm.errors import InvalidOptionError, UnsupportedModelError
from tokentm.hooks import classify, running
from tokentm.isolation import isolated
from tokentm.outputs import same
from tokentm.trace import Trace


def deciding_layer(answers: Tensor) -> Tensor:
    """The first layer, counted from 1, after which the answer stays the final one: (B, L) -> (B,), 1 .. L.

    Args:
        answers: the class after each layer, the model's own after the last.

    Example:
        >>> deciding_layer(torch.tensor([[4, 7, 4, 7, 7], [7, 7, 7, 7, 7]]))
        tensor([4, 1])
    """
    final = answers == answers[:, -1:]
    return answers.shape[1] + 1 - final.flip(1).cumprod(1).sum(1)


def answers_after_layers(trace: Trace) -> Tensor:
    """The class that the model's own last norm, pooling and head find in the stream after each layer: (B, L).

    Runs the model once for every layer, without gradients.

    Raises:
        UnsupportedModelError: the stream after the last layer does not give the model's own answer.
        InvalidOptionError: a model whose outputs are not several classes.
        ModelChangedError: the model is not what was recorded.

    A head is made for what the last layer puts out. What it says of an earlier one may be what it says of anything, so
    that pictures of that class seem to be decided early.

    Source: nostalgebraist, "interpreting GPT: the logit lens", 2020.

    Example:
        >>> answers_after_layers(trace).shape  # a class for each of 8 layers, the last one the model's own answer
        torch.Size([1, 8])
    """
    count = trace.logits.shape[1]
    if trace.outputs == "none" or count < 2:
        raise InvalidOptionError(
            f"expected a model that answers with one of several classes; this one has {count} output(s), which mean "
            f"{trace.outputs!r}. If it does answer with classes, say how: outputs='softmax', 'sigmoid' or "
            "'probabilities'."
        )
    return isolated(lambda: _answers_after_layers(trace))


@torch.no_grad()
def _answers_after_layers(trace: Trace) -> Tensor:
    anatomy = trace.check_model()
    with running(anatomy):
        logits = [classify(anatomy, trace.images, layer.stream_out) for layer in trace.layers]
    if not same(logits[-1], trace.logits):
        raise UnsupportedModelError(
            f"{anatomy.name}: expected the stream after the last block to give the model's own logits, found that they "
            f"differ by {float((logits[-1] - trace.logits).abs().max()):.3g}. So what its head would say after an "
            f"earlier block is not known. {anatomy.advice}."
        )
    return torch.stack([one.argmax(1) for one in logits], 1)
