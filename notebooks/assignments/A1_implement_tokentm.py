# %% [markdown]
# # Assignment 1: TokenTM from the record
#
# **In this assignment you**
#
# 1. write TokenTM from the record of a model to the map, in torch alone;
# 2. make it lean: no large tensors, no products of large matrices;
# 3. write a test that finds broken versions of it, and question what the method does.
#
# **Time:** 3 to 4 hours. **You need** notebooks 00 to 05. **100 points:** 76 by tests, 24 by a reader.
#
# - Write where it says `# your turn`, and leave the names of functions and locked cells as they are.
# - Below each function stands a check. Run it as often as you like; it names the first mistake, and
#   `hint("A1.compare")` helps. The grade comes from the same check, and from further inputs: other models, other
#   shapes.
# - The functions must be your own: those that call `tokentm.transformation`, `tokentm.aggregation`, `tokentm.methods`
#   or `tokentm.explain` get no points. Import nothing more.
# - Each function is given all that it needs. A mistake in one costs nothing in the next.
# - Before you hand in: *Kernel, Restart Kernel and Run All Cells*. Then save.

# %% nbgrader={"grade_id": "setup", "locked": true}
import matplotlib.pyplot as plt
import torch

import tokentm
from tokentm import plots
from tokentm.teaching import check, hint

torch.set_grad_enabled(False)  # we only look; where record needs gradients, it asks for them
torch.backends.cudnn.allow_tf32 = False  # on a GPU: all digits of float32
device = "cuda" if torch.cuda.is_available() else "cpu"
demo = tokentm.load_demo()
model = demo.model.to(device)
scene = demo.scene(17, classes=["cat", "car"])
cat, car = demo.classes.index("cat"), demo.classes.index("car")
images = demo.transform(scene.image)[None].to(device).expand(2, -1, -1, -1)
trace = tokentm.record(model, images, target=[cat, car])  # the same picture, explained for two classes

# %% [markdown]
# ## 1. Length and direction of what each head hands over (15 points)
#
# Head $h$ makes of token $x_j$ the transformed token $f^h(x_j) = P_h v^h_j$: the value, 32 numbers, brought to the
# stream by the projection of the head. Write `compare_heads`. For every image, head and token it returns
#
# $$\text{ratio} = \frac{L(f^h(x_j))}{L(E_j)} \qquad\qquad \text{cosine} = \cos(E_j, f^h(x_j))$$
#
# Shapes: `token` (B, N, D), `value` (B, H, N, d), `projection` (H, D, d); both results (B, H, N). A transformed token
# of length 0 has no direction; its cosine counts as 0.


# %% nbgrader={"grade_id": "compare", "solution": true}
def compare_heads(token, value, projection):
    """Length ratio and cosine of every head's transformed tokens: ((B, H, N), (B, H, N))."""
    ### BEGIN SOLUTION
    gram = projection.transpose(1, 2) @ projection  # P^T P, (H, d, d)
    squared = ((value @ gram) * value).sum(-1).clamp(min=0)
    seen = torch.einsum("bnD,hDd->bhnd", token, projection)  # P^T E
    inner = (seen * value).sum(-1)
    length, own = squared.sqrt(), token.norm(dim=-1).unsqueeze(1)
    cosine = torch.where(length > 0, inner / (own * length).clamp(min=1e-30), 0.0)
    return length / own, cosine
    ### END SOLUTION


# %%
check("A1.compare", compare_heads)

# %% nbgrader={"grade_id": "compare-test", "grade": true, "points": 6}
# 6 points: what the check tests.
### BEGIN HIDDEN TESTS
from tokentm_grader import holds

assert holds("A1.compare", compare_heads)
### END HIDDEN TESTS

# %% nbgrader={"grade_id": "compare-more", "grade": true, "points": 3}
# 3 points: other shapes, all digits of float64.
### BEGIN HIDDEN TESTS
from tokentm_grader import holds

assert holds("A1.compare/more", compare_heads)
### END HIDDEN TESTS

# %% [markdown]
# **Lean.** All transformed tokens of a ViT-L at 384 pixels are 16 x 577 x 1024 numbers a layer, 38 megabytes an image,
# to be thrown away at once. They need not be made. Two identities get by with small tensors:
#
# $$L(f)^2 = v^\top (P^\top P)\, v \qquad\qquad \langle E, f\rangle = (P^\top E) \cdot v$$
#
# Rewrite `compare_heads` above, if you have not already, so that no tensor in it holds more numbers than `token` or
# `projection`.

