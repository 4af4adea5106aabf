"""Answers to the assignments that pass every check a student sees, and that the hidden tests must refuse."""

SUBTLE: dict[str, str] = {
    # in float32 whatever comes
    "A1.compare": """
careful = compare_heads
def compare_heads(token, value, projection):
    return careful(token.float(), value.float(), projection.float())""",
    "A1.frugal": """
careful = compare_heads
def compare_heads(token, value, projection):
    return careful(token.float(), value.float(), projection.float())""",
    # no weight is ever 0
    "A1.weight": "def weight(ratio, cosine):\n    return ratio.clamp(min=0.05) * cosine.softmax(-1)",
    # loses an axis of length one
    "A1.mix": "def mix(attention, weight, gradient):\n"
    "    return (gradient * attention * weight.unsqueeze(-2)).relu().mean(1).squeeze(-1)",
    # three layers and no more
    "A1.fold": "whole = fold\ndef fold(embedding, mixings, ffn_weights):\n"
    "    return whole(embedding, mixings[:3], ffn_weights[:3])",
    # the first token is the class token, always
    "A1.scores": """
def scores(trace):
    return fold(trace.embedding, *layer_weights(trace))[:, 0, trace.layout.prefix :]""",
    "A1.stream": """
def stream(trace):
    r = torch.zeros_like(trace.readout)
    r[:, 0] = 1
    for mixing, ffn_weight in list(zip(*layer_weights(trace)))[::-1]:
        r = r * (1 + ffn_weight)
        r = r + torch.einsum("bn,bnm->bm", r, mixing)
    return (r * trace.embedding.norm(dim=-1))[:, trace.layout.prefix :]""",
    # looks at long tokens alone
    "A1.test": """
careful = accepts
def accepts(candidate):
    return careful(lambda ratio, cosine: candidate(ratio * 0.1, cosine))""",
    # the corner is always object
    "A2.share": """
plain = share_inside
def share_inside(heat, mask):
    mask = mask.clone()
    mask[:, 0, 0] = True
    return plain(heat, mask)""",
    # a little object does not count
    "A2.outside": "def strongest_outside(scores, covered):\n"
    "    return scores.masked_fill(covered > 0.002, -torch.inf).argmax(1)",
    # a cue of one pixel, or of the whole picture, finds no place
    "A2.paste": """
plain = paste
def paste(image, mask, cue):
    return plain(image, mask, cue) if cue.shape[1:] != image.shape[1:] and cue.shape[1] > 1 else image""",
    # four classes and no more
    "A2.flips": "plain = flip_rate\ndef flip_rate(before, after, target):\n"
    "    return plain(before[:, :4], after[:, :4], target)",
    # noise that only zeros feel
    "A3.rank": """
def rank(scores, seed=0):
    noise = torch.rand(scores.shape, generator=torch.Generator().manual_seed(seed))
    return (scores + 1e-9 * noise).argsort(dim=1, descending=True, stable=True)""",
    # always rounds down
    "A3.deletion": """
def deletion(remove, order, target):
    points = []
    for step in range(11):
        gone = torch.zeros_like(order, dtype=torch.bool)
        gone.scatter_(1, order[:, : step * order.shape[1] // 10], True)
        points.append(remove(gone).softmax(1).gather(1, target[:, None]).squeeze(1))
    return torch.stack(points, dim=1)""",
    # two points make no curve
    "A3.area": "plain = area\ndef area(curve):\n    return plain(curve) if curve.shape[1] > 2 else curve[:, 0]",
    # as if every difference were of the order of one
    "A3.interval": """
plain = interval
def interval(differences, level=0.95):
    mean, low, high = plain(differences.clamp(-5, 5), level)
    return mean, low, high""",
    # always divides by twenty
    "A3.verdicts": """
def verdicts(differences):
    found = {}
    for name, values in differences.items():
        _, low, high = interval(values, 1 - 0.05 / 20)
        found[name] = "+" if low > 0 else "-" if high < 0 else "="
    return found""",
    # by place rather than by name
    "A3.choose": """
def choose(validation, test):
    means = [values.mean().item() for values in validation.values()]
    place = means.index(min(means))
    return list(validation)[place], list(test.values())[place].mean().item()""",
    # four pictures, always
    "A3.compare": """
plain = compare
def compare(trace, methods, remove):
    assert len(trace.images) == 4
    return plain(trace, methods, remove)""",
}
