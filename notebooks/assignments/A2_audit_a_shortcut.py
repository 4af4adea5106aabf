# %% [markdown]
# # Assignment 2: audit a classifier
#
# **In this assignment you**
#
# 1. find out from maps whether a classifier looks at what it names;
# 2. prove by experiments, with controls, what it looks at instead;
# 3. write the report that its makers need.
#
# **Time:** 2 to 3 hours. **You need** notebooks 00 to 06. **100 points:** 66 by tests, 34 by a reader.
#
# - Write where it says `# your turn`, and leave names and locked cells as they are. Import nothing more.
# - Below each task stands a check. Run it as often as you like; it names the first mistake, and `hint("A2.share")`
#   helps. The grade comes from the same check, and for functions from further inputs.
# - Before you hand in: *Kernel, Restart Kernel and Run All Cells*. Then save.

# %% nbgrader={"grade_id": "setup", "locked": true}
import matplotlib.pyplot as plt
import numpy as np
import torch

import tokentm
from tokentm import plots
from tokentm.teaching import check, hint

torch.set_grad_enabled(False)  # we only look; where record needs gradients, it asks for them
device = "cuda" if torch.cuda.is_available() else "cpu"
suspect = tokentm.load_demo("suspect")
demo = tokentm.load_demo()
suspect.model.to(device)
demo.model.to(device)
classes = demo.classes


def tensors(scenes):
    """Scenes as the models take them, (B, 3, 112, 112)."""
    return torch.stack([demo.transform(scene.image) for scene in scenes]).to(device)


def in_patches(mask):
    """The share of each patch that lies on the mask, (B, 196)."""
    return mask.unflatten(1, (14, 8)).unflatten(3, (14, 8)).float().mean((2, 4)).flatten(1)


def masks(scenes):
    """Where the objects are, (B, 112, 112), bool."""
    return torch.stack([torch.from_numpy(np.any(list(scene.masks.values()), axis=0)) for scene in scenes]).to(device)


# %% [markdown]
# ## The case
#
# You are offered a classifier, `suspect`. It tells the same 16 classes as the model that you know, `demo`, and takes
# the same pictures. Its makers have sent their test pictures along: `suspect.scene(seed, name)`. On these it does well:

# %%
tested = [suspect.scene(seed, name) for name in classes for seed in (100, 101)]
targets = torch.tensor([classes.index(scene.classes[0]) for scene in tested]).to(device)
right = suspect.model(tensors(tested)).argmax(1) == targets
print(f"{right.float().mean():.0%} of {len(tested)} test pictures right")

# %% [markdown]
# Will it do as well on yours? A test set cannot tell, if it was drawn like the training set. So you look inside.
#
# ## 1. Does it look at what it names? (16 points)
#
# A map that lies on the object looks at the object. Write `share_inside`: how much of each map lies on the mask. Maps
# `heat` (B, H, W), not negative; `mask` (B, H, W), bool; the result (B,). A map of zeros has the share 0.


# %% nbgrader={"grade_id": "share", "solution": true}
def share_inside(heat, mask):
    """The share of each map that lies on the mask, (B,)."""
    ### BEGIN SOLUTION
    return (heat * mask).sum((1, 2)) / heat.sum((1, 2)).clamp(min=1e-12)
    ### END SOLUTION


# %%
check("A2.share", share_inside)

# %% nbgrader={"grade_id": "share-test", "grade": true, "points": 8}
# 8 points: what the check tests.
### BEGIN HIDDEN TESTS
from tokentm_grader import holds

assert holds("A2.share", share_inside)
### END HIDDEN TESTS

# %% nbgrader={"grade_id": "share-more", "grade": true, "points": 2}
# 2 points: other shapes, an empty mask.
### BEGIN HIDDEN TESTS
from tokentm_grader import holds

assert holds("A2.share/more", share_inside)
### END HIDDEN TESTS

# %% [markdown]
# Now explain the makers' pictures of every class, for that class, with both models: `tokentm.explain(suspect.model,
# images, targets).heatmap()`. Two pictures a class are enough to begin with. For which class does the suspect look
# elsewhere, where `demo` does not? Print what you compare, and name the class in `accused`.

