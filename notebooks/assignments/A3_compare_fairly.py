# %% [markdown]
# # Assignment 3: a fair comparison
#
# **In this assignment you**
#
# 1. build a benchmark for explanation methods, and close the doors by which unfairness comes in;
# 2. say what a difference of two methods is worth, also when there are many methods;
# 3. run it, attack it, and report what it can and cannot tell.
#
# **Time:** 2 to 3 hours. **You need** notebooks 00 to 07. **100 points:** 70 by tests, 30 by a reader.
#
# - Write where it says `# your turn`, and leave names and locked cells as they are. Import nothing more.
# - Below each function stands a check. Run it as often as you like; it names the first mistake, and `hint("A3.rank")`
#   helps. The grade comes from the same check, and from further inputs.
# - The functions must be your own: of `tokentm.evaluation`, use `Removal` alone.
# - Before you hand in: *Kernel, Restart Kernel and Run All Cells*. Then save.

# %% nbgrader={"grade_id": "setup", "locked": true}
import matplotlib.pyplot as plt
import torch

import tokentm
from tokentm import plots
from tokentm.evaluation import Removal
from tokentm.teaching import check, hint

torch.set_grad_enabled(False)  # we only look; where record needs gradients, it asks for them
device = "cuda" if torch.cuda.is_available() else "cpu"
demo = tokentm.load_demo()
model = demo.model.to(device)
METHODS = tokentm.methods.METHODS


def pictures(first, count):
    """Scenes of one object, the classes in turn: what they show, and as the model takes them."""
    scenes = [demo.scene(first + i, demo.classes[i % 16]) for i in range(count)]
    return scenes, torch.stack([demo.transform(scene.image) for scene in scenes]).to(device)


# %% [markdown]
# The test is *deletion*: take patches away, the most relevant first, and watch the probability of the class that was
# explained. The faster it falls, the better the method knew which patches counted. Simple as that is, there are many
# ways to be unfair.
#
# ## 1. An order, without a bias (11 points)
#
# Some methods give the score 0 to half of the patches. Sorted naively, equal scores stay as they lie in the picture,
# from the top: where the sky is. So a tie must be decided by lot. `scores` (B, patches); the result (B, patches) are
# the numbers of the patches, most relevant first. The lots come from a generator with that `seed`, so that a call can
# be repeated.


# %% nbgrader={"grade_id": "rank", "solution": true}
def rank(scores, seed=0):
    """Patches by falling score, ties in random order, (B, patches)."""
    ### BEGIN SOLUTION
    lots = torch.randperm(scores.shape[1], generator=torch.Generator().manual_seed(seed)).to(scores.device)
    return lots[scores[:, lots].argsort(dim=1, descending=True, stable=True)]
    ### END SOLUTION


# %%
check("A3.rank", rank)

# %% nbgrader={"grade_id": "rank-test", "grade": true, "points": 8}
# 8 points: what the check tests.
### BEGIN HIDDEN TESTS
from tokentm_grader import holds

assert holds("A3.rank", rank)
### END HIDDEN TESTS

# %% nbgrader={"grade_id": "rank-more", "grade": true, "points": 3}
# 3 points: many ties, many images.
### BEGIN HIDDEN TESTS
from tokentm_grader import holds

assert holds("A3.rank/more", rank)
### END HIDDEN TESTS

# %% [markdown]
# ## 2. The curve and its area (18 points)
#
# `remove(gone)` answers for the model: `gone` (B, patches), bool, says which patches are taken away; it returns logits
# (B, classes). Write `deletion`: the probability of each image's own class `target` (B,) at eleven points, when the
# first 0 %, 10 % ... 100 % of its `order` are gone. 10 % of $P$ patches are `round(0.1 * P)`. The result is (B, 11).


# %% nbgrader={"grade_id": "deletion", "solution": true}
def deletion(remove, order, target):
    """The probability of the target while patches go in this order, (B, 11)."""
    ### BEGIN SOLUTION
    points = []
    for step in range(11):
        gone = torch.zeros_like(order, dtype=torch.bool)
        gone.scatter_(1, order[:, : round(step / 10 * order.shape[1])], True)
        points.append(remove(gone).softmax(1).gather(1, target[:, None]).squeeze(1))
    return torch.stack(points, dim=1)
    ### END SOLUTION


# %%
check("A3.deletion", deletion)

# %% nbgrader={"grade_id": "deletion-test", "grade": true, "points": 8}
# 8 points: what the check tests.
### BEGIN HIDDEN TESTS
from tokentm_grader import holds

assert holds("A3.deletion", deletion)
### END HIDDEN TESTS

# %% nbgrader={"grade_id": "deletion-more", "grade": true, "points": 4}
# 4 points: numbers of patches that ten does not divide.
### BEGIN HIDDEN TESTS
from tokentm_grader import holds

