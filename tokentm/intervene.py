"""Take a part of a model away, or exchange it, and see what the answer loses: a test of what a map claims.

    Trace, interventions --intervene--> Interventions

What the parts were said to contribute, and whether that is what the answer loses: :mod:`tokentm.claims`.

A map says what counts. Here one head, one layer's attention or FFN, one look from a token at another, one activation or
some patches are replaced by zero, by a mean or by what another picture has there, and all else runs on as the model is
made. Many interventions are rows of one batch. What is put in place is computed from the record: up to that place the
pass is the recorded one. In every changed block the model is watched again, and refused if it did not go on with what
was put there.

Sources: Michel, Levy, Neubig, "Are Sixteen Heads Really Better than One?", NeurIPS 2019 (heads); Vig et al.,
"Investigating Gender Bias in Language Models Using Causal Mediation Analysis", NeurIPS 2020, and Meng et al., "Locating
and Editing Factual Associations in GPT", NeurIPS 2022 (activations of another input); Wang et al., "Interpretability in
the Wild", ICLR 2023 (means over reference inputs).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import torch
from torch import Tensor
from tqdm import tqdm

from tokentm.blocks import observe
from tokentm.closeness import relative_error
from tokentm.errors import InvalidOptionError, NotFiniteError, UnsupportedModelError
from tokentm.evaluation.removal import Removal
from tokentm.hooks import Edit, Exchange, editing, recording
from tokentm.isolation import isolated
from tokentm.passes import Pass, Passes
from tokentm.run import IDENTITY_TOLERANCE
from tokentm.trace import Trace
from tokentm.vit import Anatomy

By = Literal["zero", "mean", "other", "drop", "blur"]
"""What takes the place of a part, see :func:`intervene`; "drop" and "blur" are for patches alone."""

Site = Literal["stream", "heads", "attention", "ffn"]

AT_ONCE = 2**22
"""Attention weights of one layer, in all rows that the model is given at once, unless a batch size is asked for."""


@dataclass(frozen=True)
class Head:
    """What one head puts out, for all tokens, before the output projection, (N, d); the projection's bias stays.

    Attributes:
        layer, head: from 0.
    """

    layer: int
    head: int
    site: ClassVar[Site] = "heads"

    def place(self) -> tuple[int, ...]:
        return (self.head,)

    def found(self, trace: Trace) -> Tensor:
        layer = trace.layers[self.layer]
        return layer.attention[:, self.head] @ layer.value[:, self.head]

    def over_tokens(self, trace: Trace) -> Tensor:
        return self.found(trace).mean(1, keepdim=True)

    def put(self, _trace: Trace, _image: int, value: Tensor) -> Tensor:
        return value


@dataclass(frozen=True)
class Attention:
    """All that the attention of one layer adds to the stream, biases included, (N, D). Zero: x' = x.

    Attributes:
        layer: from 0.
    """

    layer: int
    site: ClassVar[Site] = "attention"

    def place(self) -> tuple[int, ...]:
        return ()

    def found(self, trace: Trace) -> Tensor:
        return trace.layers[self.layer].attention_update

    def over_tokens(self, trace: Trace) -> Tensor:
        return self.found(trace).mean(1, keepdim=True)

    def put(self, trace: Trace, _image: int, value: Tensor) -> Tensor:
        return _before_scale(value, _block(trace, self.layer).scale)


@dataclass(frozen=True)
class Ffn:
    """All that the FFN of one layer adds to the stream, biases included, (N, D). Zero: x'' = x'.

    Attributes:
        layer: from 0.
    """

    layer: int
    site: ClassVar[Site] = "ffn"

    def place(self) -> tuple[int, ...]:
        return ()

    def found(self, trace: Trace) -> Tensor:
        return trace.layers[self.layer].ffn_update

    def over_tokens(self, trace: Trace) -> Tensor:
        return self.found(trace).mean(1, keepdim=True)

    def put(self, trace: Trace, _image: int, value: Tensor) -> Tensor:
        return _before_scale(value, _block(trace, self.layer).ffn_scale)


@dataclass(frozen=True)
class Edge:
    """One head's look from one token at another: the attention weight A_qk alone, one number.

    The other weights of the row stay as they are, so that exactly the term A_qk f(x_k) of the token's sum changes; the
    row then no longer sums to 1. The value v_k stays, also where the weight is another picture's.

    Attributes:
        layer, head: from 0.
        query, key: which token looks, and at which; from 0, prefix tokens first, as in ``LayerTrace.attention``.
    """

    layer: int
    head: int
    query: int
    key: int
    site: ClassVar[Site] = "heads"

    def place(self) -> tuple[int, ...]:
        return (self.head, self.query)

    def found(self, trace: Trace) -> Tensor:
        return trace.layers[self.layer].attention[:, self.head, self.query, self.key]

    def over_tokens(self, trace: Trace) -> Tensor:
        return trace.layers[self.layer].attention[:, self.head, :, self.key].mean(1)

    def put(self, trace: Trace, image: int, value: Tensor) -> Tensor:
        layer = trace.layers[self.layer]
        row, values = layer.attention[image, self.head, self.query], layer.value[image, self.head]
        return row @ values + (value - row[self.key]) * values[self.key]


@dataclass(frozen=True)
class Activation:
    """The residual stream of one token as it enters a layer, (D,).

    Attributes:
        layer: from 0.
        token: from 0, prefix tokens first.
    """

    layer: int
    token: int
    site: ClassVar[Site] = "stream"

    def place(self) -> tuple[int, ...]:
        return (self.token,)

    def found(self, trace: Trace) -> Tensor:
        return trace.layers[self.layer].stream[:, self.token]

    def over_tokens(self, trace: Trace) -> Tensor:
        return trace.layers[self.layer].stream.mean(1)

    def put(self, _trace: Trace, _image: int, value: Tensor) -> Tensor:
        return value


@dataclass(frozen=True)
class Patches:
    """Some patches of the picture, taken away together, see :class:`tokentm.evaluation.Removal`.

    Attributes:
        indices: of the patches, row-major from 0; one number stands for itself alone.
    """

    indices: tuple[int, ...]

    def __post_init__(self) -> None:
        given: Any = self.indices
        listed = [given] if not isinstance(given, Sequence) and getattr(given, "ndim", 0) == 0 else list(given)
        object.__setattr__(self, "indices", tuple(_index(self, "a patch", one) for one in listed))
        if not self.indices or len(set(self.indices)) < len(self.indices):
            raise InvalidOptionError(f"expected at least one patch, each of them once; got {given!r}.")


Intervention = Head | Attention | Ffn | Edge | Activation | Patches
_Inner = Head | Attention | Ffn | Edge | Activation


@dataclass(frozen=True, eq=False)
class Interventions:
    """What a model says with some of its parts taken away or exchanged. B images, K interventions.

    Attributes:
        interventions: what was done, K of them.
        by: what was put in place, see :data:`By`.
        baseline: logits of the model as it is, (B, classes).
        logits: those after each intervention, (B, K, classes).
        baseline_scores: the explained score before, (B,).
        scores: the same score after each intervention, (B, K); of the class that was explained, whatever is predicted.
    """

    interventions: tuple[Intervention, ...]
    by: By
    baseline: Tensor
    logits: Tensor
    baseline_scores: Tensor
    scores: Tensor

    def __repr__(self) -> str:
        return f"Interventions({len(self.interventions)}, by={self.by!r}, images={len(self.baseline)})"

    @property
    def effects(self) -> Tensor:
        """What the explained score loses by each intervention, before minus after, (B, K), in the score's unit.

        Positive where the part speaks for the class, as a contribution in a map is.
        """
        return self.baseline_scores[:, None] - self.scores


def intervene(
    trace: Trace,
    interventions: Sequence[Intervention],
    by: By = "zero",
    other: Trace | None = None,
    *,
    batch_size: int | None = None,
    progress: bool | Callable[[float], None] = True,
) -> Interventions:
    """Run the recorded model again, once with each intervention on each image, and compare.

    What takes the place of a part:

    - "zero": zero. Of patches: their pixels, zero after normalisation.
    - "mean", without ``other``: the mean over all tokens of the same picture, prefix included; of a look, what the
      tokens of that head take of this key on average; of patches, the image's mean colour.
    - "mean", with ``other``: the mean over its pictures, for each token (and look, and pixel) by itself.
    - "other": what ``other`` has there: its picture of the same number, or its only one.
    - "drop", "blur": for patches alone, see :class:`tokentm.evaluation.Removal`.

    The model is left exactly as it was found, also when this raises or is interrupted; between two batches, and while
    the model runs, an interrupt ends it.

    Args:
        trace: of :func:`tokentm.record`: the model, the images and the score whose change is measured.
        interventions: each done by itself: :class:`Head`, :class:`Attention`, :class:`Ffn`, :class:`Edge`,
            :class:`Activation`, :class:`Patches`.
        by: see above.
        other: a record of other pictures, of the same model and size.
        batch_size: rows, an intervention on an image each, that the model is given at once; None takes as many as make
            :data:`AT_ONCE` attention weights a layer. Rounding depends on it, as with any batch.
        progress: True shows a bar where it takes more than a second, False nothing; a function hears of the share
            done, 0 .. 1, between two batches, and ends the work by raising.

    Returns:
        :class:`Interventions`.

    Raises:
        InvalidOptionError: a part that the model does not have, a replacement that does not go with it, patches that
            this model cannot drop, or ``other`` missing, of another model or of another size.
        ModelChangedError: the model is no longer what was recorded.
        UnsupportedModelError: the model did not go on with what was put in place; names the block.
        NotFiniteError: an intervention made NaN or infinity; names it.

    Example:
        >>> trace = tokentm.record(demo.model, images)
        >>> heads = [Head(layer, head) for layer in range(8) for head in range(4)]
        >>> intervene(trace, heads).effects.shape
        torch.Size([1, 32])

    Departures: Michel et al. mask a head, which is :class:`Head` with "zero". Meng et al. restore activations of the
    clean input in a run on a noisy one; here those of another picture are put into this one's run. Wang et al. take
    means over reference inputs, as "mean" with ``other`` does; the mean over tokens of one picture is ours, and so is
    the look by itself.
    """
    if not isinstance(trace, Trace):
        raise InvalidOptionError(f"expected a record from tokentm.record(model, images); got {type(trace).__name__}.")
    wanted = tuple(interventions) if isinstance(interventions, (Sequence, Iterator)) else (interventions,)
    check_interventions(trace, wanted)
    _check_replacement(wanted, by)
    anatomy = trace.check_model()
    _check_other(trace, by, other)
    if batch_size is not None and (isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1):
        raise InvalidOptionError(f"expected a batch_size of at least 1, or None; got {batch_size!r}.")
    at_once = batch_size or max(1, AT_ONCE // max(layer.attention[0].numel() for layer in trace.layers))
    batches = _batches(wanted, len(trace.images), at_once, by)
    remove = _removal(trace, by, other) if any(isinstance(one, Patches) for one in wanted) else None
    inner = _Inside(trace, anatomy, by, other) if any(not isinstance(one, Patches) for one in wanted) else None
    after: dict[_Row, Tensor] = {}
    with closing(_told(batches, progress)) as told:
        for batch in told:
            rows = [(row.image, wanted[row.intervention]) for row in batch]
            if isinstance(rows[0][1], Patches):
                assert remove is not None
                found = _without_patches(trace, remove, rows)
            else:
                assert inner is not None
                found = inner.run(rows)
            _check_finite(anatomy, found, rows)
            after.update(zip(batch, found, strict=True))
    return isolated(lambda: _compared(trace, wanted, by, after))


class _Row(NamedTuple):
    """One row of a batch: numbers of an image and of an intervention."""

    image: int
    intervention: int


def _compared(trace: Trace, wanted: tuple[Intervention, ...], by: By, after: dict[_Row, Tensor]) -> Interventions:
    images = range(len(trace.images))
    each = [torch.stack([after[_Row(image, k)] for image in images]) for k in range(len(wanted))]
    scores = torch.stack([trace.score(logits) for logits in each], 1)
    return Interventions(wanted, by, trace.logits, torch.stack(each, 1), trace.scores, scores)


def _batches(wanted: Sequence[Intervention], images: int, at_once: int, by: By) -> list[list[_Row]]:
    """All rows, in batches that can run at once: inner parts, or patches, dropped ones as many in each row."""
    alike: dict[int, list[_Row]] = {}
    for k, one in enumerate(wanted):
        kind = -1 if not isinstance(one, Patches) else len(one.indices) if by == "drop" else 0
        alike.setdefault(kind, []).extend(_Row(image, k) for image in range(images))
    return [rows[i : i + at_once] for rows in alike.values() for i in range(0, len(rows), at_once)]


def _told(batches: Sequence[list[_Row]], progress: bool | Callable[[float], None]) -> Generator[list[_Row]]:
    """The batches one by one; between them, how far the work has come is shown or told."""
    total = sum(map(len, batches))
    if not isinstance(progress, bool) and not callable(progress):
        raise InvalidOptionError(
            f"expected progress=True for a bar, False for none, or a function of the share done; got {progress!r}."
        )
    hear = progress if callable(progress) else lambda _share: None
    with tqdm(total=total, desc="interventions", leave=False, delay=1, disable=progress is not True) as bar:
        done = 0
        for batch in batches:
            hear(done / total)
            yield batch
            done += len(batch)
            bar.update(len(batch))
        hear(1.0)


class _Inside:
    """Runs a recorded model with parts of its blocks exchanged."""

    def __init__(self, trace: Trace, anatomy: Anatomy, by: By, other: Trace | None) -> None:
        self.trace, self.anatomy, self.by, self.other = trace, anatomy, by, other
        self.ffn_calls = isolated(lambda: _ffn_calls(anatomy, trace.images[:1]))

    def run(self, rows: Sequence[tuple[int, Any]]) -> Tensor:
        """Logits (n, classes) of one row for each image number and intervention."""
        self.trace.check_state()
        return isolated(lambda: self._run(rows))

    @torch.no_grad()
    def _run(self, rows: Sequence[tuple[int, Any]]) -> Tensor:
        places: dict[int, dict[Site, list[tuple[tuple[int, ...], Tensor]]]] = {}
        for row, (image, one) in enumerate(rows):
            at = (row, *one.place())
            here = places.setdefault(one.layer, {}).setdefault(one.site, [])
            here.append((at, one.put(self.trace, image, self._value(image, one))))
        edits = {
            layer: Edit(**{site: _exchange(at) for site, at in sites.items()}, ffn_call=self.ffn_calls[layer])
            for layer, sites in places.items()
        }
        added = {layer: [at[0] for at, _ in sites.get("attention", ())] for layer, sites in places.items()}
        images = self.trace.images[[image for image, _ in rows]]
        return self._answer(images, edits, added)

    def _value(self, image: int, one: _Inner) -> Tensor:
        if self.by == "zero":
            return torch.zeros_like(one.found(self.trace)[image])
        if self.other is None:
            return one.over_tokens(self.trace)[image]
        found = one.found(self.other)
        return found.mean(0) if self.by == "mean" else found[image if len(found) > 1 else 0]

    def _answer(self, images: Tensor, edits: dict[int, Edit], added: dict[int, list[int]]) -> Tensor:
        """
        Args:
            added: in which rows all that a block's attention adds was exchanged.
        """
        anatomy, left = self.anatomy, set(edits)

        def finish(i: int, passes: Passes) -> None:
            seen = passes.blocks[i]
            if i in edits:
                _check_edited(anatomy, i, seen, added[i])
                left.discard(i)
            seen.forget()
            seen.fused = None

        with editing(anatomy, edits, finish):
            logits = anatomy.answer(images)
        if left:
            raise _not_used(anatomy, min(left), "the block did not run")
        return logits


def _exchange(places: Sequence[tuple[tuple[int, ...], Tensor]]) -> Exchange:
    def exchanged(made: Tensor) -> Tensor:
        made = made.clone()
        for at, value in places:
            made[at] = value
        return made

    return exchanged


@torch.no_grad()
def _ffn_calls(anatomy: Anatomy, image: Tensor) -> dict[int, int]:
    """Which call of each block's ``ffn_update`` makes what the FFN adds, from 0: the last one, as the record has it."""
    found: dict[int, int] = {}

    def finish(i: int, passes: Passes) -> None:
        found[i] = len(passes.blocks[i].outputs[anatomy.blocks[i].ffn_update]) - 1
        passes.blocks[i].forget()

    with recording(anatomy, finish=finish, stays_fused=True):
        anatomy.answer(image)
    return found


