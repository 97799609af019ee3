"""Prefix trees of tokenized prompts: every beginning that several prompts have in common is computed once.

`tokenized` turns chats into rows of tokens; `grow` merges rows into a tree, which is one sequence in
depth-first order; `Grove` is a batch of trees as tensors, with mask and positions. SGLang calls the one-level
form multi-item scoring. The tree itself (`Tree`, `grow`) needs no torch.

Knows nothing of what is asked, nor of how the model computes it.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from .vision import Features, Sight

Ints = np.ndarray[Any, np.dtype[np.int64]]


# --- prefix trees ---------------------------------------------------------------------------------


class Tree(NamedTuple):
    """Prefix tree of several rows as one sequence of T tokens in depth-first order.

    `source` (T, 2) is the row and the place in that row of each token. `paths` holds for each row the places
    of its tokens in the sequence. The token at place i sees place j exactly when j <= i < ends[j].
    """

    # Why one number per token is enough for the mask: a token may look at its own path to the root and at
    # nothing else, so j is visible from i when i lies in the subtree of j. Depth-first order puts a subtree
    # into one unbroken stretch, from j itself to ends[j]: membership is an interval test.

    source: Ints
    paths: list[Ints]
    ends: Ints

    def __len__(self) -> int:
        return len(self.source)


def grow(rows: Sequence[Ints]) -> Tree:
    """Prefix tree of rows.

    Args:
        rows: an identity of each token, as a number: equal numbers at equal places after an equal beginning
            mean the same computation. Two pictures' tokens must differ though their ids do not.
    """
    paths: list[Ints] = [np.empty(0, np.int64)] * len(rows)
    source: list[Ints] = []
    size = 0
    before = np.empty(0, np.int64)
    path = np.empty(0, np.int64)
    # In sorted order a row has the longest beginning in common with the row just before it, so comparing
    # neighbours finds every merge, and appending only the fresh rest of each row gives depth-first order.
    # Bytes sort as the numbers do because they are big-endian and never negative.
    for index in sorted(range(len(rows)), key=lambda index: rows[index].astype(">i8").tobytes()):
        row = rows[index]
        common = shared_length(before, row)
        fresh = len(row) - common
        path = np.concatenate([path[:common], np.arange(size, size + fresh)])
        source.append(np.stack([np.full(fresh, index), np.arange(common, len(row))], axis=1))
        size += fresh
        paths[index] = path
        before = row
    ends = np.zeros(size, np.int64)
    # A subtree ends behind the last token of the last row that passes through its root.
    for path in paths:
        ends[path] = np.maximum(ends[path], path[-1] + 1 if len(path) else 0)
    return Tree(np.concatenate(source) if source else np.empty((0, 2), np.int64), paths, ends)


def shared_length(first: Ints, second: Ints) -> int:
    """Number of tokens that two rows have in common from their beginning."""
    length = min(len(first), len(second))
    differ = np.flatnonzero(first[:length] != second[:length])
    return int(differ[0]) if differ.size else length


# --- tokenized prompts ----------------------------------------------------------------------------

ROW = 4096
"""Tokens of one tree, unless a single row is longer: a mask grows with the square of them."""
TEXT, IMAGE, VIDEO = 0, 1, 2


class Prompt(NamedTuple):
    """One tokenized question of L tokens: `ids`, `kinds` (TEXT, IMAGE or VIDEO) and `own` identities, (L,)
    each.

    Two tokens have the same identity when they have the same id and, if they stand for a picture, the same
    picture. `begins` is the place of the first token of each of `sights`; `span` the number of tokens at the
    end that are not the prompt's own but the continuation to be scored.
    """

    ids: Ints
    kinds: Ints
    own: Ints
    sights: tuple[Sight, ...]
    begins: tuple[int, ...]
    share: Hashable
    span: int = 0


def tokenized(
    processor: Any, chats: Sequence[str], sights: Sequence[tuple[Sight, ...]], shares: Sequence[Hashable]
) -> list[Prompt]:
    """Tokenized chats, in which each picture or clip is one placeholder, as the processor itself would do it.

    Args:
        processor: the checkpoint's own; its tokenizer must not run elsewhere meanwhile.
        chats: from the chat template.
        sights: what the placeholders of each chat stand for, in their order.
        shares: prompts of different shares are never merged.
    """
    ids = {"image": processor.image_token_id, "video": processor.video_token_id}
    texts = [_with_clips(chat, seen, processor.video_token) for chat, seen in zip(chats, sights, strict=True)]
    numbers: dict[Any, int] = {}
    prompts = []
    encoded = processor.tokenizer(texts, add_special_tokens=False)["input_ids"]
    for short, seen, share in zip(encoded, sights, shares, strict=True):
        row = np.array(short, np.int64)
        pictures = iter([sight.tokens for sight in seen if sight.kind == "image"])
        repeats = [next(pictures) if token == ids["image"] else 1 for token in short]
        row = np.repeat(row, repeats)
        kinds = np.select([row == ids["image"], row == ids["video"]], [IMAGE, VIDEO], TEXT)
        own, begins = row.copy(), []
        free = {kind: np.flatnonzero(row == ids[kind]) for kind in ids}
        for sight in seen:
            places, free[sight.kind] = np.split(free[sight.kind], [sight.tokens])
            own[places] = (1 << 32) + numbers.setdefault(sight.key, len(numbers))
            begins.append(int(places[0]))
        prompts.append(Prompt(row, kinds, own, seen, tuple(begins), share))
    return prompts


def _with_clips(chat: str, seen: tuple[Sight, ...], token: str) -> str:
    """The chat with each clip's placeholder replaced by its frames' and their times."""
    clips = [sight.text for sight in seen if sight.kind == "video"]
    pieces = chat.split(token)
    if len(pieces) != len(clips) + 1:
        raise ValueError(f"{len(pieces) - 1} places for {len(clips)} clips in the prompt")
    return "".join(piece + clip for piece, clip in zip(pieces, [*clips, ""], strict=True))


# --- batches of trees -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Grove:
    """Batch of prompts: trees of prompts as tensors on the CPU, padded on the right to the longest, T.

    `members[b]` are the prompts of tree b, in the order of its paths. `ids` and `ends` are (B, T).
    """

    prompts: list[Prompt]
    trees: list[Tree]
    members: list[list[int]]
    ids: torch.Tensor
    ends: torch.Tensor

    @classmethod
    def of(cls, prompts: list[Prompt], pad: int, *, merge: bool = True) -> "Grove":
        """The batch of these prompts; without `merge` every prompt is a tree of its own."""
        members = _groups(prompts) if merge else [[index] for index in range(len(prompts))]
        trees = [grow([prompts[index].own for index in group]) for group in members]
        width = max(map(len, trees))
        ids = torch.full((len(trees), width), pad)
        ends = torch.arange(1, width + 1).repeat(len(trees), 1)  # padding sees itself alone
        for number, (tree, group) in enumerate(zip(trees, members, strict=True)):
            ids[number, : len(tree)] = torch.from_numpy(_spread(tree, [prompts[i].ids for i in group]))
            ends[number, : len(tree)] = torch.from_numpy(tree.ends)
        return cls(prompts, trees, members, ids, ends)

    def mask(self, device: torch.device) -> torch.Tensor | None:
        """Attention mask (B, 1, T, T), True where row i may look at column j; None where causal attention
        will do.

        It does when no tree branches: a token never sees the padding, which comes after it.
        """
        if all(len(group) == 1 for group in self.members):
            return None
        place = torch.arange(self.ids.shape[1], device=device)
        ends = self.ends.to(device)[:, None, None, :]
        return (place <= place[:, None]) & (place[:, None] < ends)

    def positions(self, model: Any) -> torch.Tensor:
        """Positions (4, B, T): each token's index in its own row, then M-RoPE's time, height and width."""
        # A branch's positions go on where its own path ends, not where the token before it in the sequence
        # stands: merged, a row must get the positions that it has alone.
        # Past the end they count on: transformers takes a jump back for the next of several packed texts.
        positions = torch.arange(self.ids.shape[1]).repeat(4, len(self.trees), 1)
        rotary = self._rotary(model)
        for number, (tree, group) in enumerate(zip(self.trees, self.members, strict=True)):
            for row in sorted(range(len(group)), key=lambda row: tree.paths[row].tolist()):
                path = torch.from_numpy(tree.paths[row])
                fresh = torch.from_numpy(tree.source[tree.paths[row]][:, 0] == row)
                positions[0, number, path] = torch.arange(len(path))
                if group[row] in rotary:
                    positions[1:, number, path[fresh]] = rotary[group[row]][:, fresh]
                else:  # nothing but text after a beginning whose positions are known: it counts on from there
                    common = int(len(path) - fresh.sum())
                    last = positions[1:, number, path[common - 1]]
                    steps = torch.arange(1, len(path) - common + 1)
                    positions[1:, number, path[fresh]] = last[:, None] + steps
        return positions

    def indices(self) -> torch.Tensor:
        """Each token's index in its own row, (1, B, T)."""
        indices = torch.arange(self.ids.shape[1]).repeat(1, len(self.trees), 1)
        for number, tree in enumerate(self.trees):
            for path in map(torch.from_numpy, tree.paths):
                indices[0, number, path] = torch.arange(len(path))
        return indices

    def _rotary(self, model: Any) -> dict[int, torch.Tensor]:
        """M-RoPE positions (3, L), by the model's own rule, of prompts whose positions do not follow from
        another's."""
        wanted = []
        for tree, group in zip(self.trees, self.members, strict=True):
            for row, index in enumerate(group):
                prompt, own = self.prompts[index], tree.source[tree.paths[row]][:, 0] == row
                common = int(len(own) - own.sum())
                sees = any(own[begin] for begin in prompt.begins)
                if common == 0 or sees or prompt.kinds[common - 1] != TEXT:
                    wanted.append(index)
        width = max(len(self.prompts[index].ids) for index in wanted)
        ids, kinds, mask = (torch.zeros(len(wanted), width, dtype=torch.long) for _ in range(3))
        for place, index in enumerate(wanted):
            prompt = self.prompts[index]
            ids[place, : len(prompt.ids)] = torch.from_numpy(prompt.ids)
            kinds[place, : len(prompt.ids)] = torch.from_numpy(prompt.kinds)
            mask[place, : len(prompt.ids)] = 1
        seen = [sight for index in wanted for sight in self.prompts[index].sights]
        grids = {kind: [sight.grid for sight in seen if sight.kind == kind] for kind in ("image", "video")}
        seconds = [sight.seconds for sight in seen if sight.kind == "video"]
        found, _ = model.get_rope_index(
            input_ids=ids,
            mm_token_type_ids=kinds,
            attention_mask=mask,
            **{f"{kind}_grid_thw": torch.tensor(grid) for kind, grid in grids.items() if grid},
            **({"second_per_grid_ts": torch.tensor(seconds)} if seconds else {}),
        )
        return {index: found[:, place, : len(self.prompts[index].ids)] for place, index in enumerate(wanted)}

    @property
    def sights(self) -> list[Sight]:
        """Pictures and clips in the order in which their placeholders stand in `ids`, one for each."""
        ordered: list[Sight] = []
        for tree, group in zip(self.trees, self.members, strict=True):
            places = {}
            for row, index in enumerate(group):
                prompt = self.prompts[index]
                for sight, begin in zip(prompt.sights, prompt.begins, strict=True):
                    places[int(tree.paths[row][begin])] = sight
            ordered.extend(places[place] for place in sorted(places))
        return ordered

    def where(self) -> list[tuple[int, torch.Tensor]]:
        """Tree of each prompt, and the places of its tokens there."""
        found: dict[int, tuple[int, torch.Tensor]] = {}
        for number, (tree, group) in enumerate(zip(self.trees, self.members, strict=True)):
            for row, index in enumerate(group):
                found[index] = (number, torch.from_numpy(tree.paths[row]))
        return [found[index] for index in range(len(self.prompts))]