assert holds("A3.deletion/more", deletion)
### END HIDDEN TESTS

# %% [markdown]
# The area under a curve (B, points), equally spaced from 0 to 1, straight between its points. A curve that stays at one
# height has that height as its area.


# %% nbgrader={"grade_id": "area", "solution": true}
def area(curve):
    """The area under each curve, (B,)."""
    ### BEGIN SOLUTION
    return (curve[:, 1:] + curve[:, :-1]).mean(1) / 2
    ### END SOLUTION


# %%
check("A3.area", area)

# %% nbgrader={"grade_id": "area-test", "grade": true, "points": 4}
# 4 points: what the check tests.
### BEGIN HIDDEN TESTS
from tokentm_grader import holds

assert holds("A3.area", area)
### END HIDDEN TESTS

# %% nbgrader={"grade_id": "area-more", "grade": true, "points": 2}
# 2 points: other numbers of points.
### BEGIN HIDDEN TESTS
from tokentm_grader import holds

assert holds("A3.area/more", area)
### END HIDDEN TESTS

# %% [markdown]
# ## 3. The same ground for all (12 points)
#
# Write `compare`: for every method, the area under its deletion curve, one number an image. `methods` is a dict name ->
# method; `method(trace).scores` are its scores. Every method reads the same record `trace`, is measured for the class
# that was explained, `trace.target`, by the same `remove`, and draws the same lots. The result is a dict name -> (B,),
# in the same order.


# %% nbgrader={"grade_id": "compare", "solution": true}
def compare(trace, methods, remove):
    """Areas under the deletion curve, name -> (B,). Lower is better."""
    ### BEGIN SOLUTION
    return {
        name: area(deletion(remove, rank(method(trace).scores, seed=0), trace.target))
        for name, method in methods.items()
    }
    ### END SOLUTION


# %%
check("A3.compare", compare)

# %% nbgrader={"grade_id": "compare-test", "grade": true, "points": 8}
# 8 points: what the check tests.
### BEGIN HIDDEN TESTS
from tokentm_grader import holds

assert holds("A3.compare", compare)
### END HIDDEN TESTS

# %% nbgrader={"grade_id": "compare-more", "grade": true, "points": 4}
# 4 points: a real model.
### BEGIN HIDDEN TESTS
from tokentm_grader import holds

assert holds("A3.compare/more", compare)
### END HIDDEN TESTS

# %% [markdown]
# ## 4. What is a difference worth? (22 points)
#
# Pictures differ far more from each other than methods do. So compare method by method *on the same picture*, and ask
# how sure the mean of these differences is. Write `interval`: by the bootstrap, with 2000 draws from a generator with a
# fixed seed, it returns `(mean, low, high)` for differences (pictures,). Low and high enclose the middle `level` of the
# means.


# %% nbgrader={"grade_id": "interval", "solution": true}
def interval(differences, level=0.95):
    """Mean of the differences, and its bootstrap interval: (mean, low, high)."""
    ### BEGIN SOLUTION
    count = len(differences)
    draws = torch.randint(count, (2000, count), generator=torch.Generator().manual_seed(0)).to(differences.device)
    means = differences[draws].mean(1)
    low, high = means.quantile((1 - level) / 2), means.quantile((1 + level) / 2)
    return differences.mean().item(), low.item(), high.item()
    ### END SOLUTION


# %%
check("A3.interval", interval)

# %% nbgrader={"grade_id": "interval-test", "grade": true, "points": 8}
# 8 points: what the check tests.
### BEGIN HIDDEN TESTS
from tokentm_grader import holds

assert holds("A3.interval", interval)
### END HIDDEN TESTS

# %% nbgrader={"grade_id": "interval-more", "grade": true, "points": 4}
# 4 points: skewed differences, another unit, another level.
### BEGIN HIDDEN TESTS
from tokentm_grader import holds

assert holds("A3.interval/more", interval)
### END HIDDEN TESTS

# %% [markdown]
# Whoever compares twenty methods that are all alike finds, at 95 %, one that is "better". Write `verdicts`:
# `differences` is a dict name -> (pictures,), above 0 where the method is better than a fixed other one. The result is
# a dict name -> `"+"`, `"-"` or `"="`, such that among methods that are all alike, *any* verdict but `"="` comes up in
# about one comparison of twenty only, however many methods there are.


# %% nbgrader={"grade_id": "verdicts", "solution": true}
def verdicts(differences):
    """Better, worse or level, for each method; 5 % for all of them together."""
    ### BEGIN SOLUTION
    found = {}
    for name, values in differences.items():
        _, low, high = interval(values, 1 - 0.05 / len(differences))
        found[name] = "+" if low > 0 else "-" if high < 0 else "="
    return found
    ### END SOLUTION


