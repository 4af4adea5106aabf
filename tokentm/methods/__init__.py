"""Explanation methods: each is called with a :class:`tokentm.Trace` and returns a :class:`tokentm.Explanation`."""

from __future__ import annotations

from collections.abc import Callable

from tokentm.errors import InvalidOptionError
from tokentm.explanation import Explanation
from tokentm.methods.attcat import attcat
from tokentm.methods.attention import raw_attention
from tokentm.methods.generic_attention import generic_attention
from tokentm.methods.grad_cam import grad_cam
from tokentm.methods.gradient_rollout import gradient_rollout
from tokentm.methods.input_gradient import input_x_gradient, integrated_gradients
from tokentm.methods.legrad import legrad
from tokentm.methods.random import random
from tokentm.methods.rollout import rollout
from tokentm.methods.tam import tam
from tokentm.methods.tokentm import TokenTM
from tokentm.methods.transformer_attribution import transformer_attribution
from tokentm.trace import Trace

Method = Callable[[Trace], Explanation]

__all__ = ["ABLATIONS", "METHODS", "Method", "TokenTM", "get"]

METHODS: dict[str, Method] = {
    "tokentm": TokenTM(),
    # how the baseline code of LibraGrad (Mehri et al., CVPR 2025) reads the method
    "tokentm_libragrad": TokenTM(transformed="stream", head_mean="before"),
    "generic_attention": generic_attention,
    "transformer_attribution": transformer_attribution,
    "gradient_rollout": gradient_rollout,
    "grad_cam": grad_cam,
    "attcat": attcat,
    "tam": tam,
    "legrad": legrad,
    "input_x_gradient": input_x_gradient,
    "integrated_gradients": integrated_gradients,
    "rollout": rollout,
    "attention": raw_attention,
    "random": random,
}

ABLATIONS: dict[str, Method] = {
    "tokentm_no_length": TokenTM(length=False),
    "tokentm_no_direction": TokenTM(direction=False),
    "tokentm_no_ffn": TokenTM(ffn=False),
    "tokentm_no_initialisation": TokenTM(initialise=False),
    "tokentm_no_gradient": TokenTM(gradient=False),
    "tokentm_mean_normaliser": TokenTM(normaliser="mean"),
    "tokentm_head_sum": TokenTM(transformed="sum"),
    "tokentm_stream": TokenTM(transformed="stream"),
    "tokentm_normed_reference": TokenTM(reference="normed"),
}
"""TokenTM with one part left out or one reading changed."""


def get(method: str | Method) -> Method:
    """A method or an ablation by name, or the callable itself.

    Raises:
        InvalidOptionError: an unknown name, with the known ones.
    """
    if callable(method):
        return method
    known = METHODS | ABLATIONS
    if method not in known:
        raise InvalidOptionError(f"expected a method among {', '.join(known)}, or a callable; got {method!r}.")
    return known[method]
