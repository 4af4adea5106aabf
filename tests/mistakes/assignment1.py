"""What a student may write in assignment 1, and words by which the verdict must name that mistake."""

WRONG: dict[str, list[tuple[str, str]]] = {
    "A1.compare": [
        (
            """
def compare_heads(token, value, projection):
    f, E = torch.einsum("bhjd,hDd->bhjD", value, projection), token.unsqueeze(1)
    return f.norm(dim=-1) / E.norm(dim=-1), (E * f).sum(-1)""",
            "Divide the inner product by both lengths",
        ),
        (
            """
def compare_heads(token, value, projection):
    f, E = torch.einsum("bhjd,hDd->bhjD", value, projection), token.unsqueeze(1)
    return E.norm(dim=-1) / f.norm(dim=-1), torch.cosine_similarity(E, f, dim=-1)""",
            "it is L(T) / L(E), not the other way round",
        ),
        (
            """
def compare_heads(token, value, projection):
    f, E = torch.einsum("bhjd,hDd->bhjD", value, projection), token.unsqueeze(1)
    return (f**2).sum(-1) / (E**2).sum(-1), torch.cosine_similarity(E, f, dim=-1)""",
            "take the root of the squared length",
        ),
        (
            """
def compare_heads(token, value, projection):
    f, E = torch.einsum("bhjd,hDd->bhjD", value, projection), token.unsqueeze(1)
    return f.norm(dim=-1) / E.norm(dim=-1), (E * f).sum(-1) / (E.norm(dim=-1) * f.norm(dim=-1))""",
            "yours gives NaN",
        ),
        (
            """
def compare_heads(token, value, projection):
    f = torch.einsum("bhjd,hDd->bjD", value, projection).unsqueeze(1).expand(-1, len(projection), -1, -1)
    E = token.unsqueeze(1)
    return f.norm(dim=-1) / E.norm(dim=-1), torch.cosine_similarity(E, f, dim=-1)""",
            "head 1 must not depend on the projection of head 2",
        ),
        (
            """
def compare_heads(token, value, projection):
    f, E = torch.einsum("bhjd,hDd->bhjD", value, projection), token.unsqueeze(1)
    return f.norm(dim=-1) / E.norm(dim=-1).mean(), torch.cosine_similarity(E, f, dim=-1)""",
            "for f(x) = 1 x the length ratio is 1",
        ),
        (
            """
def compare_heads(token, value, projection):
    f, E = torch.einsum("bhjd,hDd->bhjD", value, projection), token.unsqueeze(1)
    longest = projection.norm(dim=(1, 2)) / projection.shape[2] ** 0.5
    return value.norm(dim=-1) * longest[:, None] / E.norm(dim=-1), torch.cosine_similarity(E, f, dim=-1)""",
            "the ratio must be the length of P_h v_j over that of E_j",
        ),
        (
            """
def compare_heads(token, value, projection):
    f, E = torch.einsum("bhjd,hdD->bhjD", value, projection), token.unsqueeze(1)
    return f.norm(dim=-1) / E.norm(dim=-1), torch.cosine_similarity(E, f, dim=-1)""",
            "stopped with RuntimeError",
        ),
        (
            """
def compare_heads(token, value, projection):
    f, E = torch.einsum("bhjd,hDd->bhjD", value, projection), token.unsqueeze(1)
    return f.norm(dim=-1) / E.norm(dim=-1)""",
            "expected shape (2, 2, 1, 5)",
        ),
        (
            """
def compare_heads(token, value, projection):
    f, E = torch.einsum("bhjd,hDd->bhjD", value, projection), token.unsqueeze(1)
    value *= 0
    return f.norm(dim=-1) / E.norm(dim=-1), torch.cosine_similarity(E, f, dim=-1)""",
            "your function changed input 2 in place",
        ),
        (
            "from tokentm.transformation import compare_heads",
            "it calls tokentm.transformation.compare_heads. To write that is the task",
        ),
    ],
    "A1.frugal": [
        (
            """
def compare_heads(token, value, projection):
    f, E = torch.einsum("bhjd,hDd->bhjD", value, projection), token.unsqueeze(1)
    return f.norm(dim=-1) / E.norm(dim=-1), torch.cosine_similarity(E, f, dim=-1)""",
            "it makes a tensor of 10240 numbers",
        ),
        (
            """
def compare_heads(token, value, projection):
    f = torch.einsum("bhjd,hDd->bhjD", value, projection)
    E = token.unsqueeze(1).expand_as(f).contiguous()
    return f.norm(dim=-1) / E.norm(dim=-1), torch.cosine_similarity(E, f, dim=-1)""",
            "wanted: none larger than the tokens themselves, 2560",
        ),
        (
            """
def compare_heads(token, value, projection):
    squared = ((value @ (projection.transpose(1, 2) @ projection)) * value).sum(-1)
    inner = (torch.einsum("bnD,hDd->bhnd", token, projection) * value).sum(-1)
    own = token.norm(dim=-1).unsqueeze(1)
    return squared / own, inner / (own * squared.sqrt()).clamp(min=1e-30)""",
            "the ratio must be the length of P_h v_j",
        ),
        (
            """
def compare_heads(token, value, projection):
    squared = ((value @ (projection.transpose(1, 2) @ projection)) * value).sum(-1)
    inner = (torch.einsum("bnD,hDd->bhnd", token, projection) * value).sum(-1)
    own = token.norm(dim=-1).unsqueeze(1)
    return squared.sqrt() / own, inner / own""",
            "the cosine must be that of E_j and P_h v_j",
        ),
        (
            """
def compare_heads(token, value, projection):
    own, length = token.norm(dim=-1).unsqueeze(1), value.norm(dim=-1)
    inner = (torch.einsum("bnD,hDd->bhnd", token, projection) * value).sum(-1)
    return length / own, inner / (own * length)""",
            "the ratio must be the length of P_h v_j",
        ),
        (
            """
def compare_heads(token, value, projection):
    narrow = torch.linalg.qr(projection).R
    heads = torch.block_diag(*projection)
    f = (value.transpose(1, 2).flatten(2) @ heads.T).unflatten(2, (len(projection), -1)).transpose(1, 2)
    return f.norm(dim=-1) / token.norm(dim=-1).unsqueeze(1), torch.cosine_similarity(token.unsqueeze(1), f, dim=-1)""",
            "it makes a tensor of",
        ),
    ],
    "A1.weight": [
        ("def weight(ratio, cosine):\n    return ratio * cosine.exp()", "yours weigh 2.72"),
        ("def weight(ratio, cosine):\n    return ratio * cosine.softmax(-1) * cosine.shape[-1]", "That is the mean."),
        ("def weight(ratio, cosine):\n    return ratio * cosine.softmax(-2)", "Divide by the sum over the tokens"),
        (
            "def weight(ratio, cosine):\n    return ratio * cosine.flatten().softmax(0).view_as(cosine)",
            "Divide by the sum over the tokens of one head and one image",
        ),
        ("def weight(ratio, cosine):\n    return cosine.softmax(-1)", "Where is L(T) / L(E)?"),
        ("def weight(ratio, cosine):\n    return ratio / ratio.shape[-1]", "Where is the cosine?"),
        ("def weight(ratio, cosine):\n    return ratio * (-cosine).softmax(-1)", "a reversed token must weigh less"),
        (
            "def weight(ratio, cosine):\n    return ratio * (1 + cosine) / (1 + cosine).sum(-1, keepdim=True)",
            "Take the exponential of each cosine",
        ),
        ("def weight(ratio, cosine):\n    return (ratio * cosine).softmax(-1)", "twice the length ratio doubles"),
        ("def weight(ratio, cosine):\n    return ratio**2 * cosine.softmax(-1)", "twice the length ratio doubles"),
        ("def weight(ratio, cosine):\n    return ratio * cosine.softmax(2)", "stopped with IndexError"),
        (
            "def weight(ratio, cosine):\n    return ratio * cosine.exp() / (torch.e * ratio.shape[-1])",
            "with all ratios 1 the weights of one head sum to 1",
        ),
        ("from tokentm.transformation import weight", "it calls tokentm.transformation.weight"),
    ],
    "A1.mix": [
        (
            "def mix(attention, weight, gradient):\n"
            "    return (gradient * attention * weight.unsqueeze(-1)).relu().mean(1)",
            "yours weighs row j, what j takes",
        ),
        (
            "def mix(attention, weight, gradient):\n    return (gradient * attention).relu().mean(1)",
            "Multiply column j by W_j",
        ),
        (
            "def mix(attention, weight, gradient):\n    return (gradient * attention * weight.unsqueeze(-2)).mean(1)",
            "Where is the relu?",
        ),
        (
            "def mix(attention, weight, gradient):\n"
            "    return (gradient * attention * weight.unsqueeze(-2)).abs().mean(1)",
            "relu, not abs",
        ),
        (
            "def mix(attention, weight, gradient):\n    return (attention * weight.unsqueeze(-2)).mean(1)",
            "nothing may be left; yours is positive",
        ),
        (
            "def mix(attention, weight, gradient):\n"
            "    return (gradient * attention * weight.unsqueeze(-2)).mean(1).relu()",
            "relu first, then the mean over heads",
        ),
        (
            "def mix(attention, weight, gradient):\n"
            "    return (gradient * attention * weight.unsqueeze(-2)).relu().sum(1)",
            "mean over heads, not sum",
        ),
        (
            "def mix(attention, weight, gradient):\n"
            "    return gradient.relu().mean(1) * (attention * weight.unsqueeze(-2)).mean(1)",
            "multiply head by head, then average",
        ),
        (
            "def mix(attention, weight, gradient):\n"
            "    M = (gradient * attention * weight.unsqueeze(-2)).relu().mean(1)\n"
            "    return M + torch.eye(M.shape[-1])",
            "the identity of the residual comes in the next step",
        ),
        (
            "def mix(attention, weight, gradient):\n    return (gradient * attention * weight.unsqueeze(-2)).relu()",
            "heads averaged; yours has shape (2, 3, 5, 5)",
        ),
        (
            "from tokentm.aggregation import head_mixing\n"
            "def mix(attention, weight, gradient):\n"
            "    return head_mixing(attention, weight, gradient).mean(1)",
            "it calls tokentm.aggregation.head_mixing",
        ),
    ],
    "A1.fold": [
        (
            """
def fold(embedding, mixings, ffn_weights):
    C = torch.eye(embedding.shape[1]).expand(len(embedding), -1, -1)
    for M, w in zip(mixings, ffn_weights):
        C = (C + M @ C) * (1 + w).unsqueeze(-1)
    return C""",
            "yours is the identity",
        ),
        (
            """
def fold(embedding, mixings, ffn_weights):
    C = embedding.pow(2).sum(-1).diag_embed()
    for M, w in zip(mixings, ffn_weights):
        C = (C + M @ C) * (1 + w).unsqueeze(-1)
    return C""",
            "without layers it must be C_0",
        ),
        (
            """
def fold(embedding, mixings, ffn_weights):
    C = embedding.norm(dim=-1).diag_embed()
    for M, w in zip(mixings, ffn_weights):
        C = (M @ C) * (1 + w).unsqueeze(-1)
    return C""",
            "yours loses it. U = I + ...",
        ),
        (
            """
def fold(embedding, mixings, ffn_weights):
    C = embedding.norm(dim=-1).diag_embed()
    for M, w in zip(mixings, ffn_weights):
        C = C + M @ C
    return C""",
            "U_ffn = I + W is missing",
        ),
        (
            """
def fold(embedding, mixings, ffn_weights):
    C = embedding.norm(dim=-1).diag_embed()
    for M, w in zip(mixings, ffn_weights):
        C = C * (1 + w).unsqueeze(-1)
        C = C + M @ C
    return C""",
            "as if it came before",
        ),
        (
            """
def fold(embedding, mixings, ffn_weights):
    C = embedding.norm(dim=-1).diag_embed()
    for M, w in zip(mixings, ffn_weights):
        C = (C + M @ C) + w.unsqueeze(-1) * torch.eye(C.shape[-1])
    return C""",
            "the FFN must multiply row i",
        ),
        (
            """
def fold(embedding, mixings, ffn_weights):
    C = embedding.norm(dim=-1).diag_embed()
    for M, w in zip(mixings[::-1], ffn_weights[::-1]):
        C = (C + M @ C) * (1 + w).unsqueeze(-1)
    return C""",
            "the first layer comes first",
        ),
        (
            """
def fold(embedding, mixings, ffn_weights):
    C = embedding.norm(dim=-1).diag_embed()
    for M, w in zip(mixings, ffn_weights):
        C = (C + C @ M) * (1 + w).unsqueeze(-1)
    return C""",
            "Multiply each layer from the left",
        ),
        (
            """
def fold(embedding, mixings, ffn_weights):
    C = embedding.norm(dim=-1).diag_embed()
    for M, w in zip(mixings, ffn_weights):
        M += torch.eye(M.shape[-1])
        C = (M @ C) * (1 + w).unsqueeze(-1)
    return C""",
            "your function changed input 2, part 1 in place",
        ),
        (
            """
def fold(embedding, mixings, ffn_weights):
    C = embedding[0].norm(dim=-1).diag_embed().expand(len(embedding), -1, -1)
    for M, w in zip(mixings, ffn_weights):
        C = (C + M @ C) * (1 + w).unsqueeze(-1)
    return C""",
            "for each image",
        ),
        (
            """
from tokentm import aggregation
def fold(embedding, mixings, ffn_weights):
    C = aggregation.initial_map(embedding)
    for M, w in zip(mixings, ffn_weights):
        C = aggregation.aggregate(C, M, w)
    return C""",
            "it calls tokentm.aggregation.initial_map",
        ),
    ],
    "A1.scores": [
        (
            """
def scores(trace):
    mixings, ffn_weights = layer_weights(trace)
    return torch.einsum("bn,bnm->bm", trace.readout, fold(trace.embedding, mixings, ffn_weights))""",
            "the class token left out",
        ),
        (
            """
def scores(trace):
    mixings, ffn_weights = layer_weights(trace)
    return torch.einsum("bn,bnm->bm", trace.readout, fold(trace.embedding, mixings, ffn_weights))[:, :-1]""",
            "Check each part alone",
        ),
        (
            """
def scores(trace):
    mixings, ffn_weights = layer_weights(trace)
    C = fold(trace.embedding, mixings, [w * 0 for w in ffn_weights])
    return torch.einsum("bn,bnm->bm", trace.readout, C)[:, trace.layout.prefix :]""",
            "the FFN is missing",
        ),
        (
            """
def scores(trace):
    mixings, ffn_weights = layer_weights(trace)
    C = fold(torch.nn.functional.normalize(trace.embedding, dim=-1), mixings, ffn_weights)
    return torch.einsum("bn,bnm->bm", trace.readout, C)[:, trace.layout.prefix :]""",
            "the lengths of the tokens at the start are missing",
        ),
        (
            """
def scores(trace):
    mixings, ffn_weights = [], []
    for layer in trace.layers:
        W = weight(*compare_heads(layer.stream, layer.value, layer.head_projection))
        mixings.append((layer.attention * W.unsqueeze(-2)).mean(1))
        E, T = layer.stream_mid, layer.ffn_update
        ffn_weights.append(weight(T.norm(dim=-1) / E.norm(dim=-1), torch.cosine_similarity(E, T, dim=-1)))
    C = fold(trace.embedding, mixings, ffn_weights)
    return torch.einsum("bn,bnm->bm", trace.readout, C)[:, trace.layout.prefix :]""",
            "the gradient is missing",
        ),
        (
            """
def scores(trace):
    mixings, ffn_weights = [], []
    for layer in trace.layers:
        W = weight(*compare_heads(layer.normed, layer.value, layer.head_projection))
        mixings.append(mix(layer.attention, W, layer.gradient))
        E, T = layer.normed_mid, layer.ffn_update
        ffn_weights.append(weight(T.norm(dim=-1) / E.norm(dim=-1), torch.cosine_similarity(E, T, dim=-1)))
    C = fold(trace.embedding, mixings, ffn_weights)
    return torch.einsum("bn,bnm->bm", trace.readout, C)[:, trace.layout.prefix :]""",
            "E is taken as LN(x)",
        ),
        (
            """
plain_weight = weight
def weight(ratio, cosine):
    return plain_weight(ratio, cosine) * ratio.shape[-1]""",
            "NECC is normalised by the mean",
        ),
        (
            """
def weight(ratio, cosine):
    return cosine.softmax(-1)""",
            "the length ratio is missing",
        ),
        (
            """
def scores(trace):
    mixings, ffn_weights = layer_weights(trace)
    C = fold(trace.embedding, mixings, ffn_weights)
    r = torch.einsum("bn,bnm->bm", trace.readout, C)[:, trace.layout.prefix :]
    return r.mean(0, keepdim=True).expand_as(r)""",
            "an image alone must score as it does among others",
        ),
        (
            """
def scores(trace):
    mixings, ffn_weights = layer_weights(trace)
    C = fold(trace.embedding, mixings, ffn_weights)
    r = torch.einsum("bn,bnm->bm", trace.readout, C)[:, trace.layout.prefix :]
    return r / r.sum(1, keepdim=True)""",
            "right up to one factor",
        ),
        (
            """
def scores(trace):
    for layer in trace.layers:
        layer.attention.mul_(0.9)
    mixings, ffn_weights = layer_weights(trace)
    C = fold(trace.embedding, mixings, ffn_weights)
    return torch.einsum("bn,bnm->bm", trace.readout, C)[:, trace.layout.prefix :]""",
            "your function changes the trace in place",
        ),
        (
            "def scores(trace):\n    return tokentm.TokenTM()(trace).scores",
            "it calls tokentm.methods.tokentm.",
        ),
    ],
    "A1.stream": [
        ("stream = scores", "it multiplies two maps of 37 x 37"),
        (
            """
def stream(trace):
    r = trace.readout
    for mixing, ffn_weight in zip(*layer_weights(trace)):
        r = r * (1 + ffn_weight)
        r = r + torch.einsum("bn,bnm->bm", r, mixing)
    return (r * trace.embedding.norm(dim=-1))[:, trace.layout.prefix :]""",
            "Yours begins with the first layer",
        ),
        (
            """
def stream(trace):
    r = trace.readout
    for mixing, ffn_weight in list(zip(*layer_weights(trace)))[::-1]:
        r = r + torch.einsum("bn,bnm->bm", r, mixing)
        r = r * (1 + ffn_weight)
    return (r * trace.embedding.norm(dim=-1))[:, trace.layout.prefix :]""",
            "Yours takes attention first",
        ),
        (
            """
def stream(trace):
    r = trace.readout
    for mixing, ffn_weight in zip(*layer_weights(trace)):
        r = r + torch.einsum("bn,bnm->bm", r, mixing)
        r = r * (1 + ffn_weight)
    return (r * trace.embedding.norm(dim=-1))[:, trace.layout.prefix :]""",
            "both are the wrong way round",
        ),
        (
            """
def stream(trace):
    r = trace.readout
    for mixing, ffn_weight in list(zip(*layer_weights(trace)))[::-1]:
        r = torch.einsum("bn,bnm->bm", r * (1 + ffn_weight), mixing)
    return (r * trace.embedding.norm(dim=-1))[:, trace.layout.prefix :]""",
            "what stays in its token is lost",
        ),
        (
            """
def stream(trace):
    r = trace.readout
    for mixing, ffn_weight in list(zip(*layer_weights(trace)))[::-1]:
        r = r * (1 + ffn_weight)
        r = r + torch.einsum("bn,bnm->bm", r, mixing)
    return r[:, trace.layout.prefix :]""",
            "the lengths of the tokens at the start are missing",
        ),
        (
            """
def stream(trace):
    r = trace.readout
    for mixing, ffn_weight in list(zip(*layer_weights(trace)))[::-1]:
        r = r * (1 + ffn_weight)
        r = r + torch.einsum("bm,bnm->bn", r, mixing)
    return (r * trace.embedding.norm(dim=-1))[:, trace.layout.prefix :]""",
            "the scores are not those of TokenTM",
        ),
    ],
    "A1.test": [
        ("def accepts(candidate):\n    return False", "it rejects the weight with NECC normalised by the sum"),
        ("def accepts(candidate):\n    return True", "it accepts a weight that ignores the length. 0 of 9"),
        (
            """
def accepts(candidate):
    ratio, cosine = torch.rand(3, 6), torch.rand(3, 6)
    return torch.allclose(candidate(ratio, cosine), ratio * cosine.softmax(-1))""",
            "it rejects the weight with NECC normalised by the mean",
        ),
        (
            """
def accepts(candidate):
    ratio, cosine = torch.ones(1, 3), torch.tensor([[0.1, 0.2, 0.3]])
    return torch.allclose(candidate(2 * ratio, cosine), 2 * candidate(ratio, cosine))""",
            "it accepts a weight that ignores the direction",
        ),
        (
            """
def accepts(candidate):
    W = candidate(torch.ones(2), torch.tensor([1.0, -1.0]))
    return W[1] < W[0]""",
            "it accepts a weight that ignores the length",
        ),
        (
            """
def accepts(candidate):
    ratio, cosine = torch.tensor([1.0, 1.0, 3.0]), torch.tensor([1.0, -1.0, 0.0])
    W = candidate(ratio, cosine)
    return bool(W[1] < W[0] < W[2])""",
            "it accepts a weight",
        ),
        ("def accepts(candidate):\n    return 'yes'", "expected True or False; yours returns str"),
        ("def accepts(candidate):\n    assert candidate", "Is its `return` missing?"),
    ],
}
