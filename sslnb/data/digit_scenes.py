"""Embedded data: real handwritten digits blended onto crops of real photographs, made in seconds with no download."""

import functools
import math

import torch
from torch import Tensor

from sslnb.core.checks import expect
from sslnb.data.images import ImageSet, choose_per_class, others

# Of each split; there are 1,797 glyphs, each of which comes in several scenes of its split alone.
SCENES = {"train": 10_000, "val": 1_000, "test": 2_000}
SIDE = 32  # px of a scene
STAGE = 44  # px of a background: a glyph stands in its middle, and a scene is a window onto it that holds the glyph
GLYPH_SIDES = (20, 28)  # px, both included: large enough to read, small enough to leave background on every side
BLEND = 0.8  # share of the tint in a fully inked pixel; the photograph shows through the rest
CHROMA = 0.03  # how far the tint's colour leaves grey; a strong hue would tell instances apart better than the digit
INK = (0.3, 0.65)  # coverage where the glyph begins, and where it is fully inked, so that its outline is crisp
PHOTO_SCALE = 2  # photographs are halved first: at full size most crops are plain sky or one petal
SPLIT_SEED = 1797  # constant: which glyph is in which split, and which crops exist, never depend on the user's seed
_CHUNK = 2_048  # scenes composed at a time; bounds the float memory, changes no number