# %%
check("A1.frugal", compare_heads)

# %% nbgrader={"grade_id": "frugal-test", "grade": true, "points": 4}
# 4 points: what the check tests.
### BEGIN HIDDEN TESTS
from tokentm_grader import holds

assert holds("A1.frugal", compare_heads)
### END HIDDEN TESTS

# %% nbgrader={"grade_id": "frugal-more", "grade": true, "points": 2}
# 2 points: other shapes.
### BEGIN HIDDEN TESTS
from tokentm_grader import holds

assert holds("A1.frugal/more", compare_heads)
### END HIDDEN TESTS

# %% [markdown]
# ## 2. The weight (10 points)
#
# $$W_n = \frac{L(T_n)}{L(E_n)} \cdot \frac{\exp(\cos_n)}{\sum_k \exp(\cos_k)}$$
#
# The sum goes over the tokens of one head of one image. `ratio` and `cosine` have the shape (..., N), with any number
# of axes in front: (B, H, N) in the attention layer, (B, N) in the FFN.


# %% nbgrader={"grade_id": "weight", "solution": true}
def weight(ratio, cosine):
    """Transformation weight, (..., N), (..., N) -> (..., N)."""
    ### BEGIN SOLUTION
    return ratio * cosine.softmax(-1)
    ### END SOLUTION


# %%
check("A1.weight", weight)

# %% nbgrader={"grade_id": "weight-test", "grade": true, "points": 7}
# 7 points: what the check tests.
### BEGIN HIDDEN TESTS
from tokentm_grader import holds

assert holds("A1.weight", weight)
### END HIDDEN TESTS

# %% nbgrader={"grade_id": "weight-more", "grade": true, "points": 3}
# 3 points: other shapes, a length ratio of 0.
### BEGIN HIDDEN TESTS
from tokentm_grader import holds

assert holds("A1.weight/more", weight)
### END HIDDEN TESTS

# %% [markdown]
# ## 3. What one attention layer mixes (10 points)
#
# $$M = \operatorname{mean}_h \operatorname{relu}\big(G^h * (A^h W^h)\big)$$
#
# $W^h$ is the diagonal matrix of the weights of head $h$, $*$ multiplies entry by entry. Shapes: `attention` and
# `gradient` (B, H, N, N), `weight` (B, H, N); the result (B, N, N). The identity of the residual comes later.


# %% nbgrader={"grade_id": "mix", "solution": true}
def mix(attention, weight, gradient):
    """What a layer mixes for the explained score, heads averaged: (B, N, N)."""
    ### BEGIN SOLUTION
    return (gradient * (attention * weight.unsqueeze(-2))).relu().mean(1)
    ### END SOLUTION


# %%
check("A1.mix", mix)

# %% nbgrader={"grade_id": "mix-test", "grade": true, "points": 7}
# 7 points: what the check tests.
### BEGIN HIDDEN TESTS
from tokentm_grader import holds

assert holds("A1.mix", mix)
### END HIDDEN TESTS

# %% nbgrader={"grade_id": "mix-more", "grade": true, "points": 3}
# 3 points: other shapes, one head, one token.
### BEGIN HIDDEN TESTS
from tokentm_grader import holds

assert holds("A1.mix/more", mix)
### END HIDDEN TESTS

# %% [markdown]
# ## 4. Through all layers (10 points)
#
# $$C_0 = \operatorname{diag}(L(E^0_1), \ldots, L(E^0_N)) \qquad C_l = (I + W_{\text{FFN},l})\,(I + M_l)\,C_{l-1}$$
#
# `embedding` (B, N, D) are the tokens that enter the first layer. `mixings` and `ffn_weights` are lists, one entry a
# layer, the first layer first: $M_l$ (B, N, N), and the diagonal of $W_{\text{FFN},l}$ (B, N).


# %% nbgrader={"grade_id": "fold", "solution": true}
def fold(embedding, mixings, ffn_weights):
    """The contribution map after all layers, (B, N, N): row i = how much each input token counts in token i."""
    ### BEGIN SOLUTION
    C = embedding.norm(dim=-1).diag_embed()
    for mixing, ffn_weight in zip(mixings, ffn_weights, strict=True):
        C = C + mixing @ C
        C = C * (1 + ffn_weight).unsqueeze(-1)
    return C
    ### END SOLUTION


