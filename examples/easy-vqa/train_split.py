"""The train split of easy-VQA, as tensors. The test split is not read here.

An image of easy-VQA shows one shape of one colour on a plain background.
"""

from __future__ import annotations

import collections
import dataclasses

import easy_vqa
import numpy as np
import torch
from PIL import Image

SHAPES = ["circle", "rectangle", "triangle"]
COLOURS = ["black", "gray", "red", "blue", "green", "brown", "teal", "yellow"]
UNKNOWN = -100  # the class index that torch's cross entropy ignores
HELD_OUT = 200  # the last images of the split, kept for measuring progress
EDGE_CONTRAST = 12  # summed difference of the three channels (0 to 765) that is not background


@dataclasses.dataclass(frozen=True)
class TrainSplit:
    """The images, in the order of their ids, and what was asked about each."""

    pixels: torch.Tensor  # (images, 3, 64, 64) uint8, RGB
    asked: list[list[tuple[str, str]]]  # for each image its (question, answer) pairs
    shape: torch.Tensor  # (images,) int64, index into SHAPES or UNKNOWN
    colour: torch.Tensor  # (images,) int64, index into COLOURS or UNKNOWN
    box: torch.Tensor  # (images, 4) int64: first and last row, first and last column of the shape

    @property
    def learned(self) -> int:
        """Number of leading images to learn from; the others are held out."""
        return len(self.pixels) - HELD_OUT

    @property
    def held_out(self) -> torch.Tensor:
        """Indexes of the held-out images, (HELD_OUT,) int64."""
        return torch.arange(self.learned, len(self.pixels))


def load() -> TrainSplit:
    """Read the train split from the installed easy-vqa package (a few seconds)."""
    about: dict[int, list[tuple[str, str]]] = collections.defaultdict(list)
    for question, answer, image_id in zip(*easy_vqa.get_train_questions(), strict=True):
        about[image_id].append((question, answer))
    paths = easy_vqa.get_train_image_paths()
    ids = sorted(paths)
    images = [np.array(Image.open(paths[image_id]).convert("RGB")) for image_id in ids]
    asked = [about[image_id] for image_id in ids]
    return TrainSplit(
        pixels=torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(),
        asked=asked,
        shape=torch.tensor([told_by(pairs, SHAPES) for pairs in asked]),
        colour=torch.tensor([told_by(pairs, COLOURS) for pairs in asked]),
        box=torch.tensor([find_shape(image) for image in images]),
    )


def told_by(pairs: list[tuple[str, str]], names: list[str]) -> int:
    """Return which of `names` the questions and answers about one image give away, or UNKNOWN.

    Three kinds do: an answer that is a name ("what color ...?" red), a name inside a "what ...?"
    question ("what color is the circle?"), and a yes or no that affirms a name.
    """
    for question, answer in pairs:
        if answer in names:
            return names.index(answer)
        words = question.rstrip("?").split()
        named = [names.index(word) for word in words if word in names]
        denies = "not" in words or "no" in words
        if named and (words[0] == "what" or (answer == "yes") != denies):
            return named[0]
    return UNKNOWN


def find_shape(image: np.ndarray) -> tuple[int, int, int, int]:
    """Return the first and last row, first and last column that differ from the background.

    image: (height, width, 3) uint8. The background is the commonest colour.
    """
    colours, counts = np.unique(image.reshape(-1, 3), axis=0, return_counts=True)
    background = colours[counts.argmax()]
    mask = np.abs(image.astype(int) - background).sum(axis=-1) > EDGE_CONTRAST
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])


def augment(split: TrainSplit, index: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Return the images at `index`, each shape moved to a random place and half of them mirrored.

    index: (batch,) int64; result: (batch, 3, 64, 64) uint8. The background is plain, so rolling
    the whole image moves the shape; the box keeps it from being cut at an edge.
    """
    size = split.pixels.shape[-1]
    top, bottom, left, right = split.box[index].unbind(1)
    draw = torch.rand(len(index), 3, generator=rng)
    down = (draw[:, 0] * (size - bottom + top)).long() - top
    across = (draw[:, 1] * (size - right + left)).long() - left
    at = torch.arange(size)
    moved = split.pixels[index][
        torch.arange(len(index))[:, None, None, None],
        torch.arange(3)[None, :, None, None],
        ((at - down[:, None]) % size)[:, None, :, None],
        ((at - across[:, None]) % size)[:, None, None, :],
    ]
    mirrored = draw[:, 2] < 0.5
    return torch.where(mirrored[:, None, None, None], moved.flip(3), moved)
