"""Likely mistakes of lesson 6, and words by which the verdict must name each."""

from __future__ import annotations

_SHUFFLED = """
def shuffled(model, seed):
    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in other.parameters():
            order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
            parameter.copy_(parameter.flatten()[order].view_as(parameter))
    return other"""

_INTERVAL = """
def interval(values, seed):
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randint(len(values), (2000, len(values)), generator=generator)
    means = values[draws].mean(1)
    return means.quantile(0.025), means.quantile(0.975)"""


def _instead(source: str, *changes: tuple[str, str]) -> str:
    """A right function with some of its text replaced."""
    for old, new in changes:
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    return source


def _area(body: str) -> str:
    return f"def area(gone, curve):\n    {body}"


WRONG: dict[str, list[tuple[str, str]]] = {
    "06.area": [
        (_area("return curve.mean()"), "expected shape (3,), one area for each image"),
        (_area("return curve.sum(1)"), "so that a flat curve gives its own height"),
        (_area("return torch.trapezoid(curve, gone, dim=1)"), "Divide the area by the width, last minus first"),
        (_area("return torch.trapezoid(curve, gone, dim=1) / gone[-1]"), "Divide the area by the width"),
        (_area("return curve.mean(1)"), "a step is as high as the mean of its two ends"),
        (_area("return torch.trapezoid(curve, dim=1) / (len(gone) - 1)"), "Steps may be of unequal width"),
        (_area("return (curve[:, :-1] * gone.diff()).sum(1) / (gone[-1] - gone[0])"), "a straight fall from"),
        (_area("return (curve[:, 0] + curve[:, -1]) / 2"), "for a crooked curve yours is another number"),
        (
            _area("return curve[:, 0] - torch.trapezoid(curve, gone, dim=1) / (gone[-1] - gone[0])"),
            "a curve that stays at 0.70 from 0 to 1 gets 0.00",
        ),
        (
            _area(
                "return torch.trapezoid(curve, gone, dim=1) / (gone[-1] - gone[0]) if gone[-1] <= 1 else curve.mean(1)"
            ),
            "counted in patches instead of shares",
        ),
        (_area("torch.trapezoid(curve, gone, dim=1)"), "Is its `return` missing?"),
        (_area("return torch.trapezoid(curve, gone, dim=0)"), "stopped with RuntimeError"),
    ],
    "06.shuffled": [
        (_instead(_SHUFFLED, ("copy.deepcopy(model)", "model")), "your function changed the weights cls_token"),
        ("def shuffled(model, seed):\n    return model", "that is the same model"),
        (_instead(_SHUFFLED, ("    return other", "    return other.state_dict()")), "expected a model"),
        (
            _instead(
                _SHUFFLED,
                (
                    "parameter.copy_(parameter.flatten()[order].view_as(parameter))",
                    "parameter.copy_(torch.randn(parameter.shape, generator=generator))",
                ),
            ),
            "has other numbers than before. Do not draw new ones",
        ),
        (
            _instead(
                _SHUFFLED, ("parameter.numel()", "len(parameter)"), ("parameter.flatten()[order]", "parameter[order]")
            ),
            "cls_token is as before",
        ),
        (
            _instead(
                _SHUFFLED,
                (
                    "            order",
                    "            if parameter.ndim < 2:\n                continue\n            order",
                ),
            ),
            "is as before. Shuffle every parameter",
        ),
        (
            _instead(_SHUFFLED, ("other.parameters()", "other.head.parameters()")),
            "cls_token is as before. Shuffle every parameter",
        ),
        (
            _instead(
                _SHUFFLED,
                (
                    "            order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)\n",
                    "            p = parameter.flatten(1) if parameter.ndim == 2 else parameter.reshape(-1, 1)\n"
                    "            order = torch.randperm(len(p), generator=generator)\n",
                ),
                ("parameter.flatten()[order]", "p[order]"),
            ),
            "shared a row or a column of blocks.0.attn.qkv.weight still do",
        ),
        (
            _instead(
                _SHUFFLED,
                (
                    "            order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)\n",
                    "            p = parameter if parameter.ndim == 2 else parameter.reshape(1, -1)\n"
                    "            order = torch.randperm(p.shape[1], generator=generator)\n",
                ),
                ("parameter.flatten()[order]", "p[:, order]"),
            ),
            "Flatten it first: then every entry can go everywhere",
        ),
        (
            _instead(
                _SHUFFLED,
                ("    generator = torch.Generator().manual_seed(seed)", "    torch.manual_seed(seed)"),
                (", generator=generator", ""),
            ),
            "it uses up the random numbers of the whole program",
        ),
        (_instead(_SHUFFLED, ("manual_seed(seed)", "manual_seed(0)")), "another seed gives the same model"),
        (
            _instead(_SHUFFLED, ("    generator = torch.Generator().manual_seed(seed)", "    generator = G")).replace(
                "def shuffled", "G = torch.Generator()\ndef shuffled"
            ),
            "the same seed must give the same model",
        ),
    ],
    "06.interval": [
        (
            _instead(_INTERVAL, ("return means.quantile(0.025), means", "return means")),
            "expected shape (2,), (low, high)",
        ),
        (
            _instead(
                _INTERVAL,
                ("means.quantile(0.025), means.quantile(0.975)", "means.quantile(0.975), means.quantile(0.025)"),
            ),
            "return the smaller one first",
        ),
        (
            _instead(
                _INTERVAL,
                (
                    "torch.randint(len(values), (2000, len(values)), generator=generator)",
                    "torch.stack([torch.randperm(len(values), generator=generator) for _ in range(2000)])",
                ),
                (".mean(1)", ".double().mean(1)"),
            ),
            "Draw with replacement",
        ),
        (
            _instead(_INTERVAL, ("means = values[draws].mean(1)", "means = values")),
            "that is where single pictures lie",
        ),
        (_instead(_INTERVAL, ("0.025", "0.05"), ("0.975", "0.95")), "that is 90 per cent"),
        (_instead(_INTERVAL, ("0.025", "0.005"), ("0.975", "0.995")), "times as wide as 100 such pictures allow"),
        (_instead(_INTERVAL, ("(2000, len(values))", "(2000, 30)")), "Draw as many pictures as there are"),
        (
            _instead(_INTERVAL, (".mean(1)", ".mean(1) - values.mean()")),
            "must lie inside; yours is -0.2",
        ),
        (
            "def interval(values, seed):\n    half = 1.96 * values.std() / len(values) ** 0.5\n"
            "    return values.mean() - half, values.mean() + half",
            "Is it the mean plus and minus some standard errors?",
        ),
        (_instead(_INTERVAL, ("manual_seed(seed)", "manual_seed(0)")), "every seed gives the same interval"),
        (_instead(_INTERVAL, (", generator=generator", "")), "Draw with a generator of that seed"),
        (_instead(_INTERVAL, ("values[draws].mean(1)", "values[draws].mean(0)")), "times as wide as 100"),
    ],
}
