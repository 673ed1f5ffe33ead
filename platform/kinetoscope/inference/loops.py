"""Frame arithmetic of clips that are made in several loops.

Each loop makes a clip of ``num_frames`` frames that begins with the last ``condition_frames``
frames of the clip before; these are dropped from it when the clips are joined.
"""

from __future__ import annotations

from dataclasses import dataclass

from kinetoscope.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Pieces:
    """How the video VAE cuts clips; the defaults are Open-Sora 1.2's.

    Attributes:
        frames: of a piece (`VideoVAEConfig.chunk_frames`); None never cuts.
        stride: frames per latent frame; the first latent frame of a piece has fewer when ``stride``
            does not divide the piece.
    """

    frames: int | None = 17
    stride: int = 4

    @property
    def latents(self) -> int | None:
        """Latent frames of a whole piece; None where clips are not cut."""
        return None if self.frames is None else -(-self.frames // self.stride)

    def boundaries(self, num_frames: int) -> list[int]:
        """Return how many frames the first 1, 2, ... latent frames of a clip hold."""
        found = []
        piece = self.frames or num_frames
        for start in range(0, num_frames, piece):
            length = min(piece, num_frames - start)
            first = self.stride - -length % self.stride
            found += [start + end for end in range(first, length + 1, self.stride)]
        return found


def condition_frames(num_frames: int, pieces: Pieces, wanted: int | None = None) -> int:
    """Return how many frames of a clip the next one begins with.

    They must end where a latent frame of the next clip ends, and leave frames to generate.

    Args:
        num_frames: of a clip.
        pieces: of the VAE.
        wanted: None takes one piece, of a clip that is no longer than that, about half.

    Raises:
        ConfigError: ``wanted`` is not possible, or the clip is too short to be continued.
    """
    possible = [frames for frames in pieces.boundaries(num_frames) if frames < num_frames]
    if not possible:
        raise ConfigError(
            f"a clip of {num_frames} frames has one latent frame and can't be continued",
            hint="ask for more frames, or for one loop",
        )
    if wanted is None:
        piece = pieces.frames or num_frames
        most = piece if num_frames > piece else num_frames // 2
        return max((frames for frames in possible if frames <= most), default=possible[0])
    if wanted not in possible:
        below = [frames for frames in possible if frames < wanted][-1:]
        above = [frames for frames in possible if frames > wanted][:1]
        nearest = " or ".join(str(frames) for frames in below + above)
        raise ConfigError(
            f"{wanted} condition frames don't end where a latent frame of a clip of {num_frames} "
            "frames ends",
            hint=f"give {nearest}",
        )
    return wanted