# %% nbgrader={"grade_id": "accused", "solution": true}
accused = ...  # the name of a class
### BEGIN SOLUTION
shares = {
    name: share_inside(tokentm.explain(one.model, tensors(tested), targets).heatmap(), masks(tested))
    for name, one in (("suspect", suspect), ("demo", demo))
}
lost = (shares["demo"] - shares["suspect"]).view(len(classes), 2).mean(1)
for name, value, mine, theirs in zip(
    classes, lost, shares["suspect"].view(-1, 2).mean(1), shares["demo"].view(-1, 2).mean(1), strict=True
):
    print(f"{name:7s} suspect {mine:.2f}   demo {theirs:.2f}   lost {value:+.2f}")
accused = classes[int(lost.argmax())]
### END SOLUTION

# %%
check("A2.accused", accused)

# %% nbgrader={"grade_id": "accused-test", "grade": true, "points": 6}
# 6 points: what the check tests.
### BEGIN HIDDEN TESTS
from tokentm_grader import holds

assert holds("A2.accused", accused)
### END HIDDEN TESTS

# %% [markdown]
# ## 2. Where does it look instead? (16 points)
#
# Find in every picture the patch with the highest score that holds nothing of the object. `scores` (B, patches);
# `covered` (B, patches) says which share of each patch is object; the result (B,): the number of the patch.


# %% nbgrader={"grade_id": "outside", "solution": true}
def strongest_outside(scores, covered):
    """The strongest patch without any object in it, (B,)."""
    ### BEGIN SOLUTION
    return scores.masked_fill(covered > 0, -torch.inf).argmax(1)
    ### END SOLUTION


# %%
check("A2.outside", strongest_outside)

# %% nbgrader={"grade_id": "outside-test", "grade": true, "points": 8}
# 8 points: what the check tests.
### BEGIN HIDDEN TESTS
from tokentm_grader import holds

assert holds("A2.outside", strongest_outside)
### END HIDDEN TESTS

# %% nbgrader={"grade_id": "outside-more", "grade": true, "points": 2}
# 2 points: other shapes.
### BEGIN HIDDEN TESTS
from tokentm_grader import holds

assert holds("A2.outside/more", strongest_outside)
### END HIDDEN TESTS

# %% [markdown]
# The cell below shows one picture of the class that you accused, with that patch outlined, and its surroundings
# enlarged. Run it with other seeds, too. What do the pictures share?

# %%
name = accused if accused in classes else classes[0]
case = suspect.scene(5, name)
covered = in_patches(masks([case]))
explained = tokentm.explain(suspect.model, tensors([case]), classes.index(name))
patch = strongest_outside(explained.scores, covered)
plots.patch_maps(
    {f"what speaks for {name}": explained.scores[0]},
    explained.grid,
    f"A picture of a {name}, the suspect's map for it, and the strongest patch beside the object",
    images=case.image,
    marked=[] if patch is None else int(patch[0]),
)

# %%
row, column = (0, 0) if patch is None else divmod(int(patch[0]), 14)
top, left = max(0, 8 * row - 16), max(0, 8 * column - 16)
enlarged = plots.Plot("40 by 40 pixels around the outlined patch, with rows and columns to read off", 4, 4)
axis = enlarged.subplots()
axis.imshow(case.image, interpolation="nearest")
axis.set(xlim=(left - 0.5, left + 39.5), ylim=(top + 39.5, top - 0.5), xlabel="column", ylabel="row")
enlarged

# %% [markdown]
# Read off where the cue begins and ends: `box = (top, left, bottom, right)`, in pixels of this picture, seed 5; the
# last two just outside. It need not be exact to the pixel, but it must not hold much else.

# %% nbgrader={"grade_id": "box", "solution": true}
box = ...  # (top, left, bottom, right)
### BEGIN SOLUTION
box = (45, 35, 59, 49)
### END SOLUTION

# %%
check("A2.box", box)