# %%
check("A3.verdicts", verdicts)

# %% nbgrader={"grade_id": "verdicts-test", "grade": true, "points": 6}
# 6 points: what the check tests.
### BEGIN HIDDEN TESTS
from tokentm_grader import holds

assert holds("A3.verdicts", verdicts)
### END HIDDEN TESTS

# %% nbgrader={"grade_id": "verdicts-more", "grade": true, "points": 4}
# 4 points: one method, and a hundred.
### BEGIN HIDDEN TESTS
from tokentm_grader import holds

assert holds("A3.verdicts/more", verdicts)
### END HIDDEN TESTS

# %% [markdown]
# ## 5. Choose here, measure there (7 points)
#
# TokenTM has readings: normaliser, transformed token, and so on. Whoever tries eight of them and reports the best one's
# area has measured luck, too. And a rival that was not tuned had eight tries less. Write `choose`: `validation` and
# `test` are dicts name of reading -> areas (pictures,). Choose by the one, and return the name and its mean area on the
# other.


# %% nbgrader={"grade_id": "choose", "solution": true}
def choose(validation, test):
    """The reading with the lowest mean area on validation, and its mean area on test: (name, area)."""
    ### BEGIN SOLUTION
    name = min(validation, key=lambda one: validation[one].mean().item())
    return name, test[name].mean().item()
    ### END SOLUTION


# %%
check("A3.choose", choose)

# %% nbgrader={"grade_id": "choose-test", "grade": true, "points": 5}
# 5 points: what the check tests.
### BEGIN HIDDEN TESTS
from tokentm_grader import holds

assert holds("A3.choose", choose)
### END HIDDEN TESTS

# %% nbgrader={"grade_id": "choose-more", "grade": true, "points": 2}
# 2 points: other readings.
### BEGIN HIDDEN TESTS
from tokentm_grader import holds

assert holds("A3.choose/more", choose)
### END HIDDEN TESTS

# %% [markdown]
# ## 6. The comparison (30 points)
#
# ### 6.1 Run it (10 points)
#
# Compare TokenTM with at least six other methods of `METHODS`, among them `"random"`, the floor, on at least 12 test
# pictures (`pictures(2000, 12)`). For TokenTM, choose the reading first, among at least three, on other pictures
# (`pictures(1000, 12)`). `Removal(trace)` takes patches away. Print one line a method: mean area, difference to TokenTM
# with its interval, verdict; or draw it. Then state the result in 5 to 8 sentences, for somebody who has not read the
# code. 12 pictures take about half a minute; more make narrower intervals.

# %% nbgrader={"grade_id": "run-experiment", "solution": true}
### BEGIN SOLUTION
NAMES = ("generic_attention", "gradient_rollout", "grad_cam", "rollout", "attention", "random")
readings = {
    "sum": tokentm.TokenTM(),
    "mean": tokentm.TokenTM(normaliser="mean"),
    "stream": tokentm.TokenTM(transformed="stream"),
}
_, tuning = pictures(1000, 12)
scenes, images = pictures(2000, 12)
record, trace = tokentm.record(model, tuning), tokentm.record(model, images)
remove = Removal(trace)
validation = compare(record, readings, Removal(record))
test = compare(trace, readings, remove)
reading, mean_area = choose(validation, test)
print(f"TokenTM with the reading {reading!r}: {mean_area:.3f}")
areas = compare(trace, {name: METHODS[name] for name in NAMES}, remove)
differences = {name: test[reading] - values for name, values in areas.items()}  # above 0: better than TokenTM
found = verdicts(differences)
for name, values in differences.items():
    mean, low, high = interval(values, 1 - 0.05 / len(differences))
    line = f"{name:18s} area {areas[name].mean():.3f}   against TokenTM {mean:+.3f} ({low:+.3f} .. {high:+.3f})"
    print(line, found[name])
### END SOLUTION

# %% [markdown] nbgrader={"grade_id": "run-answer", "grade": true, "solution": true, "points": 10}
# ### BEGIN SOLUTION
# On 12 other pictures the reading with the mean was ahead of two others, so that is the TokenTM that was measured. On
# the 12 test pictures its deletion curve has a mean area of 0.148. Generic attention (0.152) and gradient rollout
# (0.148) are level with it: the intervals of the difference hold 0 and reach to about 0.02 or 0.03, so anything smaller
# cannot be seen with so few pictures. Grad-CAM (0.67), the attention of the last layer (0.29) and random scores (0.91)
# are worse beyond doubt. Rollout is behind by 0.05, but the interval, -0.13 to +0.01, does not exclude that it is
# level. All of this is about this model, scenes of one object, dropped tokens, and the class that the model predicted;
# six comparisons share the 5 %.
#
# ### BEGIN MARK SCHEME
# - 3: chosen on some pictures, reported on others; six methods and the floor on one record.
# - 3: areas, paired differences with intervals, verdicts for all methods together.
# - 2: "level" is not "equally good": what 12 pictures can tell apart is said.
# - 2: the sentences say no more than the numbers: this model, these scenes, this removal.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown]
# ### 6.2 Attack it (12 points)
#
# Change one choice that an honest person could have made otherwise: how patches are removed (`Removal(trace, "zero")`,
# `"mean"`, `"blur"`), which class is explained, how many patches go at a time, which pictures. Does the order of the
# methods change? Does a verdict turn round? What should a benchmark report, then? Before you run it, write down what
# you expect.

