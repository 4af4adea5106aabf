"""From the numbers of one pass to a description: which modules make the stream of a Vision Transformer, and how.

A block adds what its attention says, then what its FFN says, x + u = x', x' + f = x''. So of everything that modules
were given and returned, the stream is what differs by what some module returned; what the heads put out leads from the
attention to u; the patches are what a convolution, or a linear map, makes of the picture. Nothing is taken from names.
What is found here is judged by the checks of every run, as a description by hand would be.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tokentm import answers
from tokentm.errors import InvalidImagesError, UnsupportedModelError
from tokentm.hooks import Call, Watched
from tokentm.interception import Attended
from tokentm.passes import leads_to, node_of
from tokentm.sketch import Sketch
from tokentm.vit import NORMS, Anatomy, Block

_TOLERANCE = 1e-5
"""Largest difference between x + u and x', relative to x'."""

_OF_UPDATE = 2e-2
"""The same relative to u: of a small u, rounding hides much."""

_ROUNDINGS = 4
"""Of a tiny u, as behind a fresh LayerScale: by how many roundings of x' the difference may be off."""

_MOST_PREFIX = 64
"""Most tokens before the patches: class, distillation and register tokens."""


def find(model: nn.Module, seen: Watched, images: Tensor, name: str) -> Anatomy:
    """Describe a model that showed itself in one pass over images (B, C, H, W), at least two.

    Raises:
        UnsupportedModelError: says what was found instead of a column of blocks over one token sequence.
    """
    return _Search(model, seen, images, name).anatomy()


def needs_gradients(seen: Watched) -> bool:
    """Whether a pooling has several queries, of which gradients tell those that are read."""
    rows = [one.shape[2] for one in seen.attentions if one.shape is not None]
    return len(set(rows)) > 1 and rows[-1] > 1


class _Numbers:
    """Which tensors hold the same numbers: each gets the number of the first that held them; none gets 0."""

    def __init__(self) -> None:
        self._known: dict[Any, list[int]] = {}
        self.sketches: dict[int, Sketch] = {}

    def of(self, sketch: Sketch | None) -> int:
        if sketch is None:
            return 0
        alike = self._known.setdefault(sketch.key, [])
        for number in alike:
            if self.sketches[number].equals(sketch):
                return number
        number = len(self.sketches) + 1
        alike.append(number)
        self.sketches[number] = sketch
        return number


@dataclass(frozen=True, eq=False)
class _Stage:
    """One step of the stream: ``update``, times ``scale``, was added; the sum was first seen at a time."""

    update: int
    scale: Tensor | None
    stream: int
    at: int


@dataclass(frozen=True, eq=False)
class _Both:
    """A step of the stream to which attention and FFN are added at once."""

    attention: Call
    ffn: Call
    stream: int
    at: int