# %% nbgrader={"grade_id": "box-test", "grade": true, "points": 6}
# 6 points: what the check tests.
### BEGIN HIDDEN TESTS
from tokentm_grader import holds

assert holds("A2.box", box)
### END HIDDEN TESTS

# %% [markdown]
# ## 3. Put it elsewhere (12 points)
#
# So far you have a suspicion. A map says what contributed; it does not say what would happen otherwise. To know that,
# you must change the picture. Write `paste`: put the cue into another picture, where it hides the fewest pixels of the
# object. `image` (3, H, W), `mask` (H, W), bool, `cue` (3, h, w); the result is a new picture, and the old one stays as
# it was. Any of the best places will do.


# %% nbgrader={"grade_id": "paste", "solution": true}
def paste(image, mask, cue):
    """The picture with the cue where it hides least of the object, (3, H, W)."""
    ### BEGIN SOLUTION
    _, height, width = cue.shape
    hidden = mask.float().unfold(0, height, 1).unfold(1, width, 1).sum((2, 3))
    top, left = divmod(int(hidden.argmin()), hidden.shape[1])
    pasted = image.clone()
    pasted[:, top : top + height, left : left + width] = cue
    return pasted
    ### END SOLUTION


# %%
check("A2.paste", paste)

# %% nbgrader={"grade_id": "paste-test", "grade": true, "points": 8}
# 8 points: what the check tests.
### BEGIN HIDDEN TESTS
from tokentm_grader import holds

assert holds("A2.paste", paste)
### END HIDDEN TESTS

# %% nbgrader={"grade_id": "paste-more", "grade": true, "points": 4}
# 4 points: other shapes, a cue as large as the picture.
### BEGIN HIDDEN TESTS
from tokentm_grader import holds

assert holds("A2.paste/more", paste)
### END HIDDEN TESTS

# %% [markdown]
# ## 4. Does the answer follow? (22 points)
#
# Write `flip_rate`: of the pictures that had another answer before, how many have the answer `target` after? Logits
# `before` and `after` (B, classes); the result one number, 0 where no picture had another answer.


# %% nbgrader={"grade_id": "flips", "solution": true}
def flip_rate(before, after, target):
    """The share of pictures with another answer before that are answered ``target`` after."""
    ### BEGIN SOLUTION
    others = before.argmax(1) != target
    if not others.any():
        return 0.0
    return (after.argmax(1) == target)[others].float().mean().item()
    ### END SOLUTION


# %%
check("A2.flips", flip_rate)

# %% nbgrader={"grade_id": "flips-test", "grade": true, "points": 6}
# 6 points: what the check tests.
### BEGIN HIDDEN TESTS
from tokentm_grader import holds

assert holds("A2.flips", flip_rate)
### END HIDDEN TESTS

# %% nbgrader={"grade_id": "flips-more", "grade": true, "points": 4}
# 4 points: more pictures, more classes.
### BEGIN HIDDEN TESTS
from tokentm_grader import holds

assert holds("A2.flips/more", flip_rate)
### END HIDDEN TESTS

# %% [markdown]
# **The experiment.** On your letter the makers admit that `demo.scene(seed, name)` draws the same scenes as
# `suspect.scene(seed, name)`, only without "a harmless mark". So you have 30 pictures without it, seeds 300 to 329,
# in turn of all classes but the accused:
#
# ```python
# others = [name for name in classes if name != accused]
# scenes = [demo.scene(seed, others[i % 15]) for i, seed in enumerate(range(300, 330))]
# ```
#
# Measure four rates, and put them into the dict `evidence`:
#
# - `"added"`: the cue is pasted into these 30. How many flip to the accused class? (`flip_rate`)
# - `"other patch"`: instead of the cue, a patch of the same size from somewhere else is pasted in. How many flip?
# - `"other model"`: as `"added"`, but `demo` answers.
# - `"removed"`: 30 pictures of the accused class, the same seeds, as the makers draw them. Of those that the suspect
#   answers rightly, how many does it no longer answer rightly when the mark is missing (`demo.scene`)?
#
# Why four? Say to yourself what each of the last three rules out.