def _check_edited(anatomy: Anatomy, i: int, seen: Pass, added: Sequence[int]) -> None:
    """In a block with exchanged parts, x' and x'' must be made of what was put in place, and so must attention's
    output, in the rows in which it was not exchanged itself (``added``).
    """
    mixed = seen.mixed if seen.mixed is not None else None if seen.fused is None else seen.fused.mixed
    if mixed is None or seen.calls != 1:
        raise _not_used(anatomy, i, f"it attended {seen.calls} times")
    kept, gaps = observe(anatomy.blocks[i], seen, mixed)
    rest = [row for row in range(len(mixed)) if row not in set(added)]
    heads = relative_error(kept.update_of(mixed)[rest], kept.attention_update[rest])
    largest = torch.stack([heads, gaps.attention, gaps.ffn, gaps.normed, gaps.normed_mid]).max()
    if not largest < IDENTITY_TOLERANCE:  # also where it is NaN
        raise _not_used(anatomy, i, f"they differ by {float(largest):.3g} (relative)")


def _not_used(anatomy: Anatomy, i: int, found: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"{anatomy.name}: expected block {i} to go on with what was put in place, found that it does not: {found}. It "
        "computes something twice, or reads it elsewhere than its description says, so what this intervention does is "
        f"not known. {anatomy.advice}."
    )


