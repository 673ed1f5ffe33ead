"""Videos with known edits: shots drawn here or taken from real clips, joined at known frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Shot = Callable[[int], Image]
"""Gives the frame of that number, from 0, ``H W C`` RGB."""
Camera = Literal["static", "slow", "fast", "whip", "zoom", "shake"]
Light = Literal["even", "drift", "flash", "strobe"]
Join = Literal["cut", "dissolve", "black", "white"]

HEIGHT, WIDTH = 144, 256
_WORLD = 1024
_NUM_SHOTS = 9
_CAMERAS: tuple[Camera, ...] = ("static", "slow", "fast", "whip", "zoom", "shake")
_LIGHTS: tuple[Light, ...] = ("even", "even", "even", "even", "drift", "drift", "flash", "strobe")


class Transition(NamedTuple):
    """Frames ``[start, end)`` that show two shots at once, or one shot and a colour."""

    start: int
    end: int
    kind: Join


@dataclass
class Edited:
    """A video and where it was edited; a cut is the number of the first frame of the new shot."""

    name: str
    frames: list[Image] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    transitions: list[Transition] = field(default_factory=list)

    def show(self, shot: Shot, start: int, count: int) -> None:
        """Go on with these frames of a shot."""
        self.frames.extend(shot(start + index) for index in range(count))

    def mix(self, before: Shot, after: Shot, length: int, kind: Join) -> None:
        """Go on with frames that go over from one shot to another."""
        start = len(self.frames)
        for index in range(length):
            share = (index + 1) / (length + 1)
            mixed = cv2.addWeighted(before(index), 1 - share, after(index), share, 0.0)
            self.frames.append(np.asarray(mixed, dtype=np.uint8))
        self.transitions.append(Transition(start, start + length, kind))


def rendered(num_videos: int, seed: int) -> Iterator[Edited]:
    """Draw videos of some shots each, joined in all ways."""
    for number in range(num_videos):
        rng = np.random.default_rng([seed, number])
        # Every third video is of one place only: its shots look alike.
        world = _world(rng) if number % 3 == 0 else None
        shots = [_drawn_shot(rng, world) for _ in range(_NUM_SHOTS)]
        yield join(f"rendered {number}", shots, rng)


def one_takes(seed: int) -> Iterator[Edited]:
    """Draw videos without any edit, of each camera in each light."""
    for number, camera in enumerate(_CAMERAS):
        for light in ("even", "drift", "flash", "strobe"):
            rng = np.random.default_rng([seed, 1000 + number])
            video = Edited(f"one take, {camera}, {light}")
            video.show(_view(rng, _world(rng), camera, light), 0, 120)
            yield video


def composed(clips: Sequence[Sequence[Image]], num_videos: int, seed: int) -> Iterator[Edited]:
    """Join pieces of real takes."""
    for number in range(num_videos):
        rng = np.random.default_rng([seed, 2000 + number])
        chosen = rng.choice(len(clips), _NUM_SHOTS, replace=len(clips) < _NUM_SHOTS)
        shots = [_piece(rng, clips[index]) for index in chosen]
        yield join(f"composed {number}", shots, rng)


def join(name: str, shots: Sequence[Shot], rng: np.random.Generator) -> Edited:
    """Join shots by hard cuts, dissolves of 8 to 48 frames, and fades."""
    video = Edited(name)
    shown = 0
    for number, shot in enumerate(shots):
        count = int(rng.integers(18, 50))
        video.show(shot, shown, count)
        shown += count
        if number + 1 == len(shots):
            return video
        after = shots[number + 1]
        kind = rng.choice(["cut", "cut", "cut", "dissolve", "dissolve", "black", "white"])
        before = _from(shot, shown)
        if kind == "cut":
            video.cuts.append(len(video.frames))
            shown = 0
        elif kind == "dissolve":
            length = int(rng.integers(8, 49))
            video.mix(before, after, length, "dissolve")
            shown = length
        else:
            shown = _fade(video, before, after, kind, rng)
    return video


def _fade(video: Edited, before: Shot, after: Shot, kind: Join, rng: np.random.Generator) -> int:
    """Fade out and in; return how many frames of the second shot were used."""
    flat = np.full((HEIGHT, WIDTH, 3), 0 if kind == "black" else 255, np.uint8)
    out, held, back = (int(rng.integers(*span)) for span in ((8, 32), (1, 12), (8, 32)))
    start = len(video.frames)
    video.mix(before, lambda _: flat, out, kind)
    video.show(lambda _: flat, 0, held)
    video.mix(lambda _: flat, after, back, kind)
    del video.transitions[-2:]
    video.transitions.append(Transition(start, len(video.frames), kind))
    return back


def _from(shot: Shot, start: int) -> Shot:
    return lambda index: shot(start + index)


def _piece(rng: np.random.Generator, clip: Sequence[Image]) -> Shot:
    """Return a shot that plays a clip from some frame on, and back again where it ends."""
    first = int(rng.integers(0, max(1, len(clip) - 110)))
    last = len(clip) - 1

    def shot(index: int) -> Image:
        turn = (first + index) % max(1, 2 * last)
        return clip[turn if turn <= last else 2 * last - turn]

    return shot


def _drawn_shot(rng: np.random.Generator, world: Image | None) -> Shot:
    camera, light = (
        (*_CAMERAS, "static", "slow")[rng.integers(len(_CAMERAS) + 2)],
        _LIGHTS[rng.integers(len(_LIGHTS))],
    )
    return _view(rng, _world(rng) if world is None else world, camera, light)


def _world(rng: np.random.Generator) -> Image:
    """Paint a large picture: clouds of two colours, and things on it."""
    clouds = np.zeros((_WORLD, _WORLD), np.float32)
    for cells in (4, 12, 40, 160):
        noise = rng.normal(size=(cells, cells)).astype(np.float32) * cells**-0.5
        clouds += cv2.resize(noise, (_WORLD, _WORLD), interpolation=cv2.INTER_CUBIC)
    share = (1 / (1 + np.exp(-2 * clouds / clouds.std())))[..., None]
    dark, bright = rng.uniform(0, 140, 3), rng.uniform(60, 255, 3)
    picture = np.ascontiguousarray((1 - share) * dark + share * bright, dtype=np.uint8)
    for _ in range(60):
        x, y, a, b = (int(value) for value in rng.integers(8, [_WORLD, _WORLD, 90, 90]))
        color = [int(value) for value in rng.integers(0, 256, 3)]
        cv2.ellipse(picture, ((x, y), (a, b), float(rng.uniform(0, 180))), color, -1)
    return picture


def _view(rng: np.random.Generator, world: Image, camera: Camera, light: Light) -> Shot:
    """Return a shot of a camera that moves over a picture, with things that move before it."""
    place, angle = rng.uniform(300, _WORLD - 300, 2), rng.uniform(0, 2 * np.pi)
    speed = {"slow": rng.uniform(0.3, 2), "fast": rng.uniform(3, 8), "whip": 2.0}.get(camera, 0.0)
    shake = 1.5 if camera == "shake" else 0.0
    zoom, growth = rng.uniform(0.7, 1.5), rng.choice([0.985, 1.015]) if camera == "zoom" else 1.0
    seed = int(rng.integers(2**31))
    grain = rng.normal(size=(HEIGHT + 64, WIDTH + 64, 3)).astype(np.float32)
    grain *= rng.choice([0, 0, 3, 8])
    things = [(rng.uniform(0, 1, 2), rng.uniform(-0.03, 0.03, 2), rng.integers(0, 256, 3))
              for _ in range(rng.integers(0, 4))]  # fmt: skip
    flash, slope = int(rng.integers(5, 12)), rng.choice([-0.006, 0.006])

    def shot(index: int) -> Image:
        own = np.random.default_rng([seed, index])
        way = speed * index + (_whips(index) if camera == "whip" else 0.0)
        at = place + way * np.array([np.cos(angle), np.sin(angle)]) + own.normal(0, 1, 2) * shake
        scale = zoom * growth ** min(index, 110)
        matrix = np.array([[scale, 0, WIDTH / 2 - scale * at[0]],
                           [0, scale, HEIGHT / 2 - scale * at[1]]])  # fmt: skip
        image = cv2.warpAffine(
            world, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
        )
        for where, pace, color in things:
            x, y = (where + pace * index) % 1.4 - 0.2
            center = (int(x * WIDTH), int(y * HEIGHT))
            cv2.circle(image, center, 22, [int(value) for value in color], -1)
        top, left = own.integers(0, 64, 2)
        value = image * np.float32(_gain(light, index, flash, slope))
        value += grain[top : top + HEIGHT, left : left + WIDTH]
        return np.asarray(np.clip(value, 0, 255), dtype=np.uint8)

    return shot


def _gain(light: Light, index: int, flash: int, slope: float) -> float:
    if light == "drift":
        return float(np.clip(1 + slope * index, 0.5, 1.6))
    if light == "flash":
        return 2.2 if index % 37 == flash else 1.0
    if light == "strobe":
        return 1.7 if index % 20 < 10 and index % 3 == 0 else 1.0  # noqa: PLR2004 (a burst)
    return 1.0


def _whips(index: int) -> float:
    """Return how far a camera has gone that is flung on once in 50 frames, in some ten of them."""
    turns, phase = divmod(index, 50)
    return float(250 * (turns + 1 / (1 + np.exp(25 - phase))))