# %%
check("A1.fold", fold)

# %% nbgrader={"grade_id": "fold-test", "grade": true, "points": 7}
# 7 points: what the check tests.
### BEGIN HIDDEN TESTS
from tokentm_grader import holds

assert holds("A1.fold", fold)
### END HIDDEN TESTS

# %% nbgrader={"grade_id": "fold-more", "grade": true, "points": 3}
# 3 points: more layers, several images.
### BEGIN HIDDEN TESTS
from tokentm_grader import holds

assert holds("A1.fold/more", fold)
### END HIDDEN TESTS

# %% [markdown]
# ## 5. From the record to the map (16 points)
#
# Put it together. A `trace` holds all you need:
#
# | | |
# | --- | --- |
# | `trace.embedding` | tokens that enter the first layer, (B, N, D) |
# | `trace.layers` | one record a layer, first layer first |
# | `layer.stream`, `layer.value`, `layer.head_projection` | $E = x$ of the attention layer, $v$, $P$ |
# | `layer.attention`, `layer.gradient` | $A$ and $G$ |
# | `layer.stream_mid`, `layer.ffn_update` | $E = x'$ and $T = g(x')$ of the FFN |
# | `trace.readout` | the share of each final token in what the classifier reads, (B, N) |
# | `trace.layout.prefix` | how many tokens stand before the patches |
#
# The score of a patch is the readout's share of the rows of $C_L$, in the column of that patch: $r =
# \text{readout}^\top C_L$, without the prefix. In this model the readout is 1 at the class token. Other models have no
# class token, or several tokens before the patches; yours must serve them too. (Parallel blocks and norms behind the
# heads, which a few models have, are left out.)


# %% nbgrader={"grade_id": "scores", "solution": true}
def scores(trace):
    """TokenTM: the contribution of each patch to the explained score, (B, patches)."""
    ### BEGIN SOLUTION
    mixings, ffn_weights = layer_weights(trace)
    C = fold(trace.embedding, mixings, ffn_weights)
    return torch.einsum("bn,bnm->bm", trace.readout, C)[:, trace.layout.prefix :]


def layer_weights(trace):
    """What every layer mixes, and the weights of its FFN."""
    mixings, ffn_weights = [], []
    for layer in trace.layers:
        W = weight(*compare_heads(layer.stream, layer.value, layer.head_projection))
        mixings.append(mix(layer.attention, W, layer.gradient))
        E, T = layer.stream_mid, layer.ffn_update
        ratio = T.norm(dim=-1) / E.norm(dim=-1)
        ffn_weights.append(weight(ratio, torch.cosine_similarity(E, T, dim=-1)))
    return mixings, ffn_weights
    ### END SOLUTION


# %%
check("A1.scores", scores)

# %% nbgrader={"grade_id": "scores-test", "grade": true, "points": 8}
# 8 points: what the check tests.
### BEGIN HIDDEN TESTS
from tokentm_grader import holds

assert holds("A1.scores", scores)
### END HIDDEN TESTS

# %% nbgrader={"grade_id": "scores-more", "grade": true, "points": 8}
# 8 points: models that read out differently, with registers, with LayerScale, on pictures that are not square.
### BEGIN HIDDEN TESTS
from tokentm_grader import holds

assert holds("A1.scores/more", scores)
### END HIDDEN TESTS

# %% [markdown]
# The cell below draws your map for both classes, as soon as it is right.

# %%
plots.patch_maps(
    dict(zip(["why cat?", "why car?"], scores(trace), strict=True)),
    (trace.layout.rows, trace.layout.columns),
    "Your map of the scene with a cat and a car: what speaks for the cat, and what for the car",
    images=scene.image,
) if check("A1.scores", scores).right else "not yet"

# %% [markdown]
# ## 6. Only one row (10 points)
#
# `fold` multiplies matrices of 197 x 197. Yet the readout asks for one row of the result:
#
# $$r = e^\top\, U_L \cdots U_2\, U_1\, C_0$$
#
# Multiplied from the left, this needs no product of two matrices: a row times a matrix is a row. Write `stream`, which
# returns what `scores` returns, and in which no two maps are ever multiplied. In which order do the layers come now?
# And which comes first inside a layer, attention or FFN?


