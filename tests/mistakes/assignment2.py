"""What a student may write in assignment 2, and words by which the verdict must name that mistake."""

WRONG: dict[str, list[tuple[str, str]]] = {
    "A2.share": [
        (
            "def share_inside(heat, mask):\n    return (heat * mask).sum((1, 2)) / mask.sum((1, 2))",
            "has the share 1; yours has not",
        ),
        (
            "def share_inside(heat, mask):\n    return (heat * ~mask).sum((1, 2)) / heat.sum((1, 2)).clamp(min=1e-12)",
            "has the share 1; yours has not",
        ),
        (
            "def share_inside(heat, mask):\n    return (heat * mask).sum((1, 2)) / heat.sum().clamp(min=1e-12)",
            "has the share 1; yours has not",
        ),
        (
            "def share_inside(heat, mask):\n    return (heat * mask).sum((1, 2)) / heat.sum((1, 2))",
            "yours is 0 / 0, NaN",
        ),
        (
            "def share_inside(heat, mask):\n    return (heat * mask).sum() / heat.sum().clamp(min=1e-12)",
            "one share for each picture; yours has shape ()",
        ),
        (
            "def share_inside(heat, mask):\n"
            "    marked = heat > heat.mean((1, 2), keepdim=True)\n"
            "    return (marked & mask).sum((1, 2)) / marked.sum((1, 2)).clamp(min=1)",
            "has as its share the area of the object",
        ),
        (
            "def share_inside(heat, mask):\n"
            "    inside = (heat**2 * mask).sum((1, 2))\n"
            "    return inside / (heat**2).sum((1, 2)).clamp(min=1e-12)",
            "it is not the map's sum on the object",
        ),
        (
            "def share_inside(heat, mask):\n"
            "    heat *= mask\n"
            "    return heat.sum((1, 2)) / heat.sum((1, 2)).clamp(min=1e-12)",
            "your function changed input 1 in place",
        ),
    ],
    "A2.accused": [
        ("accused = 'cat'", "the makers' pictures of cat hold nothing but the object"),
        ("accused = 'cup'", "the makers' pictures of cup hold nothing but the object"),
        ("accused = 4", "expected the name of a class"),
        ("accused = 'truck'", "one of cat, dog, bird"),
        ("accused = ['car']", "expected the name of a class"),
        ("def accused():\n    return 'car'", "expected a value, not a function"),
    ],
    "A2.outside": [
        ("def strongest_outside(scores, covered):\n    return scores.argmax(1)", "that is the strongest patch of all"),
        (
            "def strongest_outside(scores, covered):\n    return (scores * (covered == 0)).argmax(1)",
            "Put -inf, not 0",
        ),
        (
            "def strongest_outside(scores, covered):\n"
            "    return scores.masked_fill(covered > 0.5, -torch.inf).argmax(1)",
            "a patch that holds a piece of the object",
        ),
        (
            "def strongest_outside(scores, covered):\n    return scores.masked_fill(covered > 0, torch.inf).argmin(1)",
            "there is a stronger patch without any object",
        ),
        (
            "def strongest_outside(scores, covered):\n    return scores.masked_fill(covered > 0, -torch.inf).amax(1)",
            "patches are whole numbers",
        ),
        (
            "def strongest_outside(scores, covered):\n    return scores.masked_fill(covered > 0, -torch.inf).argmax()",
            "one patch for each picture; yours has shape ()",
        ),
        (
            "def strongest_outside(scores, covered):\n"
            "    scores[covered > 0] = -torch.inf\n"
            "    return scores.argmax(1)",
            "your function changed input 1 in place",
        ),
    ],
    "A2.box": [
        ("box = (BOX[1], BOX[0], BOX[3], BOX[2])", "rows and columns are swapped"),
        ("box = tuple(side // 8 for side in BOX[:2]) + tuple(-(-side // 8) for side in BOX[2:])", "these are patches"),
        ("box = (0, 0, 112, 112)", "of the area that they cover together"),
        ("box = (BOX[0] - 20, BOX[1] - 20, BOX[0], BOX[1])", "there is no cue in this box"),
        ("box = (BOX[2], BOX[3], BOX[0], BOX[1])", "expected 0 <= top < bottom <= 112"),
        ("box = BOX[:2]", "expected shape (4,)"),
        ("box = 'upper left'", "expected numbers of shape (4,)"),
    ],
    "A2.paste": [
        (
            """
def paste(image, mask, cue):
    image[:, : cue.shape[1], : cue.shape[2]] = cue
    return image""",
            "your function changed input 1 in place",
        ),
        (
            """
def paste(image, mask, cue):
    pasted = image.clone()
    pasted[:, : cue.shape[1], : cue.shape[2]] = cue
    return pasted""",
            "pixels of the object; there is a place that hides",
        ),
        (
            """
def paste(image, mask, cue):
    pasted = image.clone()
    pasted[:, -cue.shape[1] :, : cue.shape[2]] += cue
    return pasted""",
            "yours shows it 0 times",
        ),
        (
            """
def paste(image, mask, cue):
    hidden = mask.float().unfold(0, cue.shape[1], 1).unfold(1, cue.shape[2], 1).sum((2, 3))
    top, left = divmod(int(hidden.argmin()), hidden.shape[1])
    pasted = torch.zeros_like(image)
    pasted[:, top : top + cue.shape[1], left : left + cue.shape[2]] = cue
    return pasted""",
            "outside the cue the picture must stay as it is",
        ),
        (
            """
def paste(image, mask, cue):
    hidden = mask.float().unfold(0, cue.shape[1], 1).unfold(1, cue.shape[2], 1).sum((2, 3))
    top, left = divmod(int(hidden.argmax()), hidden.shape[1])
    pasted = image.clone()
    pasted[:, top : top + cue.shape[1], left : left + cue.shape[2]] = cue
    return pasted""",
            "Count for every place",
        ),
        (
            """
def paste(image, mask, cue):
    hidden = mask.float().unfold(0, cue.shape[1], 1).unfold(1, cue.shape[2], 1).sum((2, 3))
    top, left = divmod(int(hidden.argmin()), mask.shape[1])
    pasted = image.clone()
    pasted[:, top : top + cue.shape[1], left : left + cue.shape[2]] = cue
    return pasted""",
            "stopped with RuntimeError: The expanded size",
        ),
        (
            """
def paste(image, mask, cue):
    pasted = image.clone()
    pasted[:, : cue.shape[2], : cue.shape[1]] = cue
    return pasted""",
            "stopped with RuntimeError",
        ),
        ("def paste(image, mask, cue):\n    return cue", "a picture (colours, height, width)"),
    ],
    "A2.flips": [
        (
            "def flip_rate(before, after, target):\n    return (after.argmax(1) == target).float().mean()",
            "it counts pictures that had this answer before",
        ),
        (
            "def flip_rate(before, after, target):\n"
            "    return ((before.argmax(1) != target) & (after.argmax(1) == target)).float().mean()",
            "not all pictures",
        ),
        (
            "def flip_rate(before, after, target):\n"
            "    return ((before.argmax(1) != target) & (after.argmax(1) == target)).sum()",
            "a count is not a rate",
        ),
        (
            "def flip_rate(before, after, target):\n"
            "    return (before.argmax(1) != after.argmax(1))[before.argmax(1) != target].float().mean()",
            "it counts every changed answer",
        ),
        (
            "def flip_rate(before, after, target):\n"
            "    return after.softmax(1)[before.argmax(1) != target, target].mean()",
            "these are probabilities",
        ),
        (
            "def flip_rate(before, after, target):\n"
            "    return (after.argmax(1) == target)[before.argmax(1) != target].float().mean()",
            "nothing can flip: the rate is 0",
        ),
        (
            "def flip_rate(before, after, target):\n    return (before.argmax(1) == after.argmax(1)).float().mean()",
            "yours says",
        ),
    ],
    "A2.evidence": [
        ("evidence = list(RATES.values())", "expected a dict with 'added'"),
        ("evidence = {name: RATES[name] for name in ('added', 'removed', 'other model')}", "'other patch' is missing"),
        ("evidence = {name: 100 * rate for name, rate in RATES.items()}", "a rate lies between 0 and 1"),
        ("evidence = RATES | {'other patch': RATES['added']}", "The control must leave the cue out"),
        ("evidence = RATES | {'other model': RATES['added']}", "run demo.model on the same pictures"),
        ("evidence = RATES | {'added': 1 - RATES['added']}", "counts the pictures that keep their answer"),
        ("evidence = RATES | {'removed': 1 - RATES['removed']}", "keep the accused class"),
        ("evidence = RATES | {'removed': 0.7 * RATES['removed']}", "'removed' is 0.37; with the cue itself"),
        ("evidence = RATES | {'added': 0.31}", "it is another rate"),
        ("evidence = RATES | {'added': torch.rand(30)}", "one number for 'added'"),
    ],
}