# %% nbgrader={"grade_id": "attack-experiment", "solution": true}
### BEGIN SOLUTION
methods = {reading: readings[reading], **{name: METHODS[name] for name in NAMES}}
measured = {
    "drop": {reading: test[reading], **areas},
    "mean": compare(trace, methods, Removal(trace, "mean")),
}
for replace, values in measured.items():
    means = {name: round(one.mean().item(), 3) for name, one in values.items()}
    print(replace, dict(sorted(means.items(), key=lambda item: item[1])))
    print("    against TokenTM:", verdicts({name: values[reading] - values[name] for name in NAMES}))
### END SOLUTION

# %% [markdown] nbgrader={"grade_id": "attack-answer", "grade": true, "solution": true, "points": 12}
# ### BEGIN SOLUTION
# I expected that filling patches with the mean colour, instead of dropping their tokens, would lift all areas and leave
# the order as it is. Neither came out quite so. Most areas fell a little, perhaps because grey squares confuse the
# model more than missing tokens do: it was trained with tokens dropped, and has never seen such squares. The order at
# the top changed: gradient rollout before generic attention before TokenTM, where it had been TokenTM and gradient
# rollout, then generic attention. But these three are level both times, so their changing places says nothing. One
# verdict turned: rollout, level when tokens are dropped, is worse than TokenTM with the mean colour. The gap is nearly
# the same both times (0.05 and 0.04); what changed is its spread from picture to picture. So a benchmark should name
# its removal beside every number, show a second one, and draw no conclusion that only one of them supports.
#
# ### BEGIN MARK SCHEME
# - 2: an expectation with a reason, written before.
# - 3: one choice changed, all else left: same pictures, record, lots.
# - 3: orders and verdicts before and after, compared with the uncertainty in mind: two level methods may change places.
# - 2: a reason why this choice matters: what the model makes of the removed patches.
# - 2: what follows for reporting: more than one removal, or the choice stated with the result.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown]
# ### 6.3 A method that knows the truth (8 points)
#
# The scenes have masks. Let "mask" be a method: its score is the share of each patch that is object. Where does it come
# in your comparison? Suppose that it were not the best: would that be a mistake of the benchmark, of the model, or of
# neither? What does it say about calling a map good because it lies on the object?

# %% nbgrader={"grade_id": "mask-experiment", "solution": true}
### BEGIN SOLUTION
on_object = torch.stack([torch.from_numpy(scene.masks[scene.classes[0]]) for scene in scenes]).to(device)
share = on_object.unflatten(1, (14, 8)).unflatten(3, (14, 8)).float().mean((2, 4)).flatten(1)
explanation = tokentm.Explanation.of(trace, "mask", share)
truth = compare(trace, {"mask": lambda trace: explanation}, remove)["mask"]
print(f"mask {truth.mean():.3f}, TokenTM {test[reading].mean():.3f}")
print("mask minus TokenTM: {:+.3f} ({:+.3f} .. {:+.3f})".format(*interval(truth - test[reading])))
### END SOLUTION

# %% [markdown] nbgrader={"grade_id": "mask-answer", "grade": true, "solution": true, "points": 8}
# ### BEGIN SOLUTION
# The mask has a mean area of 0.150, TokenTM 0.148; the difference is +0.001, between -0.03 and +0.03. So a map that was
# made from the model alone does as well as the truth about where the object is. If the mask came out behind, that would
# be a mistake of neither: deletion asks which patches the *model* needs. It may need a part of the object only, and the
# mask counts all its patches alike, so the first to go are drawn by lot. And a model that has learnt a shortcut needs
# the shortcut: in assignment 2 a map on the object would have been the wrong one. That a map lies on the object makes
# it plausible, which is about us; faithful is a map that says what the model does. On a good model the two mostly
# agree, and that is why one is so easily taken for the other.
#
# ### BEGIN MARK SCHEME
# - 3: the mask measured on the same ground, with its interval.
# - 3: neither: deletion asks what the model needs, the mask says where the object is. A model may need a part of it, or
#   something beside it.
# - 2: plausible is not faithful: assignment 2 has a map that rightly lies beside the object.
# ### END MARK SCHEME
# ### END SOLUTION