# %% nbgrader={"grade_id": "stream", "solution": true}
def stream(trace):
    """The same as scores(trace), carried through the layers as one row, (B, patches)."""
    ### BEGIN SOLUTION
    mixings, ffn_weights = layer_weights(trace)
    r = trace.readout
    for mixing, ffn_weight in zip(mixings[::-1], ffn_weights[::-1], strict=True):
        r = r * (1 + ffn_weight)
        r = r + torch.einsum("bn,bnm->bm", r, mixing)
    r = r * trace.embedding.norm(dim=-1)
    return r[:, trace.layout.prefix :]
    ### END SOLUTION


# %%
check("A1.stream", stream)

# %% nbgrader={"grade_id": "stream-test", "grade": true, "points": 6}
# 6 points: what the check tests.
### BEGIN HIDDEN TESTS
from tokentm_grader import holds

assert holds("A1.stream", stream)
### END HIDDEN TESTS

# %% nbgrader={"grade_id": "stream-more", "grade": true, "points": 4}
# 4 points: the models of the hidden test of section 5.
### BEGIN HIDDEN TESTS
from tokentm_grader import holds

assert holds("A1.stream/more", stream)
### END HIDDEN TESTS

# %% [markdown]
# ## 7. A test that finds what is broken (5 points)
#
# How would you know that somebody else's `weight` is right? Write `accepts`. It gets a function `candidate(ratio,
# cosine)` and returns whether it is right, up to one positive factor: candidates may normalise by the sum, by the mean,
# or by anything else that is the same for all tokens of a head. So comparing it with your own numbers will not do. Test
# what must be true of *every* right weight: what happens to it when one length ratio doubles? When one token is turned
# round?


# %% nbgrader={"grade_id": "accepts", "solution": true}
def accepts(candidate):
    """Is this a right transformation weight, up to one positive factor? True or False."""
    ### BEGIN SOLUTION
    generator = torch.Generator().manual_seed(0)
    ratio = torch.rand(3, 6, generator=generator) + 0.5
    cosine = torch.rand(3, 6, generator=generator) * 2 - 1
    W = candidate(ratio, cosine)
    if not (torch.isfinite(W).all() and (W > 0).all()):
        return False
    # length: each weight is proportional to its ratio, and to no other
    scale = torch.rand(3, 6, generator=generator) * 2 + 0.1
    if not torch.allclose(candidate(ratio * scale, cosine), W * scale, rtol=1e-3):
        return False
    # direction: two tokens of one ratio weigh like the exponentials of their cosines
    level = candidate(torch.ones_like(ratio), cosine)
    if not torch.allclose(level[:, 1:] / level[:, :-1], cosine.diff(dim=1).exp(), rtol=1e-3):
        return False
    # normalised: only differences of cosines count
    return torch.allclose(candidate(ratio, cosine * 0.5 + 0.4), candidate(ratio, cosine * 0.5), rtol=1e-3)
    ### END SOLUTION


# %%
check("A1.test", accepts)

# %% nbgrader={"grade_id": "accepts-test", "grade": true, "points": 3}
# 3 points: what the check tests.
### BEGIN HIDDEN TESTS
from tokentm_grader import holds

assert holds("A1.test", accepts)
### END HIDDEN TESTS

# %% nbgrader={"grade_id": "accepts-more", "grade": true, "points": 2}
# 2 points: other broken weights.
### BEGIN HIDDEN TESTS
from tokentm_grader import holds

assert holds("A1.test/more", accepts)
### END HIDDEN TESTS

# %% [markdown]
# ## 8. Questions (24 points)
#
# Each question wants an experiment with your own functions, and an answer of 5 to 10 sentences that states what you
# measured, with numbers, and what follows from it.
#
# ### 8.1 Short paths and long paths (8 points)
#
# $C_L$ is a sum over paths: at every layer a contribution either stays in its token, along the residual, or moves to
# another through attention. How much of the readout's map comes by paths that move *more than once*? Measure it for the
# trace above in four cases: NECC divided by the sum, as you have written it, or by the mean (every weight N times as
# large); with the gradient, or without it ($M = \operatorname{mean}_h A^h W^h$). Name the two reasons for what you
# find, and say what it means for a token whose way to the class token leads over another one.