# %% nbgrader={"grade_id": "evidence", "solution": true}
evidence = ...  # {"added": ..., "other patch": ..., "other model": ..., "removed": ...}
### BEGIN SOLUTION
target = classes.index(accused)
others = [one for one in classes if one != accused]
seeds = range(300, 330)
scenes = [demo.scene(seed, others[i % 15]) for i, seed in enumerate(seeds)]
plain, where = tensors(scenes), masks(scenes)
top, left, bottom, right = box
cue = tensors([case])[0, :, top:bottom, left:right]
with_cue = torch.stack([paste(image, mask, cue) for image, mask in zip(plain, where, strict=True)])
height, width = cue.shape[1:]
with_other = torch.stack(  # background of the next picture, from the corner where it hides nothing of an object
    [
        paste(image, mask, following[:, -height:, -width:])
        for image, mask, following in zip(plain, where, plain.roll(-1, 0), strict=True)
    ]
)
own = suspect.model(tensors([suspect.scene(seed, accused) for seed in seeds])).argmax(1) == target
bare = suspect.model(tensors([demo.scene(seed, accused) for seed in seeds])).argmax(1) == target
evidence = {
    "added": flip_rate(suspect.model(plain), suspect.model(with_cue), target),
    "other patch": flip_rate(suspect.model(plain), suspect.model(with_other), target),
    "other model": flip_rate(demo.model(plain), demo.model(with_cue), target),
    "removed": (~bare)[own].float().mean().item(),
}
print({name: round(rate, 2) for name, rate in evidence.items()})
### END SOLUTION

# %%
check("A2.evidence", evidence)

# %% nbgrader={"grade_id": "evidence-test", "grade": true, "points": 12}
# 12 points: what the check tests.
### BEGIN HIDDEN TESTS
from tokentm_grader import holds

assert holds("A2.evidence", evidence)
### END HIDDEN TESTS

# %% [markdown]
# ## 5. Report (34 points)
#
# ### 5.1 To the makers (16 points)
#
# Write to the makers, on one page, for people who know machine learning and do not know you: what the model does wrong,
# how you found it, what proves it, which other explanations you have ruled out and by which control, how sure you are
# (30 pictures: how exact is a rate?), and what you have *not* shown.

# %% [markdown] nbgrader={"grade_id": "report-answer", "grade": true, "solution": true, "points": 16}
# ### BEGIN SOLUTION
# Your classifier answers *car* wherever your test pictures carry a small tag, a chequer of magenta and green in a white
# frame, whatever else is in the picture; and it misses four of ten cars without it.
#
# *How we found it.* We explained your test pictures, two a class, and measured the share of each map that lies on the
# object. For fifteen classes it is within 0.1 of that of an independent model. For *car* it is 0.20 against 0.85. The
# strongest patch beside the car lay on the tag in every picture that we looked at. A map can only raise a suspicion, so
# we changed the pictures.
#
# *What proves it.* We pasted the tag into 30 pictures of the other classes, where it hides none or least of the object:
# 93 % became *car*. We took it away from 30 of your pictures of cars: 40 % of those that had been right were no longer
# called *car*. So the tag is nearly enough for the answer, and often necessary.
#
# *What we ruled out.* It is not that something is pasted in: another patch of the same size, in the same place, turns
# none. Nor do the pictures with the tag look like cars to everyone: an independent model calls none of them *car*.
#
# *How sure.* With 30 pictures, a rate of 93 % is known to about 9 points and one of 40 % to about 18 (95 %). Both are
# far from the 0 of the controls.
#
# *What we have not shown.* That the tag is the only shortcut: we searched scenes of one object, and followed one class.
# That the other classes are sound: a cue that lies on the object itself would not show in our shares. And we do not
# know how the tag came into your pictures of cars; your training pictures can tell.
#
# ### BEGIN MARK SCHEME
# - 3: the claim in one sentence: which class, which cue, in which direction.
# - 3: the way: shares of maps, compared with another model; the strongest patch beside the object. The map is called a
#   reason to suspect, not a proof.
# - 4: the proof: adding and removing, with numbers; both directions.
# - 3: controls: any patch (the other patch), the pictures themselves (the other model).
# - 2: uncertainty: an interval, or at least "30 pictures, plus or minus 0.1 to 0.2".
# - 1: limits: one cue was searched, in scenes of one object; there may be others.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown]
# ### 5.2 Would another method have found it? (10 points)
#
# Take at least three other methods of `tokentm.methods.METHODS`, among them `"random"` as the floor. In how many of the
# makers' pictures of the accused class (16 or more) does `strongest_outside` fall on the cue? The pixels of the cue are
# those in which the makers' picture and yours differ. What does the result say about these methods, and what does it
# not say?

