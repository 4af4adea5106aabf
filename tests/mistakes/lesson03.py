"""Likely mistakes of lesson 3, and words by which the verdict must name each."""

from __future__ import annotations

WRONG: dict[str, list[tuple[str, str]]] = {
    "03.compare": [
        (
            """
def compare(E, T):
    return T.norm() / E.norm(), torch.cosine_similarity(E, T, dim=-1)""",
            "one ratio for every token (is dim=-1 missing?); yours has shape ()",
        ),
        (
            """
def compare(E, T):
    return T.norm(dim=-1) / E.norm(dim=-1), torch.cosine_similarity(E, T, dim=0)""",
            "one cosine for every token (is dim=-1 missing?); yours has shape (3,)",
        ),
        (
            """
def compare(E, T):
    return E.norm(dim=-1) / T.norm(dim=-1), torch.cosine_similarity(E, T, dim=-1)""",
            "yours is 0.5. Divide L(T) by L(E)",
        ),
        (
            """
def compare(E, T):
    return (T**2).sum(-1) / (E**2).sum(-1), torch.cosine_similarity(E, T, dim=-1)""",
            "yours is 4. Length is the root of the square",
        ),
        (
            """
def compare(E, T):
    return T.norm(dim=-1) / E.norm(dim=-1), (E * T).sum(-1)""",
            "has a cosine of 1; yours is",
        ),
        (
            """
def compare(E, T):
    return T.norm(dim=-1) / E.norm(dim=-1), (E * T).sum(-1) / (E * E).sum(-1)""",
            "Divide the inner product by both lengths",
        ),
        (
            """
def compare(E, T):
    return T.norm(dim=-1) / E.norm(dim=-1), torch.cosine_similarity(E, T, dim=-1).clamp(-1, 1).acos()""",
            "the second result is the angle",
        ),
        (
            """
def compare(E, T):
    return torch.cosine_similarity(E, T, dim=-1), T.norm(dim=-1) / E.norm(dim=-1)""",
            "the ratio comes first",
        ),
        (
            """
def compare(E, T):
    return T.norm(dim=-1) / E.norm(dim=-1), torch.cosine_similarity(E, T, dim=-1).abs()""",
            "has a cosine of -1; yours is 1",
        ),
        (
            """
def compare(E, T):
    return (T.norm(dim=-1) / E.norm(dim=-1)).sqrt(), torch.cosine_similarity(E, T, dim=-1)""",
            "has a ratio of 2; yours is 1.41",
        ),
        (
            """
def compare(E, T):
    return (E * T).sum(-1) / (E * E).sum(-1), torch.cosine_similarity(E, T, dim=-1)""",
            "a reversed token is as long as before; your ratio is -1",
        ),
        (
            """
def compare(E, T):
    return T.norm(dim=-1) / E.norm(dim=-1), (E * T).sum(-1).sign()""",
            "the cosine of (3, 4) and (0, 10) is 0.8; yours is 1",
        ),
        (
            """
def compare(E, T):
    return T.abs().sum(-1) / E.abs().sum(-1), torch.cosine_similarity(E, T, dim=-1)""",
            "a ratio of 2; yours is 1.43",
        ),
        (
            """
def compare(E, T):
    return T.norm(dim=-1) - E.norm(dim=-1), torch.cosine_similarity(E, T, dim=-1)""",
            "has a ratio L(T) / L(E) of 1; yours is 0",
        ),
        (
            """
def compare(E, T):
    return T.norm() / E.norm(), torch.cosine_similarity(E.flatten(), T.flatten(), dim=0)""",
            "expected shape (5,), one ratio for every token",
        ),
        (
            """
def compare(E, T):
    one = torch.ones(E.shape[:-1])
    return T.norm() / E.norm() * one, torch.cosine_similarity(E.flatten(), T.flatten(), dim=0) * one""",
            "right for a single token, wrong for several",
        ),
        (
            """
def compare(E, T):
    ratio = T.norm(dim=-1) / E.norm(dim=-1)
    return ratio, (E * T).sum(-1) / (E.norm(dim=-1) * T.norm(dim=-1))""",
            "NaN or infinity. Look for a division by zero",
        ),
        (
            """
def compare(E, T):
    cosine = (E * T).sum(-1) / (E.norm(dim=-1) * T.norm(dim=-1))
    return T.norm(dim=-1) / E.norm(dim=-1), cosine.nan_to_num(nan=1.0)""",
            "T = 0 has ratio 0 and cosine 0; yours are 0 and 1",
        ),
        ("def compare(E, T):\n    return T.norm(dim=-1) / E.norm(dim=-1)", "expected shape (2, 5)"),
    ],
    "03.weight": [
        (
            """
def weight(E, T):
    cosine = torch.cosine_similarity(E, T, dim=-1)
    return T.norm(dim=-1) / E.norm(dim=-1) * cosine.softmax(-1) * cosine.shape[-1]""",
            "yours are 1. Divide by the sum over the tokens",
        ),
        (
            """
def weight(E, T):
    return T.norm(dim=-1) / E.norm(dim=-1) * torch.cosine_similarity(E, T, dim=-1).softmax(0)""",
            "sum to 1 over the 2 heads of a token; NECC sums over the tokens",
        ),
        (
            """
def weight(E, T):
    cosine = torch.cosine_similarity(E, T, dim=-1)
    return T.norm(dim=-1) / E.norm(dim=-1) * cosine.exp() / cosine.exp().sum()""",
            "over all heads together; every head has its own sum",
        ),
        (
            """
def weight(E, T):
    return T.norm(dim=-1) / E.norm(dim=-1) * torch.cosine_similarity(E, T, dim=-1).exp()""",
            "every token weighs 1/N, here 1/5 = 0.2; yours 2.72",
        ),
        (
            """
def weight(E, T):
    return torch.cosine_similarity(E, T, dim=-1).softmax(-1)""",
            "yours has 1 times the weight. Multiply with L(T) / L(E)",
        ),
        (
            """
def weight(E, T):
    return E.norm(dim=-1) / T.norm(dim=-1) * torch.cosine_similarity(E, T, dim=-1).softmax(-1)""",
            "yours has 0.5 times the weight. Divide L(T) by L(E)",
        ),
        (
            """
def weight(E, T):
    W = T.norm(dim=-1) / E.norm(dim=-1) * torch.cosine_similarity(E, T, dim=-1).exp()
    return W / W.sum(-1, keepdim=True)""",
            "Share out directions alone, by their cosines",
        ),
        (
            """
def weight(E, T):
    ratio = T.norm(dim=-1) / E.norm(dim=-1)
    cosine = (E * T).sum(-1) / T.norm(dim=-1, keepdim=True).mean(1) / E.norm(dim=-1)
    return ratio * cosine.softmax(-1)""",
            "every token weighs 1/N",
        ),
        (
            """
def weight(E, T):
    ratio = T.norm(dim=-1) / E.norm(dim=-1)
    change = torch.cosine_similarity(E, T, dim=-1) * ratio / ratio.mean(-1, keepdim=True)
    return ratio * change.softmax(-1)""",
            "a T twice as long must have twice the weight",
        ),
        (
            """
def weight(E, T):
    ratio = (T**2).sum(-1) / (E**2).sum(-1)
    return ratio * torch.cosine_similarity(E, T, dim=-1).softmax(-1)""",
            "yours has 4 times the weight. Length counts once",
        ),
        (
            """
def weight(E, T):
    ratio = T.abs().sum(-1) / E.abs().sum(-1)
    return ratio * torch.cosine_similarity(E, T, dim=-1).softmax(-1)""",
            "E and T were rotated together",
        ),
        (
            """
def weight(E, T):
    cosine = torch.cosine_similarity(E, T, dim=-1)
    return T.norm(dim=-1) / E.norm(dim=-1) * cosine / cosine.abs().sum(-1, keepdim=True)""",
            "a weight below zero. NECC takes the exponential",
        ),
        (
            """
def weight(E, T):
    return T.norm(dim=-1) / E.norm(dim=-1) * torch.cosine_similarity(E, T, dim=-1).abs().softmax(-1)""",
            "a reversed token must weigh less than an unchanged one",
        ),
        (
            """
def weight(E, T):
    return T.norm(dim=-1) / E.norm(dim=-1) / E.shape[-2]""",
            "a reversed token must weigh less than an unchanged one",
        ),
        (
            """
def weight(E, T):
    return T.norm(dim=-1) / E.norm(dim=-1) * (-torch.cosine_similarity(E, T, dim=-1)).softmax(-1)""",
            "0.135 times what an unchanged one does; yours weighs 7.39 times",
        ),
        (
            """
def weight(E, T):
    return T.norm(dim=-1) / E.norm(dim=-1) * torch.cosine_similarity(E, T, dim=-1).sign().softmax(-1)""",
            "some weights are wrong where T is neither E nor -E",
        ),
        (
            """
def weight(E, T):
    inner = (E * T).sum(-1) / (E.norm(dim=-1) * T.norm(dim=-1))
    return T.norm(dim=-1) / E.norm(dim=-1) * inner.softmax(-1)""",
            "NaN or infinity",
        ),
        (
            """
def weight(E, T):
    ratio = T.norm(dim=-1).clamp(min=0.01) / E.norm(dim=-1)
    return ratio * torch.cosine_similarity(E, T, dim=-1).softmax(-1)""",
            "T = 0 weighs 0; yours weighs 0.00",
        ),
        (
            """
def weight(E, T):
    cosine = torch.cosine_similarity(E, T, dim=-1)
    shares = torch.where(T.norm(dim=-1) > 0, cosine.exp(), 0.0)
    return T.norm(dim=-1) / E.norm(dim=-1) * shares / shares.sum(-1, keepdim=True)""",
            "the cosine counts as 0, also in the sum",
        ),
        (
            "def weight(E, T):\n    return torch.cosine_similarity(E, T, dim=-1).softmax(-1).mean(0)",
            "expected shape (2, 5), (heads, tokens)",
        ),
    ],
    "03.bounds": [
        ("def bounds(N, normaliser):\n    return 0, 1", "exp(cos) is never 0"),
        (
            """
def bounds(N, normaliser):
    return 1 / (1 + N * math.exp(2)), 1 / (1 + N * math.exp(-2))""",
            "How many other tokens are there?",
        ),
        (
            """
def bounds(N, normaliser):
    return math.exp(-1), math.exp(1)""",
            "no share is larger than 1; you say 2.72",
        ),
        (
            """
def bounds(N, normaliser):
    return 1 / (1 + (N - 1) * math.exp(-2)), 1 / (1 + (N - 1) * math.exp(2))""",
            "the smallest comes first",
        ),
        (
            """
def bounds(N, normaliser):
    return math.exp(-1) / (math.exp(-1) + N - 1), math.exp(1) / (math.exp(1) + N - 1)""",
            "What do all the other tokens do when one gets the most?",
        ),
        (
            """
def bounds(N, normaliser):
    return 1 / N, 1 / (1 + (N - 1) * math.exp(-2))""",
            "What do all the other tokens do when one gets the least?",
        ),
        (
            """
def bounds(N, normaliser):
    return 1 / (1 + (N - 1) * math.exp(2)), 1.0""",
            "no cosines reach your largest, 1.0000",
        ),
        (
            """
def bounds(N, normaliser):
    return math.exp(-2) / N if N > 1 else 1, 1 / (1 + (N - 1) * math.exp(-2))""",
            "no cosines reach your smallest",
        ),
        (
            """
def bounds(N, normaliser):
    return 1 / (1 + (N - 1) * math.exp(2)), 1 / (1 + (N - 1) * math.exp(-2))""",
            "Dividing by the mean instead, NECC is N = 2 times as large",
        ),
        (
            """
def bounds(N, normaliser):
    scale = 1 / N if normaliser == "mean" else 1
    return scale / (1 + (N - 1) * math.exp(2)), scale / (1 + (N - 1) * math.exp(-2))""",
            "Dividing by the mean instead, NECC is N = 2 times as large",
        ),
        (
            """
def bounds(N, normaliser):
    return 1 / (1 + (N - 1) * math.exp(-2))""",
            "expected shape (2,), (smallest, largest)",
        ),
        ("bounds = (0.0007, 0.036)", "expected the function itself"),
    ],
}