# %% nbgrader={"grade_id": "paths-experiment", "solution": true}
### BEGIN SOLUTION
def share_of_more_moves(trace, factor=1.0, gradient=True):
    """The share of the map that comes by paths with two or more moves; weights times ``factor``."""
    mixings, ffn_weights = [], []
    for layer in trace.layers:
        W = factor * weight(*compare_heads(layer.stream, layer.value, layer.head_projection))
        mixings.append(mix(layer.attention, W, layer.gradient if gradient else torch.ones_like(layer.gradient)))
        E, T = layer.stream_mid, layer.ffn_update
        ffn_weights.append(factor * weight(T.norm(dim=-1) / E.norm(dim=-1), torch.cosine_similarity(E, T, dim=-1)))
    patches = slice(trace.layout.prefix, None)
    whole = torch.einsum("bn,bnm->bm", trace.readout, fold(trace.embedding, mixings, ffn_weights))[:, patches]
    once = torch.zeros_like(whole)
    for moving in range(len(mixings)):
        r = trace.readout
        for layer in range(len(mixings) - 1, -1, -1):
            r = r * (1 + ffn_weights[layer])
            if layer == moving:
                r = torch.einsum("bn,bnm->bm", r, mixings[layer])
        once += (r * trace.embedding.norm(dim=-1))[:, patches]
    return 1 - once.sum(1) / whole.sum(1)  # without a move, nothing of a patch reaches the class token


for name, factor in (("sum", 1.0), ("mean", float(trace.layout.tokens))):
    for gradient in (True, False):
        share = share_of_more_moves(trace, factor, gradient)[0]
        print(f"{name:4s} {'with' if gradient else 'without':7s} gradient: {share:.3%} by two moves or more")
### END SOLUTION

# %% [markdown] nbgrader={"grade_id": "paths-answer", "grade": true, "solution": true, "points": 8}
# ### BEGIN SOLUTION
# For the map of the cat, paths with two or more moves bring 0.003 % with the sum and the gradient, 0.2 % with the sum
# alone, 0.6 % with the mean and the gradient, and 40 % with the mean alone. Each move multiplies a path by an entry of
# $M$. Two things make these entries small: the sum, which makes weights of order 1/N, here 1/197; and the gradient of
# the logit, which is small for most entries of attention and whose negative half is cut off. Either alone nearly
# silences every second move. So the map of TokenTM is almost exactly a sum over layers of what each hands to the class
# token at once. A token that matters only because another token takes from it in an early layer, and is then read,
# hardly appears; with the mean and without the gradient it does, but then the map no longer knows which class was asked
# for.
#
# ### BEGIN MARK SCHEME
# - 3: paths with one move are separated rightly: M in one layer, the residual in all others, the FFN in every layer.
#   1 if only some layers are counted.
# - 2: four numbers.
# - 2: both reasons: weights of order 1/N, and the small, half cut gradient.
# - 1: what it means for indirect tokens.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown]
# ### 8.2 Which part matters? (8 points)
#
# Switch off, one at a time: the length ratio, the direction, the FFN, the lengths at the start, the gradient. Compare
# each map of the cat with the whole method's, by a measure of your choice that you justify, and look where the car lies
# (`scene.masks["car"]`). Which part changes the map most? Which of them decides whether the map answers the question
# *why cat?* rather than *what is there?*


# %% nbgrader={"grade_id": "parts-experiment", "solution": true}
### BEGIN SOLUTION
def variant(trace, length=True, direction=True, ffn=True, start=True, gradient=True):
    """The map with some parts switched off, (B, patches)."""
    mixings, ffn_weights = [], []
    for layer in trace.layers:
        E, T = layer.stream_mid, layer.ffn_update
        found = compare_heads(layer.stream, layer.value, layer.head_projection)
        found_ffn = T.norm(dim=-1) / E.norm(dim=-1), torch.cosine_similarity(E, T, dim=-1)
        both = []
        for ratio, cosine in (found, found_ffn):
            W = ratio if length else torch.ones_like(ratio)
            both.append(W * cosine.softmax(-1) if direction else W)
        G = layer.gradient if gradient else torch.ones_like(layer.gradient)
        mixings.append(mix(layer.attention, both[0], G))
        ffn_weights.append(both[1] if ffn else torch.zeros_like(both[1]))
    embedding = trace.embedding if start else torch.nn.functional.normalize(trace.embedding, dim=-1)
    C = fold(embedding, mixings, ffn_weights)
    return torch.einsum("bn,bnm->bm", trace.readout, C)[:, trace.layout.prefix :]