def _before_scale(value: Tensor, scale: Tensor | None) -> Tensor:
    """What a module must put out so that, times the scale, ``value`` is added."""
    if scale is None:
        return value
    unscaled = torch.where(scale == 0, 0.0, value / scale.detach())
    return unscaled.reshape(value.shape[:-1] + unscaled.shape[-1:])


def _block(trace: Trace, layer: int) -> Any:
    assert trace.anatomy is not None
    return trace.anatomy.blocks[layer]


def _removal(trace: Trace, by: By, other: Trace | None) -> Removal:
    if other is None:
        replacement: Any = by
        return Removal(trace, replacement)
    pictures = other.images.mean(0, keepdim=True) if by == "mean" else other.images
    return Removal(trace, pictures.expand_as(trace.images))


def _without_patches(trace: Trace, remove: Removal, rows: Sequence[tuple[int, Any]]) -> Tensor:
    device = trace.images.device
    gone = torch.zeros(len(rows), trace.layout.rows * trace.layout.columns, dtype=torch.bool, device=device)
    for row, (_, one) in zip(gone, rows, strict=True):
        row[list(one.indices)] = True
    return remove.of(torch.tensor([image for image, _ in rows], device=device), gone)


def check_interventions(trace: Trace, wanted: Sequence[Any]) -> None:
    if not wanted:
        raise InvalidOptionError("expected at least one intervention; got none.")
    tokens, patches = trace.layout.tokens, trace.layout.rows * trace.layout.columns
    limits = {"layer": len(trace.layers), "token": tokens, "query": tokens, "key": tokens}
    for one in wanted:
        if not isinstance(one, get_args(Intervention)):
            kinds = ", ".join(kind.__name__ for kind in get_args(Intervention))
            raise InvalidOptionError(f"expected interventions among {kinds}; got {one!r}.")
        named: list[tuple[str, int]] = []
        if isinstance(one, Patches):
            named, limits["patch"] = [("patch", index) for index in one.indices], patches
        else:
            named = [(name, _index(one, f"a {name}", index)) for name, index in vars(one).items()]
        for name, index in named:
            if name == "head":  # layers come first
                limits["head"] = trace.layers[one.layer].attention.shape[1]
            if not 0 <= index < limits[name]:
                raise InvalidOptionError(f"expected a {name} from 0 to {limits[name] - 1} in {one}; got {index}.")


