"""Cutting clips in pieces along time and joining them, with memory for a piece."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

_TIME = 2


def regroup(parts: Iterable[Tensor], lengths: Iterable[int]) -> Iterator[Tensor]:
    """Cut consecutive parts of a clip anew.

    Args:
        parts: ``B D n h w``, of any lengths; taken one by one, when they are needed.
        lengths: of the pieces.

    Yields:
        Pieces ``B D length h w``, as long as there are frames; the last one may be shorter.
    """
    source, rest = iter(parts), None
    for length in lengths:
        piece = list[Tensor]()
        missing = length
        while missing and (part := next(source, None) if rest is None else rest) is not None:
            piece.append(part[:, :, :missing])
            rest = part[:, :, missing:] if part.shape[_TIME] > missing else None
            missing -= piece[-1].shape[_TIME]
            del part
        if not piece:
            return
        joint = piece[0] if len(piece) == 1 else torch.cat(piece, _TIME)
        piece.clear()
        yield joint
        del joint


def joined(pieces: Iterable[Tensor], length: int, *, dim: int) -> Tensor:
    """Return consecutive pieces as one tensor.

    Without gradients each piece is written to its place as it comes, so that there is never more
    than the result and a piece.

    Args:
        pieces: equal in shape but for ``dim``.
        length: their sum along ``dim``.
        dim: to join along.
    """
    if torch.is_grad_enabled():
        return torch.cat(list(pieces), dim)
    out: Tensor | None = None
    start = 0
    for piece in pieces:
        num = piece.shape[dim]
        if num == length:
            return piece
        if out is None:
            out = piece.new_empty([*piece.shape[:dim], length, *piece.shape[dim + 1 :]])
        out.narrow(dim, start, num).copy_(piece)
        start += num
        del piece
    if out is None or start != length:
        raise ValueError(f"pieces have {start} of {length} entries along dimension {dim}")
    return out