def digit_scenes(
    split: str = "train",
    *,
    scenes: int | None = None,
    backgrounds: int | None = 4,
    background_bias: float = 0.0,
    tint_bias: float = 0.0,
    contrast: float = 0.3,
    seed: int = 0,
) -> ImageSet:
    """Scenes of one digit each on a photograph: images [N,3,32,32], ten balanced classes, masks of the glyph's pixels.

    The 1,797 glyphs are divided between train (70 %), val (10 %) and test (20 %), by class, before any scene is made.
    Outside its mask a scene is its photograph's crop, to the bit.

    Defaults, and why:
        scenes: 10,000 for train, 1,000 for val, 2,000 for test: a width-16 ResNet-18 learns from it in a minute.
        backgrounds: 4 distinct crops, the same ones in every split and for every seed (the first 4 of any larger
            number). With so few, the background does not tell instances apart, so a contrastive encoder must look at
            the digit. 0 or None gives every scene a crop of its own.
        background_bias: 0, the background is independent of the class. With probability b it is number
            ``class % backgrounds`` instead: a spurious feature of known strength.
        tint_bias: 0, the hue is independent of the class. With probability b it is ``class / 10`` of the colour circle.
        contrast: 0.3, the tint's distance in brightness from the glyph's surroundings (0 to 1): clear to a person,
            and low enough that nearest neighbours of raw pixels get less than half of the digits right.
        seed: 0; everything but the division of glyphs and the crops follows from it.

    Raises ``ValueError`` for values outside these ranges, and for a background bias without a number of backgrounds.
    Digits: UCI optical recognition of handwritten digits (alpaydin1998); photographs: scikit-learn (pedregosa2011).
    """
    scenes = _checked(split, scenes, backgrounds, background_bias, tint_bias, contrast, seed)
    generator = torch.Generator().manual_seed(seed * len(SCENES) + list(SCENES).index(split))
    labels = (torch.arange(scenes) % 10)[torch.randperm(scenes, generator=generator)]
    glyphs = _draw_glyphs(split, labels, generator)
    crops = _draw_crops(labels, backgrounds or 0, background_bias, generator)
    hues = _draw_hues(labels, tint_bias, generator)
    sides, corners = _draw_places(scenes, generator)
    crops = crops + torch.nn.functional.pad((STAGE - sides[:, None]) // 2 - corners, (1, 0))  # the windows
    images = torch.empty(scenes, 3, SIDE, SIDE, dtype=torch.uint8)
    masks = torch.empty(scenes, SIDE, SIDE, dtype=torch.bool)
    for start in range(0, scenes, _CHUNK):
        part = slice(start, start + _CHUNK)
        coverage = _place(_digits()[0][glyphs[part]], sides[part], corners[part])
        images[part] = _compose(_cut(crops[part]), coverage, hues[part], contrast)
        masks[part] = coverage > 0
    return ImageSet(images, labels, tuple("0123456789"), masks, "digit-scenes")


def glyph_ids(split: str) -> Tensor:
    """Which of scikit-learn's 1,797 digits a split draws from: int64 [n], disjoint between splits, by class."""
    labels = _digits()[1]
    generator = torch.Generator().manual_seed(SPLIT_SEED)
    counts = labels.bincount()
    test = choose_per_class(labels, (counts * 0.2).round().long(), generator)
    rest = others(len(labels), test)
    val = choose_per_class(labels[rest], (counts * 0.1).round().long(), generator)
    return {"train": rest[others(len(rest), val)], "val": rest[val], "test": test}[split]


def background_crops(backgrounds: int) -> Tensor:
    """The crops that scenes with this many backgrounds are windows onto: uint8 [backgrounds,3,44,44]."""
    return (_cut(_fixed_crops(backgrounds), STAGE) * 255).round().to(torch.uint8)


def _checked(
    split: str,
    scenes: int | None,
    backgrounds: int | None,
    background_bias: float,
    tint_bias: float,
    contrast: float,
    seed: int,
) -> int:
    expect(split in SCENES, "split", "train, val or test", repr(split))
    scenes = SCENES[split] if scenes is None else scenes
    expect(isinstance(scenes, int) and scenes >= 10, "scenes", "an integer of at least 10, one per class", scenes)
    known = backgrounds is None or (isinstance(backgrounds, int) and backgrounds >= 0)
    expect(known, "backgrounds", "a number of crops, or 0 or None for one per scene", backgrounds)
    for name, value in (("background_bias", background_bias), ("tint_bias", tint_bias), ("contrast", contrast)):
        expect(isinstance(value, int | float) and 0 <= value <= 1, name, "a number from 0 to 1", value)
    expect(not background_bias or bool(backgrounds), "backgrounds", "at least 1 with background_bias > 0", backgrounds)
    expect(isinstance(seed, int) and 0 <= seed < 2**60, "seed", "an integer from 0 to 2**60", seed)
    return scenes


@functools.cache
def _digits() -> tuple[Tensor, Tensor]:
    """Ink in [0, 1] as float32 [1797,8,8], labels [1797]."""
    from sklearn.datasets import load_digits  # here, because it takes half a second that other data need not spend

    digits = load_digits()
    return torch.from_numpy(digits.images).float() / 16, torch.from_numpy(digits.target).long()


@functools.cache
def _photographs() -> Tensor:
    """Both photographs, halved: float32 [2,3,213,320] in [0, 1], in steps of 1/255."""
    from sklearn.datasets import load_sample_image

    photos = torch.stack([torch.from_numpy(load_sample_image(n).copy()) for n in ("china.jpg", "flower.jpg")])
    photos = torch.nn.functional.avg_pool2d(photos.permute(0, 3, 1, 2).float(), PHOTO_SCALE)
    return photos.round() / 255


def _draw_glyphs(split: str, labels: Tensor, generator: torch.Generator) -> Tensor:
    """One glyph of the scene's class, uniformly: [N]."""
    ids = glyph_ids(split)
    of_class = _digits()[1][ids]
    ids = ids[of_class.argsort(stable=True)]
    counts = of_class.bincount(minlength=10)
    rank = (torch.rand(len(labels), generator=generator) * counts[labels]).long()
    return ids[counts.cumsum(0)[labels] - counts[labels] + rank]


def _random_crops(count: int, generator: torch.Generator) -> Tensor:
    """Photograph, top and left of crops, uniformly: [count,3]."""
    photos, _, height, width = _photographs().shape
    limits = torch.tensor([photos, height - STAGE + 1, width - STAGE + 1])
    return (torch.rand(count, 3, generator=generator) * limits).long()


def _fixed_crops(backgrounds: int) -> Tensor:
    crops = _random_crops(backgrounds, torch.Generator().manual_seed(SPLIT_SEED))
    crops[:, 0] = torch.arange(backgrounds) % 2  # both photographs, even among the first few
    return crops


def _draw_crops(labels: Tensor, backgrounds: int, bias: float, generator: torch.Generator) -> Tensor:
    if not backgrounds:
        return _random_crops(len(labels), generator)
    free = torch.randint(backgrounds, labels.shape, generator=generator)
    follows = torch.rand(labels.shape, generator=generator) < bias
    return _fixed_crops(backgrounds)[torch.where(follows, labels % backgrounds, free)]


def _cut(crops: Tensor, side: int = SIDE) -> Tensor:
    """Crops [N,3] of (photograph, top, left) -> pixels [N,3,side,side]."""
    photo, top, left = (crops[:, i, None, None] for i in range(3))
    reach = torch.arange(side)
    return _photographs()[photo, :, top + reach[:, None], left + reach].permute(0, 3, 1, 2)


def _draw_hues(labels: Tensor, bias: float, generator: torch.Generator) -> Tensor:
    """Position on the colour circle in [0, 1): [N]."""
    free = torch.rand(labels.shape, generator=generator)
    follows = torch.rand(labels.shape, generator=generator) < bias
    return torch.where(follows, labels / 10, free)


def _draw_places(scenes: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Glyph side in px [N], and its top and left [N,2], so that it lies wholly inside the scene."""
    low, high = GLYPH_SIDES
    sides = torch.randint(low, high + 1, (scenes,), generator=generator)
    corners = (torch.rand(scenes, 2, generator=generator) * (SIDE - sides + 1)[:, None]).long()
    return sides, corners


def _place(glyphs: Tensor, sides: Tensor, corners: Tensor) -> Tensor:
    """Ink [N,8,8] -> coverage in [0, 1] of each scene's pixels [N,32,32], enlarged bilinearly, 0 off the glyph."""
    pixels = torch.arange(SIDE) + 0.5
    where = (pixels - corners[..., None]) * (8 / sides)[:, None, None] - 0.5  # [N,2,32], in glyph pixels
    weights = (1 - (where[..., None] - torch.arange(8)).abs()).clamp(min=0)  # [N,2,32,8]
    ink = weights[:, 0] @ glyphs @ weights[:, 1].transpose(1, 2)
    low, high = INK
    return ((ink - low) / (high - low)).clamp(0, 1)


def _compose(backgrounds: Tensor, coverage: Tensor, hues: Tensor, contrast: float) -> Tensor:
    """Blend a tint, lighter or darker than the pixels it covers, over each background: uint8 [N,3,32,32]."""
    under = (backgrounds.mean(1) * coverage).sum((1, 2)) / coverage.sum((1, 2))  # brightness behind the glyph [N]
    level = torch.where(under < 0.5, under + contrast, under - contrast)
    circle = torch.tensor([0.0, 1 / 3, 2 / 3])
    colour = torch.cos(2 * math.pi * (hues[:, None] - circle))  # sums to zero, so brightness stays at the level
    tint = (level[:, None] + CHROMA * colour).clamp(0, 1)[:, :, None, None]
    alpha = BLEND * coverage[:, None]
    return ((backgrounds + alpha * (tint - backgrounds)) * 255).round().to(torch.uint8)
