"""What a student may write in assignment 3, and words by which the verdict must name that mistake."""

WRONG: dict[str, list[tuple[str, str]]] = {
    "A3.rank": [
        (
            "def rank(scores, seed=0):\n    return scores.argsort(1)",
            "it begins with the least relevant patch",
        ),
        (
            "def rank(scores, seed=0):\n    return scores.argsort(1, descending=True).argsort(1)",
            "One argsort, not two",
        ),
        (
            "def rank(scores, seed=0):\n    return scores.sort(1, descending=True).values",
            "not their scores",
        ),
        (
            "def rank(scores, seed=0):\n    return scores.argsort(dim=1, descending=True, stable=True)",
            "Shuffle the patches before you sort",
        ),
        (
            "def rank(scores, seed=0):\n"
            "    noise = torch.rand(scores.shape, generator=torch.Generator().manual_seed(seed))\n"
            "    return (scores + 1e-5 * noise).argsort(1, descending=True)",
            "add no noise to the scores",
        ),
        (
            "def rank(scores, seed=0):\n"
            "    lots = torch.randperm(scores.shape[1])\n"
            "    return lots[scores[:, lots].argsort(dim=1, descending=True, stable=True)]",
            "yours differs from call to call",
        ),
        (
            "def rank(scores, seed=0):\n"
            "    lots = torch.randperm(scores.shape[1], generator=torch.Generator().manual_seed(seed))\n"
            "    return scores[:, lots].argsort(dim=1, descending=True, stable=True)",
            "the scores of each image must fall",
        ),
        (
            "def rank(scores, seed=0):\n"
            "    order = scores.argsort(dim=1, descending=True, stable=True)\n"
            "    back = scores.flip(1).argsort(dim=1, descending=True, stable=True)\n"
            "    return order if seed % 3 else scores.shape[1] - 1 - back",
            "some patches come earlier",
        ),
    ],
    "A3.deletion": [
        (
            """
def deletion(remove, order, target):
    points = []
    for step in range(11):
        gone = torch.zeros_like(order, dtype=torch.bool)
        gone.scatter_(1, order[:, : round(step / 10 * order.shape[1])], True)
        points.append(remove(gone).gather(1, target[:, None]).squeeze(1))
    return torch.stack(points, dim=1)""",
            "these are logits",
        ),
        (
            """
def deletion(remove, order, target):
    points = []
    for step in range(11):
        gone = torch.ones_like(order, dtype=torch.bool)
        gone.scatter_(1, order[:, : round(step / 10 * order.shape[1])], False)
        points.append(remove(gone).softmax(1).gather(1, target[:, None]).squeeze(1))
    return torch.stack(points, dim=1)""",
            "it puts patches back",
        ),
        (
            """
def deletion(remove, order, target):
    points = []
    for step in range(11):
        gone = torch.zeros_like(order, dtype=torch.bool)
        first, last = (round(part / 10 * order.shape[1]) for part in (step - 1, step))
        gone.scatter_(1, order[:, max(first, 0) : last], True)
        points.append(remove(gone).softmax(1).gather(1, target[:, None]).squeeze(1))
    points[-1] = remove(torch.ones_like(gone)).softmax(1).gather(1, target[:, None]).squeeze(1)
    return torch.stack(points, dim=1)""",
            "the first 30 % of the order are gone",
        ),
        (
            """
def deletion(remove, order, target):
    points = []
    for step in range(1, 12):
        gone = torch.zeros_like(order, dtype=torch.bool)
        gone.scatter_(1, order[:, : round(step / 11 * order.shape[1])], True)
        points.append(remove(gone).softmax(1).gather(1, target[:, None]).squeeze(1))
    return torch.stack(points, dim=1)""",
            "the first point is the target's probability for the whole picture",
        ),
        (
            """
def deletion(remove, order, target):
    points = []
    for step in range(11):
        gone = torch.zeros_like(order, dtype=torch.bool)
        gone.scatter_(1, order[:, : round(step / 12 * order.shape[1])], True)
        points.append(remove(gone).softmax(1).gather(1, target[:, None]).squeeze(1))
    return torch.stack(points, dim=1)""",
            "at the last point every patch is gone",
        ),
        (
            """
def deletion(remove, order, target):
    points = []
    for step in range(11):
        gone = torch.zeros_like(order, dtype=torch.bool)
        gone[:, order[0, : round(step / 10 * order.shape[1])]] = True
        points.append(remove(gone).softmax(1).gather(1, target[:, None]).squeeze(1))
    return torch.stack(points, dim=1)""",
            "each image's own order",
        ),
        (
            """
def deletion(remove, order, target):
    points = []
    for step in range(11):
        gone = torch.zeros_like(order, dtype=torch.bool)
        gone.scatter_(1, order.flip(1)[:, : round(step / 10 * order.shape[1])], True)
        points.append(remove(gone).softmax(1).gather(1, target[:, None]).squeeze(1))
    return torch.stack(points, dim=1)""",
            "what is gone must be the first patches",
        ),
        (
            """
def deletion(remove, order, target):
    points = []
    for step in range(11):
        gone = torch.zeros_like(order, dtype=torch.bool)
        gone.scatter_(1, order[:, : round(step / 10 * order.shape[1])], True)
        points.append(remove(gone).softmax(1)[:, target[0]])
    return torch.stack(points, dim=1)""",
            "each image has a target of its own",
        ),
        (
            """
from tokentm.evaluation.perturbation import curves
def deletion(remove, order, target):
    return curves(remove, order, target).log_probability.exp()""",
            "it calls tokentm.evaluation.perturbation.curves",
        ),
    ],
    "A3.area": [
        ("def area(curve):\n    return torch.trapezoid(curve, dim=1)", "Divide by the number of steps"),
        ("def area(curve):\n    return curve.sum(1)", "a curve that stays at 0.25 has the area 0.25"),
        ("def area(curve):\n    return curve.mean(1)", "trapezoids, not a mean"),
        ("def area(curve):\n    return curve[:, :-1].mean(1)", "the first and the last point count half"),
        ("def area(curve):\n    return curve[:, 1:].mean(1)", "the area of 1, 0, 0, 0, 0 is 0.125"),
        ("def area(curve):\n    return curve.mean()", "one area for each image; yours has shape ()"),
        ("def area(curve):\n    return (curve[:, 0] + curve[:, -1]) / 2", "the area of 1, 0, 0, 0, 0 is 0.125"),
    ],
    "A3.compare": [
        (
            """
def compare(trace, methods, remove):
    return {name: area(deletion(remove, rank(-method(trace).scores), trace.target)) for name, method in methods.items()}
""",
            "taking away first what gives most must leave least",
        ),
        (
            """
def compare(trace, methods, remove):
    return {
        name: area(deletion(remove, rank(method(trace).scores, seed), trace.target))
        for seed, (name, method) in enumerate(methods.items())
    }""",
            "give ties the same seed for every method",
        ),
        (
            """
def compare(trace, methods, remove):
    return {name: deletion(remove, rank(method(trace).scores), trace.target) for name, method in methods.items()}""",
            "one area for each image, for 'true'; yours has shape (4, 11)",
        ),
        (
            """
def compare(trace, methods, remove):
    return {
        name: area(deletion(remove, rank(method(trace).scores), trace.target)).mean()
        for name, method in methods.items()
    }""",
            "one area for each image",
        ),
        (
            """
def compare(trace, methods, remove):
    found = {}
    for name, method in methods.items():
        again = tokentm.record(trace.anatomy.model, trace.images, trace.target)
        found[name] = area(deletion(remove, rank(method(again).scores), trace.target))
    return found""",
            "the very trace that was given",
        ),
        (
            """
def compare(trace, methods, remove):
    target = torch.zeros(len(trace.images), dtype=torch.long)
    return {name: area(deletion(remove, rank(method(trace).scores), target)) for name, method in methods.items()}""",
            "Is it the explained class that you measure",
        ),
        (
            """
def compare(trace, methods, remove):
    return [area(deletion(remove, rank(method(trace).scores), trace.target)) for method in methods.values()]""",
            "expected a dict with the methods' names",
        ),
        (
            """
def compare(trace, methods, remove):
    whole = remove(torch.zeros(len(trace.images), 6, dtype=torch.bool)).softmax(1).gather(1, trace.target[:, None])
    return {
        name: area(deletion(remove, rank(method(trace).scores), trace.target) / whole)
        for name, method in methods.items()
    }""",
            "it is not the area under the deletion curve of the explained class",
        ),
        (
            """
from tokentm.evaluation import perturbation
def compare(trace, methods, remove):
    return {n: perturbation(remove, m(trace).scores, trace.target).deletion for n, m in methods.items()}""",
            "it calls tokentm.evaluation.perturbation.perturbation",
        ),
    ],
    "A3.interval": [
        (
            """
def interval(differences, level=0.95):
    low, high = differences.quantile((1 - level) / 2), differences.quantile((1 + level) / 2)
    return differences.mean(), low, high""",
            "wanted is where the mean of such pictures lies",
        ),
        (
            """
def interval(differences, level=0.95):
    generator = torch.Generator().manual_seed(0)
    draws = torch.stack([torch.randperm(len(differences), generator=generator) for _ in range(2000)])
    means = differences[draws].mean(1)
    return differences.mean(), means.quantile((1 - level) / 2), means.quantile((1 + level) / 2)""",
            "draw with replacement",
        ),
        (
            """
def interval(differences, level=0.95):
    draws = torch.randint(len(differences), (2000, len(differences)), generator=torch.Generator().manual_seed(0))
    means = differences[draws].mean(1)
    return differences.mean(), means.quantile(0.025), means.quantile(0.975)""",
            "Is 0.95 written into it?",
        ),
        (
            """
def interval(differences, level=0.95):
    draws = torch.randint(len(differences), (2000, len(differences)))
    means = differences[draws].mean(1)
    return differences.mean(), means.quantile((1 - level) / 2), means.quantile((1 + level) / 2)""",
            "called again, it must give the same",
        ),
        (
            """
def interval(differences, level=0.95):
    draws = torch.randint(len(differences), (2000, len(differences)), generator=torch.Generator().manual_seed(0))
    means = differences[draws].mean(1)
    return means.quantile((1 - level) / 2), differences.mean(), means.quantile((1 + level) / 2)""",
            "the first number is the mean of the differences",
        ),
        (
            """
def interval(differences, level=0.95):
    draws = torch.randint(len(differences), (2000, 10), generator=torch.Generator().manual_seed(0))
    means = differences[draws].mean(1)
    return differences.mean(), means.quantile((1 - level) / 2), means.quantile((1 + level) / 2)""",
            "Draw as many pictures as there are",
        ),
        (
            """
def interval(differences, level=0.95):
    draws = torch.randint(len(differences), (2000, len(differences)), generator=torch.Generator().manual_seed(0))
    means = differences[draws].mean(1)
    return differences.mean(), means.quantile(1 - level), means.quantile(level)""",
            "cut off (1 - level) / 2 at each end",
        ),
        (
            "def interval(differences, level=0.95):\n    return differences.mean()",
            "(mean, low, high); yours has shape ()",
        ),
    ],
    "A3.verdicts": [
        (
            """
def verdicts(differences):
    found = {}
    for name, values in differences.items():
        _, low, high = interval(values)
        found[name] = "+" if low > 0 else "-" if high < 0 else "="
    return found""",
            "share the 5 % among them",
        ),
        (
            """
def verdicts(differences):
    found = {}
    for name, values in differences.items():
        _, low, high = interval(values, 1 - 0.05 / len(differences))
        found[name] = "-" if low > 0 else "+" if high < 0 else "="
    return found""",
            "the signs are the wrong way round",
        ),
        (
            """
def verdicts(differences):
    return {name: "+" if values.mean() > 0.1 else "-" if values.mean() < -0.1 else "="
            for name, values in differences.items()}""",
            "however small the mean",
        ),
        (
            "def verdicts(differences):\n    return {name: '=' for name in differences}",
            "are plain, and not found",
        ),
        (
            "def verdicts(differences):\n    return {name: values.mean() > 0 for name, values in differences.items()}",
            'a verdict is "+", "-" or "="',
        ),
        (
            """
def verdicts(differences):
    return {name: "+" if values.mean() > 0 else "-" for name, values in differences.items()}""",
            "call something better or worse",
        ),
        ("def verdicts(differences):\n    return ['='] * len(differences)", "expected a dict with one verdict"),
    ],
    "A3.choose": [
        (
            """
def choose(validation, test):
    name = min(test, key=lambda one: test[one].mean().item())
    return name, test[name].mean().item()""",
            "it chooses what does best on the test pictures",
        ),
        (
            """
def choose(validation, test):
    name = min(validation, key=lambda one: validation[one].mean().item())
    return name, validation[name].mean().item()""",
            "it reports the area on the pictures by which it chose",
        ),
        (
            """
def choose(validation, test):
    name = max(validation, key=lambda one: validation[one].mean().item())
    return name, test[name].mean().item()""",
            "for deletion a smaller one is better",
        ),
        (
            """
def choose(validation, test):
    return min(validation, key=lambda one: validation[one].mean().item())""",
            "expected (name of a reading, its mean area on the test pictures)",
        ),
        (
            """
def choose(validation, test):
    name = sorted(validation, key=lambda one: validation[one].mean().item())[1]
    return name, test[name].mean().item()""",
            "does not choose the reading with the smallest mean area",
        ),
        (
            """
def choose(validation, test):
    name = min(validation, key=lambda one: validation[one].mean().item())
    return name, test[name].min().item()""",
            "it does not report the mean area of the chosen reading",
        ),
    ],
}