def _index(one: Any, what: str, given: Any) -> int:
    try:
        if isinstance(given, bool):
            raise TypeError
        return operator.index(given)
    except TypeError:
        raise InvalidOptionError(f"expected {what} by number in {type(one).__name__}; got {given!r}.") from None


def _check_replacement(wanted: Sequence[Intervention], by: By) -> None:
    if by not in get_args(By):
        raise InvalidOptionError(f"expected by= among {', '.join(get_args(By))}; got {by!r}.")
    inner = next((one for one in wanted if not isinstance(one, Patches)), None)
    if inner is not None and by in ("drop", "blur"):
        raise InvalidOptionError(
            f"expected by='zero', 'mean' or 'other' for {inner}: only patches of a picture can be replaced by {by!r}. "
            "Call intervene for the patches by themselves."
        )


def _check_other(trace: Trace, by: By, other: Trace | None) -> None:
    if other is None and by != "other":
        return
    if other is not None and by not in ("mean", "other"):
        raise InvalidOptionError(f"expected other= for by='mean' or 'other' alone; got it with by={by!r}.")
    if not isinstance(other, Trace):
        raise InvalidOptionError(
            "expected other=tokentm.record(model, pictures) of the pictures whose values take the place of this one's; "
            f"got {type(other).__name__}."
        )
    assert trace.anatomy is not None
    if other.anatomy is None or other.anatomy.model is not trace.anatomy.model or other.state != trace.state:
        raise InvalidOptionError("expected other= to be a record of the same model in the same state; got another's.")
    if (other.layout, other.images.shape[1:]) != (trace.layout, trace.images.shape[1:]):
        raise InvalidOptionError(
            f"expected other= pictures of the same size, {tuple(trace.images.shape[1:])}; got "
            f"{tuple(other.images.shape[1:])}."
        )
    if by == "other" and len(other.images) not in (1, len(trace.images)):
        raise InvalidOptionError(
            f"expected one other picture, or one for each of the {len(trace.images)} image(s); got {len(other.images)}."
        )


def _check_finite(anatomy: Anatomy, logits: Tensor, rows: Sequence[tuple[int, Intervention]]) -> None:
    bad = (~torch.isfinite(logits).all(1)).nonzero().flatten().tolist()
    if bad:
        image, one = rows[bad[0]]
        raise NotFiniteError(
            f"{anatomy.name}: expected finite logits; found NaN or infinity for image {image} after {one}. Run in "
            "float64 (model.double(), images.double()) to see whether numbers overflow, or replace by the mean."
        )