def _groups(prompts: list[Prompt]) -> list[list[int]]:
    """Indices of prompts that share a tree: equal shares, as many as fit ROW tokens."""
    groups: dict[Hashable, list[list[int]]] = {}
    sizes: dict[Hashable, int] = {}
    for index, prompt in enumerate(prompts):
        key = prompt.share if prompt.share is not None else ("alone", index)
        fresh = len(prompt.ids)
        if key in groups:
            fresh -= shared_length(prompts[groups[key][-1][0]].own, prompt.own)
        if key in groups and sizes[key] + fresh <= ROW:
            groups[key][-1].append(index)
            sizes[key] += fresh
        else:
            groups.setdefault(key, []).append([index])
            sizes[key] = len(prompt.ids)
    return [group for family in groups.values() for group in family]


def _spread(tree: Tree, rows: list[Ints]) -> Ints:
    """One number for each token of the tree, (T,), from one for each token of its rows."""
    out = np.empty(len(tree), np.int64)
    for row, path in zip(rows, tree.paths, strict=True):
        out[path] = row
    return out


def encoder_outputs(sights: list[Sight], features: dict[Any, Features]) -> dict[str, Any]:
    """`mm_encoder_outputs` of a forward: for pictures and clips, the features in the placeholders' order."""
    from transformers.modeling_outputs import BaseModelOutputWithPooling

    outputs: dict[str, Any] = {}
    for kind in ("image", "video"):
        of_kind = [features[sight.key] for sight in sights if sight.kind == kind]
        if of_kind:
            output = BaseModelOutputWithPooling(pooler_output=tuple(each.embedding for each in of_kind))
            levels = zip(*(each.deep for each in of_kind), strict=True)
            output.deepstack_features = [list(level) for level in levels]
            outputs[kind] = output
    return outputs
