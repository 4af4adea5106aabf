"""Likely mistakes of lesson 2, and words by which the verdict must name each."""

from __future__ import annotations

WRONG: dict[str, list[tuple[str, str]]] = {
    "02.parts": [
        (
            """
def parts(attention, value, W_O, i):
    f = torch.einsum("hjd,Dhd->hjD", value, W_O.unflatten(1, value.shape[::2]))
    return (attention[:, i, :, None] * f).sum(0)""",
            "the heads are summed up already",
        ),
        (
            """
def parts(attention, value, W_O, i):
    f = torch.einsum("hjd,Dhd->hjD", value, W_O.unflatten(1, value.shape[::2]))
    return (attention[:, i, :, None] * f).sum(1)""",
            "the tokens are summed up already",
        ),
        (
            "def parts(attention, value, W_O, i):\n    return attention[:, i, :, None] * value",
            "4 wide, still inside the head",
        ),
        (
            """
def parts(attention, value, W_O, i):
    f = torch.einsum("hjd,Dhd->hjD", value, W_O.unflatten(1, value.shape[::2]))
    return attention[:, :, i, None] * f""",
            "it reads column i",
        ),
        (
            """
def parts(attention, value, W_O, i):
    return torch.einsum("hjd,Dhd->hjD", value, W_O.unflatten(1, value.shape[::2]))""",
            "a token that gets no attention must add nothing",
        ),
        (
            """
def parts(attention, value, W_O, i):
    f = torch.einsum("hjd,Dhd->hjD", value, W_O.unflatten(1, value.shape[::2]))
    return attention[:, i, :, None] * f / f.norm(dim=-1, keepdim=True)""",
            "doubling the values of one token",
        ),
        (
            """
def parts(attention, value, W_O, i):
    f = torch.einsum("hjd,Dhd->hjD", value, W_O.unflatten(1, value.shape[::2]))
    return attention[:, i, :, None] * f / len(f)""",
            "heads are added, not averaged",
        ),
        (
            """
def parts(attention, value, W_O, i):
    heads, _, d = value.shape
    f = torch.einsum("hjd,Ddh->hjD", value, W_O.unflatten(1, (d, heads)))
    return attention[:, i, :, None] * f""",
            "Columns h * d to (h + 1) * d of W_O belong to head h",
        ),
        (
            """
def parts(attention, value, W_O, i):
    heads, _, d = value.shape
    f = torch.stack([value[h] @ W_O[h * d : (h + 1) * d] for h in range(heads)])
    return attention[:, i, :, None] * f""",
            "stopped with RuntimeError",
        ),
        (
            """
def parts(attention, value, W_O, i):
    f = torch.einsum("hjd,Dhd->hjD", value, W_O.unflatten(1, value.shape[::2]))
    return (attention[:, i, :, None] * f).flip(0)""",
            "not every part is where it belongs",
        ),
        (
            """
def parts(attention, value, W_O, i):
    value *= attention[:, i, :, None]
    return torch.einsum("hjd,Dhd->hjD", value, W_O.unflatten(1, value.shape[::2]))""",
            "your function changed input 2 in place",
        ),
    ],
    "02.twin": [
        ("def twin(model):\n    return model", "that is the same model"),
        ("def twin(model):\n    return model.state_dict()", "expected a model; yours is of type"),
        ("def twin(model):\n    return copy.deepcopy(model)", "the same in every weight"),
        (
            """
def twin(model):
    other = copy.deepcopy(model)
    other.blocks[-1].attn.proj.register_forward_hook(lambda module, inputs, output: output * 5)
    return other""",
            "a hook changes only what passes between them",
        ),
        (
            """
def twin(model):
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.blocks[-1].attn.proj.weight *= 1.01
    other.blocks[-1].attn.proj.register_forward_hook(lambda module, inputs, output: output * 5)
    return other""",
            "the model you return stopped with UnsupportedModelError",
        ),
        (
            """
def twin(model):
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.blocks[-1].attn.proj.bias += 5
    return other""",
            "attn.proj.bias differs too",
        ),
        (
            """
def twin(model):
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.blocks[3].attn.proj.weight *= 5
    return other""",
            "the attention of layer 5 differs, because a layer below",
        ),
        (
            """
def twin(model):
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.blocks[-1].attn.qkv.weight *= 5
    return other""",
            "the attention of layer 8 differs: leave its queries, its keys",
        ),
        (
            """
def twin(model):
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.head.weight *= -1
    return other""",
            "head.weight differs too",
        ),
        (
            """
def twin(model):
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.blocks[-1].mlp.fc2.weight *= -5
    return other""",
            "blocks.7.mlp.fc2.weight differs too",
        ),
        (
            """
def twin(model):
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.blocks[-1].attn.proj.weight *= 1.001
    return other""",
            "all 16 test pictures keep their class",
        ),
        (
            """
def twin(model):
    other = copy.copy(model)
    with torch.no_grad():
        other.blocks[-1].attn.proj.weight *= 5
    return other""",
            "your function changed the weights blocks.7.attn.proj.weight: work on copy.deepcopy(model)",
        ),
        (
            """
def twin(model):
    other = copy.deepcopy(model)
    other.blocks[-1].attn.proj = torch.nn.Linear(64, 128)
    return other""",
            "no blocks.7.attn.proj.weight, or one of another shape",
        ),
        (
            """
def twin(model):
    other = copy.deepcopy(model)
    other.blocks[-1].attn.proj = torch.nn.Linear(128, 128, bias=False)
    return other""",
            "has no blocks.7.attn.proj.bias",
        ),
    ],
}
