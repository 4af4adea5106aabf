"""What methods are called where people read: the names of their papers. Their own names stay what they are in code."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TypedDict, cast

CHANCE = "random"
"""The method that knows nothing: it is compared with, and decides no scale."""


class MethodTitle(TypedDict):
    """A :class:`Title` as it is sent."""

    name: str
    source: str
    says: str


@dataclass(frozen=True)
class Title:
    """What a method is called, whose it is, and what it does, in a few words each."""

    name: str
    source: str = ""
    says: str = ""


TITLES: dict[str, Title] = {
    "tokentm": Title(
        "TokenTM", "Wu et al. 2024", "Attention, weighed by what each layer does to a token, times its gradient."
    ),
    "tokentm_libragrad": Title(
        "TokenTM, as LibraGrad reads it", "Mehri et al. 2025", "TokenTM as the code of the LibraGrad paper has it."
    ),
    "tokentm_libra_gradient": Title(
        "TokenTM with LibraGrad", "Mehri et al. 2025", "TokenTM with a gradient in which parts do not cancel."
    ),
    "generic_attention": Title(
        "Generic attention", "Chefer et al. 2021", "Attention times its gradient, through all layers."
    ),
    "libra_generic_attention": Title(
        "Generic attention with LibraGrad",
        "Mehri et al. 2025",
        "Attention times a gradient in which parts do not cancel, through all layers.",
    ),
    "transformer_attribution": Title(
        "Transformer attribution",
        "Chefer et al. 2021",
        "Relevance handed back through every part of the model, times the attention's gradient.",
    ),
    "gradient_rollout": Title(
        "Gradient rollout", "Gildenblat 2020", "Attention rollout of attention times its gradient."
    ),
    "grad_cam": Title(
        "Grad-CAM", "Selvaraju et al. 2017", "Attention of the last layer, its heads weighed by their gradients."
    ),
    "attcat": Title("AttCAT", "Qiang et al. 2022", "How far each token moves the score, times the attention to it."),
    "tam": Title("Transition attention", "Yuan et al. 2021", "Attention as a Markov chain, with integrated gradients."),
    "beyond_intuition": Title(
        "Beyond intuition", "Chen et al. 2023", "How tokens reach the last layer, times an integrated gradient there."
    ),
    "legrad": Title("LeGrad", "Bousselham et al. 2025", "How much each layer's own answer depends on its attention."),
    "libra_fullgrad_plus": Title(
        "Libra FullGrad+",
        "Mehri et al. 2025",
        "What each token, and what is added to it, is worth to the score in every layer, summed.",
    ),
    "libra_input_x_gradient": Title(
        "Libra input × gradient",
        "Mehri et al. 2025",
        "Each first token times a gradient in which parts do not cancel.",
    ),
    "attnlrp": Title(
        "AttnLRP", "Achtibat et al. 2024", "Relevance handed back through everything, attention's softmax too."
    ),
    "cp_lrp": Title("CP-LRP", "Ali et al. 2022", "Relevance handed back, with attention and norms as constants."),
    "reslrp": Title(
        "ResLRP", "Fraunhofer HHI 2026", "AttnLRP that does not let parts of a residual sum blow up where they cancel."
    ),
    "input_x_gradient": Title(
        "Input × gradient", "Shrikumar et al. 2016", "Each pixel times the score's gradient there."
    ),
    "integrated_gradients": Title(
        "Integrated gradients",
        "Sundararajan et al. 2017",
        "The gradients on the way from black to the picture, summed.",
    ),
    "caap": Title(
        "Activation patching",
        "Izadi et al. 2026",
        "What a patch's inner activations do to the score of an empty picture.",
    ),
    "alti": Title(
        "ALTI", "Ferrando et al. 2022", "How near each token's part comes to the whole; the same for every class."
    ),
    "rollout": Title(
        "Attention rollout",
        "Abnar & Zuidema 2020",
        "Attention multiplied through all layers; the same for every class.",
    ),
    "attention": Title(
        "Attention", "last layer", "Where the class token looks in the last layer; the same for every class."
    ),
    "tokentm_no_length": Title("TokenTM without length", "ablation", "Directions alone weigh a token."),
    "tokentm_no_direction": Title("TokenTM without direction", "ablation", "Lengths alone weigh a token."),
    "tokentm_no_ffn": Title("TokenTM without FFN", "ablation", "What the FFN does to a token is left out."),
    "tokentm_no_initialisation": Title("TokenTM, begun evenly", "ablation", "No weight of the first tokens."),
    "tokentm_no_gradient": Title("TokenTM without gradient", "ablation", "The same map for every class."),
    "tokentm_mean_normaliser": Title("TokenTM, mean normaliser", "reading", "Directions against their mean."),
    "tokentm_head_sum": Title("TokenTM, heads summed", "reading", "A token is transformed by all heads together."),
    "tokentm_stream": Title("TokenTM, of the stream", "reading", "The token after the layer is the transformed one."),
    "tokentm_normed_reference": Title("TokenTM, normed tokens", "reading", "Tokens are taken after the norm."),
    "tokentm_signed_heads": Title("TokenTM, signed heads", "reading", "Heads for and against the class cancel."),
    "tokentm_own_lengths": Title("TokenTM, own lengths", "reading", "A token counts with its length in each layer."),
    CHANCE: Title("Random", "chance", "Scores by chance: what every method must beat."),
}


def title_of(name: str) -> Title:
    """The title of a method; of one that is not known here, its name in words.

    Example:
        >>> title_of("rollout").name, title_of("my_own").name
        ('Attention rollout', 'my own')
    """
    return TITLES.get(name) or Title(name.replace("_", " "))


def titles_of(names: Iterable[str]) -> dict[str, MethodTitle]:
    """The titles of some methods, as a widget sends them."""
    return {name: cast(MethodTitle, asdict(title_of(name))) for name in names}