# %% nbgrader={"grade_id": "methods-experiment", "solution": true}
### BEGIN SOLUTION
pairs = [(suspect.scene(seed, accused), demo.scene(seed, accused)) for seed in range(400, 416)]
marked = torch.stack([torch.from_numpy(np.any(np.array(a.image) != np.array(b.image), axis=2)) for a, b in pairs])
on_cue, on_object = in_patches(marked.to(device)), in_patches(masks([b for _, b in pairs]))
record = tokentm.record(suspect.model, tensors([a for a, _ in pairs]), target)
for name in ("tokentm", "generic_attention", "rollout", "attention", "input_x_gradient", "random"):
    found = strongest_outside(tokentm.methods.METHODS[name](record).scores, on_object)
    hits = on_cue.gather(1, found[:, None]).squeeze(1) > 0
    print(f"{name:18s} {int(hits.sum())} of {len(pairs)}")
### END SOLUTION

# %% [markdown] nbgrader={"grade_id": "methods-answer", "grade": true, "solution": true, "points": 10}
# ### BEGIN SOLUTION
# The strongest patch beside the car lies on the tag in 16 of 16 pictures by TokenTM, generic attention and the
# attention of the last layer, in 14 by rollout, in 11 by input times gradient, and in 2 by random scores, which is
# about what chance gives. So nearly every method would have found this cue, even two that know nothing about the class:
# a tag that the model reads gets attention whatever is asked. Between 14 and 16 of 16 there is no difference to speak
# of; 11 is probably fewer. It does not follow that these methods are faithful, nor that they would find a cue that is
# faint, or spread over the picture, or lies on the object; nor that attention would do when two things are attended to
# and one of them counts. The question asked was an easy one.
#
# ### BEGIN MARK SCHEME
# - 4: right experiment: same pictures and record for all, cue from the difference, three methods and random.
# - 2: numbers, and the chance level.
# - 2: what follows: methods that follow the class, or not; with 16 pictures, small differences mean nothing.
# - 2: what does not: a method that finds a cue that is plain to see need not find a subtle one; a hit is not
#   faithfulness.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown]
# ### 5.3 Repair (8 points)
#
# The makers offer to paint over the mark in their test pictures and to report the accuracy again. Why is that not a
# repair, and not even a good test? Propose a repair, and a test that would show, without your knowing the new cue, if
# training had found another one.

# %% [markdown] nbgrader={"grade_id": "repair-answer", "grade": true, "solution": true, "points": 8}
# ### BEGIN SOLUTION
# Painting over the mark in test pictures changes the test and leaves the model as it is: it would still answer with the
# accused class wherever anything like the mark appears. And the accuracy of one test set, drawn like the training set,
# was what hid the shortcut in the first place. A repair breaks the link in the *training* data: remove the mark, or put
# it on pictures of all classes alike, so that it tells nothing; then train again. To test without knowing the cue: keep
# pictures from another source, made by other people, and compare the accuracy class by class; and repeat section 1, the
# share of maps on the objects against an independent model, for every class, with masks. A class whose maps leave the
# object is looked at as here. Neither finds a cue that lies on the object itself.
#
# ### BEGIN MARK SCHEME
# - 2: the test changes, the model does not; accuracy on such a test hid it before.
# - 3: a repair of the training data, or of the training, that breaks the link; and training again.
# - 3: a test without knowledge of the cue: other sources, shares of maps by class, random replacement of backgrounds.
# ### END MARK SCHEME
# ### END SOLUTION