def ranks(x):
    return x.argsort(-1).argsort(-1).float()


side = model.patch_embed.patch_size[0]
grid = (trace.layout.rows, trace.layout.columns)
on_car = torch.from_numpy(scene.masks["car"]).unflatten(0, (grid[0], side)).unflatten(2, (grid[1], side))
on_car = on_car.float().mean((1, 3)).flatten().to(device)
whole = variant(trace)[0]
print(f"{'all parts':10s} share on the car {float((whole * on_car).sum() / whole.sum()):.2f}")
for part in ("length", "direction", "ffn", "start", "gradient"):
    other = variant(trace, **{part: False})[0]
    same_order = torch.corrcoef(torch.stack((ranks(whole), ranks(other))))[0, 1]
    share = (other * on_car).sum() / other.sum()
    print(f"no {part:9s} rank correlation {float(same_order):.3f}   share on the car {float(share):.2f}")
### END SOLUTION

# %% [markdown] nbgrader={"grade_id": "parts-answer", "grade": true, "solution": true, "points": 8}
# ### BEGIN SOLUTION
# I compare ranks of patches, because the variants have other units, and the share of the map on the car, because that
# is where an answer to *why cat?* should not lie. Without the lengths at the start the order of the patches changes
# most (rank correlation 0.93), then without the gradient (0.97); without the length ratio or the direction it is 0.99,
# and without the FFN 1.00 to three digits: its weights are of order 1/N, so each factor 1 + W is nearly 1. The share on
# the car is 0.06 for the whole method and between 0.06 and 0.10 without any one part, except the gradient: without it,
# 0.28. It is the only part that knows the class, so without it both maps are the same map, of what is there. That the
# FFN changes nothing is a finding about this model under the sum, not about FFNs.
#
# ### BEGIN MARK SCHEME
# - 2: five variants, each with one part off, the others untouched.
# - 2: a measure with a reason; one that is blind to the unit of the scores (ranks, shares), since the variants differ
#   in it.
# - 2: the part that changes the map most is named with numbers.
# - 2: the gradient alone knows the class: without it, both classes have one map.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown]
# ### 8.3 A choice the paper leaves open (8 points)
#
# You took $T = f^h(x)$, what a head hands over, and compared it with the stream $x$. One could as well take the stream
# after the whole sublayer, $T = x'$, as others have read the paper. What do the ratio and the cosine of this $T$ tell,
# and what do they not tell? Choose one of the two, argue for it in words, and describe an experiment that could show
# that you are wrong: pictures, measure, and the result that would change your mind. No code is asked for.

# %% [markdown] nbgrader={"grade_id": "choice-answer", "grade": true, "solution": true, "points": 8}
# ### BEGIN SOLUTION
# The stream after the sublayer is $x' = x + \sum A f + b$: it contains $x$ itself. So its ratio is near 1 and its
# cosine near 1 wherever the update is short against the stream, for every token alike, and what attention did is a
# small difference of two large vectors. It also holds what token $j$ *took* from all others, while the column of $A$
# that it weighs is about what $j$ *gives*. In favour of it: no head has to be singled out, and it is what the token
# really becomes. $f^h(x_j)$ is what token $j$ gives through head $h$, the very thing that $A^h_{ij}$ multiplies, so I
# choose it. I would be wrong if, on pictures with known objects that were not used for the choice, the other reading
# ordered patches more faithfully: a lower area under the deletion curve, paired by picture, with an interval of the
# mean difference that leaves out 0, under more than one way to remove patches.
#
# ### BEGIN MARK SCHEME
# - 2: x' contains x: ratio and cosine near 1 as a matter of course.
# - 2: x' is what j has received; f(x_j) is what it gives. Either choice, if argued.
# - 2: an experiment that can come out against the choice: untouched pictures, both readings on the same record.
# - 2: a measure, and a result named in advance, with its uncertainty.
# ### END MARK SCHEME
# ### END SOLUTION
