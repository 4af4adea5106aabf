"""Likely mistakes of lesson 4, and words by which the verdict must name each."""

from __future__ import annotations

WRONG: dict[str, list[tuple[str, str]]] = {
    "04.rollout": [
        (
            """
def rollout(attention):
    C = torch.eye(attention.shape[-1])
    for A in attention.mean(1):
        C = (A + torch.eye(len(A))) @ C
    return C""",
            "rows sum to 2 after 1 layer(s), 2 for each. Halve A + I",
        ),
        (
            """
def rollout(attention):
    C = torch.eye(attention.shape[-1])
    for A in attention.sum(1):
        C = (A + torch.eye(len(A))) / 2 @ C
    return C""",
            "heads are averaged, not added",
        ),
        (
            """
def rollout(attention):
    C = torch.eye(attention.shape[-1])
    for A in attention.mean(1):
        C = C @ (A + torch.eye(len(A))).T / 2
    return C""",
            "your columns sum to 1, not your rows",
        ),
        (
            """
def rollout(attention):
    C = torch.zeros(attention.shape[2:])
    for A in attention.mean(1):
        C = (A + torch.eye(len(A))) / 2 @ C
    return C""",
            "rows must sum to 1; your first sums to 0",
        ),
        (
            """
def rollout(attention):
    C = torch.eye(attention.shape[-1])
    for A in attention.mean(1):
        C = A @ C
    return C""",
            "your map is the attention itself",
        ),
        (
            """
def rollout(attention):
    C = torch.eye(attention.shape[-1])
    for A in attention.mean(1)[:-1]:
        C = (A + torch.eye(len(A))) / 2 @ C
    return C""",
            "Does your loop reach the last layer?",
        ),
        (
            """
def rollout(attention):
    C = torch.eye(attention.shape[-1])
    for A in attention.mean(1):
        C = (0.9 * A + 0.1 * torch.eye(len(A))) @ C
    return C""",
            "after one layer the map must be (A + I) / 2",
        ),
        (
            """
def rollout(attention):
    C = torch.eye(attention.shape[-1])
    for A in attention.mean(1):
        C = C @ (A + torch.eye(len(A))) / 2
    return C""",
            "the newest multiplies from the left",
        ),
        (
            """
def rollout(attention):
    A = attention[-1].mean(0)
    return (A + torch.eye(len(A))) / 2""",
            "your map knows one layer only",
        ),
        (
            """
def rollout(attention):
    C = torch.eye(attention.shape[-1])
    for A in attention.mean(1):
        C = (A @ C + torch.eye(len(A))) / 2
    return C""",
            "one layer is right; 2 layers are not",
        ),
        (
            """
def rollout(attention):
    C = torch.eye(attention.shape[-1])
    for A in attention:
        C = (A + torch.eye(A.shape[-1])) / 2 @ C
    return C""",
            "expected shape (4, 4), (tokens, tokens)",
        ),
    ],
    "04.aggregate": [
        (
            """
def aggregate(C, A, G, w, w_ffn):
    U = (G * (A * w[:, None, :])).relu().mean(0)
    return (torch.eye(len(C)) + w_ffn.diag()) @ U @ C""",
            "nothing is left of C",
        ),
        (
            """
def aggregate(C, A, G, w, w_ffn):
    U = torch.eye(len(C)) + (G * (A * w[:, None, :])).relu().mean(0)
    return w_ffn.diag() @ U @ C""",
            "nothing is left of C",
        ),
        (
            """
def aggregate(C, A, G, w, w_ffn):
    U = torch.eye(len(C)) + (G * (A * w[:, None, :])).relu().mean(0)
    C = C + U @ C
    return C + w_ffn[:, None] * C""",
            "Add the identity once in each U",
        ),
        (
            """
def aggregate(C, A, G, w, w_ffn):
    U = torch.eye(len(C)) + (G * (A * w[:, None, :])).relu().mean(0)
    return (torch.eye(len(C)) + w_ffn.diag()) @ U @ C / 2""",
            "a layer must leave C as it is",
        ),
        (
            """
def aggregate(C, A, G, w, w_ffn):
    return (torch.eye(len(C)) + (G * (A * w[:, None, :])).relu().mean(0)) @ C""",
            "the FFN's weights change nothing",
        ),
        (
            """
def aggregate(C, A, G, w, w_ffn):
    U = torch.eye(len(C)) + (G * (A * w[:, None, :])).relu().mean(0)
    return (U @ C) * (1 + w_ffn)""",
            "you scale its columns",
        ),
        (
            """
def aggregate(C, A, G, w, w_ffn):
    U = torch.eye(len(C)) + (G * (A * w[:, None, :])).relu().mean(0)
    return (torch.eye(len(C)) + w_ffn) @ U @ C""",
            "row i of C must become (1 + w_ffn[i]) times as large",
        ),
        (
            """
def aggregate(C, A, G, w, w_ffn):
    U = torch.eye(len(C)) + (G * (A * w[:, :, None])).relu().mean(0)
    return (torch.eye(len(C)) + w_ffn.diag()) @ U @ C""",
            "Token j is what was transformed: weigh column j",
        ),
        (
            """
def aggregate(C, A, G, w, w_ffn):
    U = torch.eye(len(C)) + (w.any() * G * A).relu().mean(0)
    return (torch.eye(len(C)) + w_ffn.diag()) @ U @ C""",
            "the weights of the attention layer change nothing",
        ),
        (
            """
def aggregate(C, A, G, w, w_ffn):
    U = torch.eye(len(C)) + (G * (A * w.softmax(1)[:, None] * w.any())).relu().mean(0)
    return (torch.eye(len(C)) + w_ffn.diag()) @ U @ C""",
            "C must become I + A * w",
        ),
        (
            """
def aggregate(C, A, G, w, w_ffn):
    U = torch.eye(len(C)) + (A * w[:, None, :]).relu().mean(0)
    return (torch.eye(len(C)) + w_ffn.diag()) @ U @ C""",
            "the gradient changes nothing",
        ),
        (
            """
def aggregate(C, A, G, w, w_ffn):
    U = torch.eye(len(C)) + (G * (A * w[:, None, :])).mean(0)
    return (torch.eye(len(C)) + w_ffn.diag()) @ U @ C""",
            "your map goes below zero: take the relu",
        ),
        (
            """
def aggregate(C, A, G, w, w_ffn):
    U = torch.eye(len(C)) + (G * (A * w[:, None, :])).abs().mean(0)
    return (torch.eye(len(C)) + w_ffn.diag()) @ U @ C""",
            "relu, not the absolute value",
        ),
        (
            """
def aggregate(C, A, G, w, w_ffn):
    U = torch.eye(len(C)) + (G**2 * A * w[:, None, :]).mean(0)
    return (torch.eye(len(C)) + w_ffn.diag()) @ U @ C""",
            "C must become I + relu(G * (A w))",
        ),
        (
            """
def aggregate(C, A, G, w, w_ffn):
    U = torch.eye(len(C)) + (G * (A * w[:, None, :])).relu().sum(0)
    return (torch.eye(len(C)) + w_ffn.diag()) @ U @ C""",
            "the 2 heads are added; U takes their mean",
        ),
        (
            """
def aggregate(C, A, G, w, w_ffn):
    U = torch.eye(len(C)) + (G * (A * w[:, None, :])).mean(0).relu()
    return (torch.eye(len(C)) + w_ffn.diag()) @ U @ C""",
            "one head's no then cancels another's yes",
        ),
        (
            """
def aggregate(C, A, G, w, w_ffn):
    U = torch.eye(len(C)) + G.relu().mean(0) * (A * w[:, None, :]).mean(0)
    return (torch.eye(len(C)) + w_ffn.diag()) @ U @ C""",
            "Multiply head by head; the mean comes last",
        ),
        (
            """
def aggregate(C, A, G, w, w_ffn):
    U = torch.eye(len(C)) + G.mean(0).relu() * A.mean(0) * w.mean(0)
    return (torch.eye(len(C)) + w_ffn.diag()) @ U @ C""",
            "Multiply head by head; the mean comes last",
        ),
        (
            """
def aggregate(C, A, G, w, w_ffn):
    U = torch.eye(len(C)) + (G * (A * w[:, None, :])).relu().amax(0)
    return (torch.eye(len(C)) + w_ffn.diag()) @ U @ C""",
            "U must be I + mean over heads",
        ),
        (
            """
def aggregate(C, A, G, w, w_ffn):
    U = torch.eye(len(C)) + (G * (A * w[:, None, :])).relu().mean(0)
    return U @ (torch.eye(len(C)) + w_ffn.diag()) @ C""",
            "the FFN comes after attention",
        ),
        (
            """
def aggregate(C, A, G, w, w_ffn):
    mixed = C + C @ (G * (A * w[:, None, :])).relu().mean(0)
    return mixed + w_ffn[:, None] * mixed""",
            "C stands on the far right",
        ),
        (
            """
def aggregate(C, A, G, w, w_ffn):
    U = (G * (A * w[:, None, :])).relu().mean(0)
    return C + U @ C + w_ffn[:, None] * C""",
            "attention and FFN are added",
        ),
        (
            """
def aggregate(C, A, G, w, w_ffn):
    A *= w[:, None, :]
    U = torch.eye(len(C)) + (G * A).relu().mean(0)
    return (torch.eye(len(C)) + w_ffn.diag()) @ U @ C""",
            "your function changed input 2 in place",
        ),
        (
            """
def aggregate(C, A, G, w, w_ffn):
    U = torch.eye(len(C)) + (G * (A * w)).relu().mean(0)
    return (torch.eye(len(C)) + w_ffn.diag()) @ U @ C""",
            "stopped with RuntimeError",
        ),
    ],
    "04.paths": [
        (
            """
def paths(U, start, end):
    found = {}
    for between in product(range(len(U[0])), repeat=len(U) - 1):
        path = (start, *between, end)
        found[between] = math.prod(float(u[b, a]) for u, a, b in zip(U, path, path[1:]))
    return found""",
            "through 2 layer(s) a path has 3 tokens",
        ),
        (
            """
def paths(U, start, end):
    found = {}
    for between in product(range(len(U[0])), repeat=len(U) - 1):
        path = (end, *between, start)
        found[path] = math.prod(float(u[a, b]) for u, a, b in zip(U[::-1], path, path[1:]))
    return found""",
            "runs from the end to the start",
        ),
        (
            """
def paths(U, start, end):
    found = {}
    for path in product(range(len(U[0])), repeat=len(U) + 1):
        found[path] = math.prod(float(u[b, a]) for u, a, b in zip(U, path, path[1:]))
    return found""",
            "a path must lead from token 2 to token 0",
        ),
        (
            """
def paths(U, start, end):
    found = {}
    for between in product(range(len(U[0])), repeat=len(U) - 1):
        path = (start, *between, end)
        if len(set(path)) == len(path):
            found[path] = math.prod(float(u[b, a]) for u, a, b in zip(U, path, path[1:]))
    return found""",
            "A path may stay, or come back",
        ),
        (
            """
def paths(U, start, end):
    found = {}
    for between in product(range(1, len(U[0])), repeat=len(U) - 1):
        path = (start, *between, end)
        found[path] = math.prod(float(u[b, a]) for u, a, b in zip(U, path, path[1:]))
    return found""",
            "2 of 3 paths found; (2, 0, 0) is missing",
        ),
        (
            """
def paths(U, start, end):
    found = {}
    for between in product(range(len(U[0]) + 1), repeat=len(U) - 1):
        path = (start, *between, end)
        found[path] = math.prod(float(u[b % len(u), a % len(u)]) for u, a, b in zip(U, path, path[1:]))
    return found""",
            "there is no path (2, 3, 0): tokens are numbered from 0 to 2",
        ),
        (
            """
def paths(U, start, end):
    found = {}
    for between in product(range(len(U[0])), repeat=len(U) - 1):
        path = (start, *between, end)
        found[path] = math.prod(float(u[a, b]) for u, a, b in zip(U, path, path[1:]))
    return found""",
            "U[to, from]",
        ),
        (
            """
def paths(U, start, end):
    found = {}
    for between in product(range(len(U[0])), repeat=len(U) - 1):
        path = (start, *between, end)
        found[path] = math.prod(float(u[b, a]) for u, a, b in zip(U[::-1], path, path[1:]))
    return found""",
            "yours takes the last layer first",
        ),
        (
            """
def paths(U, start, end):
    found = {}
    for between in product(range(len(U[0])), repeat=len(U) - 1):
        path = (start, *between, end)
        found[path] = sum(float(u[b, a]) for u, a, b in zip(U, path, path[1:]))
    return found""",
            "the product of its steps",
        ),
        (
            """
def paths(U, start, end):
    found = {}
    for between in product(range(len(U[0])), repeat=len(U) - 1):
        path = (start, *between, end)
        found[path] = math.prod(float(U[-1][b, a]) for a, b in zip(path, path[1:]))
    return found""",
            "one from each layer",
        ),
        (
            """
def paths(U, start, end):
    return torch.linalg.multi_dot(U[::-1])[end, start] if len(U) > 1 else U[0][end, start]""",
            "expected a dict, path -> value",
        ),
        (
            """
def paths(U, start, end):
    return {"2 -> 0": 0.5}""",
            "every path as a tuple of tokens, such as (2, 0, 1); yours has '2 -> 0'",
        ),
        (
            """
def paths(U, start, end):
    return {((start, end), (end, start)): 0.5}""",
            "every path as a tuple of tokens",
        ),
        ("def paths(U, start, end):\n    return {}", "0 of 3 paths found"),
    ],
}