class _Search:
    """One pass of one model, and what follows from it. Tensors are told by numbers, see :class:`_Numbers`."""

    def __init__(self, model: nn.Module, seen: Watched, images: Tensor, name: str) -> None:
        self.model, self.images, self.name, self.seen = model, images, name, seen
        self.calls = seen.calls
        self.attentions = self._attentions(seen.attentions)
        self.tokens = self.attentions[0].tokens
        self.numbers = _Numbers()
        self.given = [self.numbers.of(one.given) for one in self.calls]
        self.made = [self.numbers.of(one.made) for one in self.calls]
        self.count = {module: 0 for module in {one.module for one in self.calls}}
        for one in self.calls:
            self.count[one.module] += 1
        # when each tensor of tokens was seen, given or returned
        self.appearances = sorted(
            (time, number)
            for one, given, made in zip(self.calls, self.given, self.made, strict=True)
            for time, number in ((one.began, given), (one.ended, made))
            if number and self._is_stream(number)
        )
        self.vectors = [one for one in model.parameters() if one.numel() == max(one.shape, default=1)]

    def _shape(self, number: int) -> tuple[int, ...]:
        return self.numbers.sketches[number].shape

    def _values(self, number: int) -> Tensor:
        """A sample of tokens, (B, n, D), in double precision."""
        return self.numbers.sketches[number].values.double()

    def _is_stream(self, number: int) -> bool:
        shape = self._shape(number)
        return len(shape) == 3 and shape[:2] == (len(self.images), self.tokens)

    def _refuse(self, found: str) -> UnsupportedModelError:
        return UnsupportedModelError(
            f"{self.name}: expected a column of attention and FFN blocks over one token sequence, x + attention(x) = "
            f"x', x' + ffn(x') = x''; found {found}"
        )

    def _attentions(self, seen: Sequence[Attended]) -> list[Attended]:
        """The attentions between tokens, of which each block has one."""
        if not seen and self.seen.blind:
            raise self._refuse(
                f"{self.seen.blind} attention(s), and no gradient that leads from any of them to the picture "
                "(no_grad(), detach(), a checkpoint). Run the model with its gradients."
            )
        if not seen:
            raise self._refuse(
                "no attention while it ran (neither scaled_dot_product_attention nor MultiheadAttention, nor a softmax "
                "and a product with what it makes, unchanged). A convolutional network or a mixer has none to explain."
            )
        readable = [(one, one.shape) for one in seen if one.shape is not None]
        if len(readable) < len(seen):
            raise self._refuse(
                "an attention that cannot be taken apart (heads of different batches, a mask inside of "
                "MultiheadAttention)."
            )
        between = [one for one, shape in readable if shape[2] == one.tokens > 1]
        if not between:
            raise self._refuse(
                "attention to more, or fewer, tokens than there are queries (merged keys, memory tokens, class "
                "attention, a decoder), and none between all tokens."
            )
        sizes = sorted({one.tokens for one in between})
        if between[0] is not readable[0][0]:
            raise self._refuse(
                "attention to another number of tokens than its queries before any between tokens (keys and values are "
                "merged, or latents read the picture)."
            )
        images = {shape[0] for one, shape in readable if one in between}
        if max(images) < len(self.images):
            raise self._refuse("attention over all images at once (packed into one sequence, or over the batch).")
        if images != {len(self.images)}:
            raise self._refuse(
                f"attention in parts of the picture: {max(images) // len(self.images)} for each image, over "
                f"{sizes[0]} tokens (windows, local or axial attention, several views of a picture)."
            )
        if len(sizes) > 1:
            raise self._refuse(
                f"a number of tokens that changes on the way, from {between[0].tokens} to {between[-1].tokens} (it "
                "merges or drops tokens)."
            )
        return between

    def anatomy(self) -> Anatomy:
        blocks, last, end = self._blocks()
        embedding, patches = self._embedding()
        final = self._final(last, end)
        entry = blocks[0].module
        sequence_first = any(
            one.module is entry and one.given is not None and one.given.sequence_first for one in self.calls
        )
        column = None
        if blocks[-1].module is None and final is None:
            column = self._puts_out(last, end)
        logits = answers.reader_of(self.seen.output, self.tokens, self.tokens - math.prod(patches))
        pool, pool_rows = self._pool(end, logits(self.seen.output))
        return Anatomy(
            model=self.model,
            blocks=tuple(blocks),
            prefix=self.tokens - math.prod(patches),
            embedding=embedding,
            patch=(self.images.shape[2] // patches[0], self.images.shape[3] // patches[1]),
            name=self.name,
            pooling="attention pooling" if pool is not None else "",
            pool=pool,
            pool_rows=pool_rows,
            channels=self.images.shape[1],
            final=final,
            column=column,
            logits=logits,
            head=answers.head_of(self.seen, self._shape(last)[2]),
            sequence_first=sequence_first,
            in_place=bool(self.seen.in_place),
        )

    # the blocks

    def _blocks(self) -> tuple[list[Block], int, int]:
        """The blocks, the last block's stream, and when it was first seen."""
        ends = [one.at for one in self.attentions[1:]]
        blocks: list[Block] = []
        stream, since = 0, 0
        for i, attention in enumerate(self.attentions):
            until = ends[i] if i < len(ends) else max(one.ended for one in self.calls) + 1
            first: _Stage | None = None
            if i == 0:
                stream, since, first = self._first_stream(attention, until)
            else:
                first = self._stage(stream, attention.at, until, attention.at)
            second = None if first is None else self._stage(first.stream, first.at, until, first.at)
            if first is not None and second is not None:
                blocks.append(self._block(i, attention, stream, since, first, second))
                stream, since = second.stream, second.at
                continue
            both = self._beside(stream, attention, since, until)
            if both is None:
                raise self._no_stage(i, "what its attention adds" if first is None else "what its FFN adds")
            blocks.append(self._parallel_block(i, attention, stream, since, both))
            stream, since = both.stream, both.at
        if any(block.module is None for block in blocks):
            blocks = [replace(block, module=None) for block in blocks]
            if any(block.normed is None for block in blocks):
                raise self._refuse("blocks without a module of their own, and without a norm that is given the stream.")
        self._check_own(blocks)
        return blocks, stream, since

    def _check_own(self, blocks: Sequence[Block]) -> None:
        """What is watched must run once."""
        users: dict[nn.Module, int] = {}
        for i, block in enumerate(blocks):
            norms = (block.normed,) if block.parallel else (block.normed, block.normed_mid)
            for module in (block.module, block.update, *norms):
                if module is not None and module in users:
                    where = f"twice in block {i}" if users[module] == i else f"in blocks {users[module]} and {i}"
                    raise self._refuse(
                        f"that its {type(module).__name__} runs {where} (shared weights). Give each place a module of "
                        "its own; copy.deepcopy keeps the numbers."
                    )
                if module is not None:
                    users[module] = i

    def _no_stage(self, i: int, what: str) -> UnsupportedModelError:
        if self.seen.in_place:
            return self._refuse(
                f"tokens that are changed in place ({self.seen.in_place[0]}, as in x += ...), so that their stream "
                "cannot be seen. Write x = x + ..."
            )
        twice = self._held_by(i)
        if twice is not None:
            return self._refuse(
                f"that its {twice} attends more than once: in one block, or in blocks that run several times (shared "
                "weights, several views of a picture)."
            )
        if self.images.dtype in (torch.float16, torch.bfloat16):
            return self._refuse(
                f"numbers in {self.images.dtype}, too coarse to tell what is added to the stream. Run in float32: "
                "model.float(), images.float()."
            )
        last = ""
        if i == len(self.attentions) - 1:
            last = " Or nothing reads the stream of the last block whole: let an nn.Identity() of the model read it."
        return self._refuse(
            f"no module in block {i} that is given the stream plus {what} (the sum is normalised as in a post-norm "
            f"block, gated, something else is added, too, or nothing is, as with a scale of zero).{last}"
        )

    def _held_by(self, i: int) -> str | None:
        """The class of the innermost module around an attention, if it is around another one, too."""
        held = [
            [one.module for one in self.calls[1:] if one.began < attention.at < one.ended][-1:]
            for attention in self.attentions
        ]
        inner = held[i]
        return type(inner[0]).__name__ if inner and held.count(inner) > 1 else None

    def _first_stream(self, attention: Attended, until: int) -> tuple[int, int, _Stage | None]:
        """The stream that enters the first block: of what was seen before its attention, what that one is added to."""
        before: dict[int, int] = {}
        for time, number in self.appearances:
            if time < attention.at:
                before.setdefault(number, time)
        for stream, time in reversed(before.items()):
            found = self._stage(stream, attention.at, until, attention.at)
            if found is not None:
                return stream, time, found
        for stream, time in reversed(before.items()):
            if self._beside(stream, attention, time, until) is not None:
                return stream, time, None
        raise self._no_stage(0, "what its attention adds")

    def _stage(self, stream: int, after: int, until: int, made_after: int) -> _Stage | None:
        """The first tensor seen in (after, until) that is the stream plus what a module returned, scaled or not."""
        seen: dict[int, int] = {}
        for time, number in self.appearances:
            if after < time < until and number != stream and self._same_shape(number, stream):
                seen.setdefault(number, time)
        updates: dict[int, int] = {}
        for one, made in zip(self.calls, self.made, strict=True):
            if made and made_after < one.ended < until and made != stream and self._same_shape(made, stream):
                updates.setdefault(made, one.ended)
        x = self._values(stream)
        for scaled in (False, True):
            for number, time in seen.items():
                z = self._values(number)
                added, length = z - x, float(torch.linalg.vector_norm(z))
                for update, ended in updates.items():
                    if ended >= time or update == number:
                        continue
                    u = self._values(update)
                    scale = self._scale(added, u) if scaled else None
                    if scaled and scale is None:
                        continue
                    u = u if scale is None else u * scale.detach().double()
                    if self._adds_up(added, u, length):
                        return _Stage(update, scale, number, time)
        return None

    def _beside(self, stream: int, attention: Attended, since: int, until: int) -> _Both | None:
        """The stream plus what two modules returned: one holds this attention, or takes on what its heads put out."""
        updates: dict[int, Call] = {}
        for one, made in zip(self.calls, self.made, strict=True):
            if made not in (0, stream) and since < one.ended < until and self._same_shape(made, stream):
                known = updates.get(made, one)
                updates[made] = one if one.ended > known.ended else known
        x = self._values(stream)
        for time, number in self.appearances:
            if not attention.at < time < until or number == stream or not self._same_shape(number, stream):
                continue
            added = self._values(number) - x
            length = float(torch.linalg.vector_norm(self._values(number)))
            for (of_left, left), (of_right, right) in permutations(updates.items(), 2):
                if left.ended <= attention.at or max(left.ended, right.ended) > time or number in (of_left, of_right):
                    continue
                if right.began < attention.at < right.ended:
                    continue
                sums = self._values(of_left) + self._values(of_right)
                if self._adds_up(added, sums, length) and self._leads(attention, of_left):
                    return _Both(left, right, number, time)
        return None

    def _leads(self, attention: Attended, goal: int) -> bool:
        """Whether what the heads put out leads to a tensor."""
        if attention.packed:
            return any(
                one.began < attention.at < one.ended and made == goal
                for one, made in zip(self.calls, self.made, strict=True)
            )
        return self._steps(self.numbers.of(attention.mixed), goal, attention.at, []) is not None

    def _parallel_block(self, i: int, attention: Attended, stream: int, since: int, both: _Both) -> Block:
        normed, _ = self._reader(i, stream, since, attention.at, attention.at)
        normed_mid, _ = self._reader(i, stream, since, both.ffn.ended, both.ffn.ended - 1, within=both.ffn)
        return Block(
            module=self._enclosing(attention, lambda k: self.given[k] == stream and self.made[k] == both.stream),
            heads=attention.heads,
            normed=normed,
            path=self._path(i, attention, both.attention),
            update=both.attention.module,
            mid=None,
            normed_mid=normed_mid,
            ffn_update=both.ffn.module,
            parallel=True,
        )

    def _adds_up(self, added: Tensor, update: Tensor, length: float) -> bool:
        """Whether an update is what was added to a stream, which then had this length; to rounding where it is tiny."""
        error, size = (float(torch.linalg.vector_norm(one)) for one in (added - update, update))
        rounding = _ROUNDINGS * torch.finfo(self.images.dtype).eps * length
        return error <= _TOLERANCE * length and error <= max(_OF_UPDATE * size, rounding)

    def _same_shape(self, number: int, other: int) -> bool:
        return self._shape(number) == self._shape(other)

    def _scale(self, scaled: Tensor, plain: Tensor) -> Tensor | None:
        """The parameter, a number or one for each channel, that turns a tensor (B, N, D) into another."""
        weight = plain.square().sum((0, 1))
        if not bool((weight > 0).all()):
            return None
        measured = (scaled * plain).sum((0, 1)) / weight
        error = torch.linalg.vector_norm(scaled - measured * plain)
        if not float(error) <= _OF_UPDATE * float(torch.linalg.vector_norm(scaled)):
            return None
        for one in self.vectors:
            vector = one.detach().reshape(-1)
            if len(vector) in (1, len(measured)) and torch.allclose(
                vector.double().expand_as(measured), measured, rtol=_OF_UPDATE, atol=_TOLERANCE
            ):
                return vector.expand_as(measured)
        return None

    def _block(self, i: int, attention: Attended, stream: int, since: int, first: _Stage, second: _Stage) -> Block:
        normed, _ = self._reader(i, stream, since, attention.at, attention.at)
        update, ffn_update = self._update(first, attention.at), self._update(second, first.at)
        normed_mid, reads = self._reader(i, first.stream, first.at, second.at, ffn_update.ended - 1)
        path = self._path(i, attention, update)
        scale = first.scale
        module = self._enclosing(attention, lambda k: self.given[k] == stream and self.made[k] == second.stream)
        return Block(
            module=module,
            heads=attention.heads,
            normed=normed,
            path=path if scale is None else (*path, scale),
            update=update.module,
            mid=normed_mid if normed_mid is not None else reads,
            normed_mid=normed_mid,
            ffn_update=ffn_update.module,
            scale=scale,
            ffn_scale=second.scale,
        )

    def _enclosing(self, attention: Attended, fits: Callable[[int], bool]) -> nn.Module | None:
        """The outermost call around this attention, and around no other, that fits."""
        others = [one.at for one in self.attentions if one is not attention]
        for k, one in enumerate(self.calls):
            around = one.began < attention.at < one.ended
            if around and fits(k) and not any(one.began < at < one.ended for at in others):
                return one.module
        return None

    def _update(self, stage: _Stage, after: int) -> Call:
        """The call whose output is added: one of a module that is called once, if there is; of these the last."""
        made = [
            one
            for one, number in zip(self.calls, self.made, strict=True)
            if number == stage.update and after < one.ended <= stage.at
        ]
        return max(made, key=lambda one: (self.count[one.module] == 1, one.ended))

    def _reader(
        self, i: int, stream: int, since: int, until: int, around: int, within: Call | None = None
    ) -> tuple[nn.Module | None, nn.Module]:
        """The norm between the stream and what attention, or the FFN, reads, None where it reads the stream itself; and
        the module that reads it.

        What it reads is what the first module with a matrix of weights is given, or else the innermost module around.
        """
        first = since if within is None else within.began
        reads = [
            k
            for k, one in enumerate(self.calls)
            if first <= one.began < until and _has_matrix(one.module) and self._is_tokens(self.given[k])
        ]
        if not reads:
            reads = [
                k
                for k, one in enumerate(self.calls)
                if since <= one.began < around < one.ended and self._is_tokens(self.given[k])
            ][-1:]
        if not reads:
            raise self._refuse(f"no module in block {i} that reads the stream.")
        read = self.given[reads[0]]
        if read == stream:
            return None, self.calls[reads[0]].module
        norms = [
            one
            for k, one in enumerate(self.calls)
            if self.made[k] == read and self.given[k] == stream and since <= one.began < until
        ]
        if not norms:
            raise self._refuse(
                f"that what is read in block {i} is made of the stream by no module (a norm written as a "
                "function, which a module can hold; or tokens are mixed, moved or changed before they are read)."
            )
        return norms[-1].module, self.calls[reads[0]].module

    def _is_tokens(self, number: int) -> bool:
        return bool(number) and self._is_stream(number)

    def _path(self, i: int, attention: Attended, update: Call) -> tuple[nn.Module | Tensor, ...]:
        """What the heads pass on their way to what is added."""
        goal = self.numbers.of(update.made)
        if attention.packed:
            around = [k for k, one in enumerate(self.calls) if one.began < attention.at < one.ended]
            inner = next((k for k in reversed(around) if isinstance(self.calls[k].module, nn.MultiheadAttention)), None)
            if inner is None:
                raise self._refuse(f"an attention in block {i} without a module that holds its output projection.")
            start, first = self.made[inner], [self.calls[inner].module.out_proj]
        else:
            start, first = self.numbers.of(attention.mixed), []
        path = self._steps(start, goal, attention.at, first)
        if path is None:
            raise self._refuse(
                f"no chain of modules in block {i} from what its heads put out, side by side, to what is added to the "
                "stream (a gate, heads in another order, a projection written as a function)."
            )
        return tuple(path)

    def _steps(
        self, at: int, goal: int, after: int, sofar: list[nn.Module | Tensor]
    ) -> list[nn.Module | Tensor] | None:
        """Modules, innermost first, that lead from one tensor to another; a parameter may scale in between."""
        if at == goal:
            return sofar
        if len(sofar) > _MOST_STAGES:
            return None
        steps = [
            (one, self.made[k])
            for k, one in enumerate(self.calls)
            if self.given[k] == at and one.began > after and self.made[k] not in (0, at)
        ]
        for one, made in sorted(steps, key=lambda step: -step[0].began):
            found = self._steps(made, goal, one.began, [*sofar, one.module])
            if found is not None:
                return found
        if sofar and self._same_shape(at, goal):
            scale = self._scale(self._values(goal), self._values(at))
            if scale is not None:
                return [*sofar, scale]
        return None

    # around the blocks

    def _embedding(self) -> tuple[nn.Module | None, tuple[int, int]]:
        """What makes the patches, and how many rows and columns of them there are."""
        height, width = self.images.shape[2:]
        start = self.attentions[0].at
        found: tuple[Call, tuple[int, int]] | None = None
        for one in self.calls:
            made = one.made
            if made is None or one.ended > start or made.shape[0] != len(self.images):
                continue
            if len(made.shape) == 4:
                grid = (made.shape[2], made.shape[3])
                if self._tiles(grid) and self.count[one.module] == 1:
                    found = one, grid
        if found is not None:
            self._check_tiled(*found)
            return found[0].module, found[1]
        for one in self.calls:
            made = one.made
            if made is None or one.ended > start or len(made.shape) != 3 or not self._fits(made.shape[1]):
                continue
            squares = _square_grid(height, width, made.shape[1])
            if squares is not None and _has_matrix(one.module) and self.count[one.module] == 1:
                return one.module, squares
        for patches in range(self.tokens, max(0, self.tokens - _MOST_PREFIX) - 1, -1):
            squares = _square_grid(height, width, patches)
            if squares is not None:
                return None, squares
        raise self._refuse(f"{self.tokens} tokens, which no grid of patches of a {height} x {width} picture gives.")

    def _check_tiled(self, call: Call, grid: tuple[int, int]) -> None:
        """A convolution of the picture into patches leaves out what no whole patch covers."""
        size, module = tuple(self.images.shape[2:]), call.module
        of_picture = call.given is not None and call.given.shape[2:] == size
        if not of_picture or not isinstance(module, nn.Conv2d) or module.kernel_size != module.stride:
            return
        patch = module.stride
        if (grid[0] * patch[0], grid[1] * patch[1]) != size:
            raise InvalidImagesError(
                f"{self.name}: expected a size divisible by the patch size {tuple(patch)}; got {size}. Resize or crop."
            )

    def _fits(self, patches: int) -> bool:
        return 0 <= self.tokens - patches <= _MOST_PREFIX and patches > 0

    def _tiles(self, grid: tuple[int, int]) -> bool:
        height, width = self.images.shape[2:]
        return self._fits(math.prod(grid)) and height % grid[0] == 0 and width % grid[1] == 0

    def _final(self, last: int, end: int) -> nn.Module | None:
        """The norm that is given the last block's stream."""
        for k, one in enumerate(self.calls):
            reads = one.began >= end and self.given[k] == last
            changes = self._is_tokens(self.made[k]) and self.made[k] != last
            if reads and changes and _is_norm(one.module):
                return one.module
        return None

    def _puts_out(self, last: int, end: int) -> nn.Module:
        for k, one in enumerate(self.calls):
            if one.ended >= end and self.made[k] == last and self.count[one.module] == 1:
                return one.module
        raise self._refuse("no module that reads, or puts out, the stream of the last block whole.")

    def _pool(self, end: int, answer: Any) -> tuple[nn.Module | None, Literal["token", "avg"]]:
        """The innermost module that holds an attention by few queries behind the blocks, if the answer (B, K) reads it,
        and which of its queries.
        """
        for attention in self.seen.attentions:
            if attention.at > end and attention.shape is not None and isinstance(answer, Tensor):
                around = [one.module for one in self.calls if end <= one.began < attention.at < one.ended]
                if around and node_of(attention.made) in leads_to(answer, []):
                    return around[-1], "token" if attention.shape[2] == 1 or self._reads_first(
                        answer, attention
                    ) else "avg"
        return None, "token"

    def _reads_first(self, answer: Tensor, attention: Attended) -> bool:
        """Whether the answer (B, K) reads the first query of an attention alone."""
        weighted = answer * torch.randn(answer.shape, generator=torch.Generator().manual_seed(0)).to(answer)
        (gradient,) = torch.autograd.grad(weighted.sum(), attention.made, retain_graph=True)
        others = gradient[1:] if attention.packed else gradient[..., 1:, :]
        return not bool(others.any())


_MOST_STAGES = 6
"""Most modules between heads and stream."""


def _is_norm(module: nn.Module) -> bool:
    """A norm of torch or timm, or a module that holds no more than vectors."""
    if isinstance(module, NORMS):
        return True
    parameters = list(module.parameters())
    return bool(parameters) and all(one.ndim <= 1 or one.numel() == one.shape[-1] for one in parameters)


def _has_matrix(module: nn.Module) -> bool:
    """Whether a module multiplies with weights of its own, or holds nothing but others that do."""
    return any(one.ndim >= 2 for one in module._parameters.values() if one is not None) or hasattr(
        module, "in_features"
    )


def _square_grid(height: int, width: int, patches: int) -> tuple[int, int] | None:
    """Rows and columns of square patches that tile a picture."""
    side = math.isqrt(height * width // patches)
    if side * side * patches != height * width or height % side or width % side:
        return None
    return height // side, width // side
