"""Salient ImageNet's files: images with soft masks of the core and the spurious features of their class.

Singla and Feizi 2022, "Salient ImageNet: How to Discover Spurious Features in Deep Learning?". The masks are activation
maps of a robust network's features; five people said of each pair of class and feature what it looks at. Layout:

    ROOT/WNID/image_fnames.csv                 a column per feature, the names of its images below
    ROOT/WNID/feature_K/{images,cams}/NAME.jpeg
    ROOT/discover_spurious_features.csv        the answers; or wherever ``answers`` says
"""

import collections
import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from sslnb.core.checks import expect
from sslnb.data.images import cover

MAIN_OBJECT = (
    "main_object"  # what an annotator answers for a core feature; the others are of backgrounds and neighbours
)
COLUMNS = ("Input.wordnet_id", "Input.feature_index", "Answer.main")


@dataclass(frozen=True)
class SalientImages:
    """Images uint8 [N,3,S,S]; labels [N] into ``classes`` (WordNet ids); soft masks float [N,S,S] in [0, 1].

    A mask is nought where none of the image's annotated features is of its kind.
    """

    images: Tensor
    labels: Tensor
    core: Tensor
    spurious: Tensor
    classes: tuple[str, ...]
    names: tuple[str, ...]


def load_salient_imagenet(
    root: Path | str, *, size: int = 224, answers: Path | str | None = None, classes: tuple[str, ...] | None = None
) -> SalientImages:
    """All annotated images under a folder, the shorter side scaled to ``size`` and the centre cut out.

    A mask is the greatest of the image's maps of its kind. ``ValueError`` for a missing folder, file, column
    or picture, a class without annotations, and a map of another size than its image.
    """
    root = Path(root)
    expect(root.is_dir(), "root", "a folder of Salient ImageNet", str(root))
    expect(size >= 1, "size", "at least 1", size)
    kinds = _kinds(Path(answers) if answers else root / "discover_spurious_features.csv")
    there = tuple(sorted(path.parent.name for path in root.glob("*/image_fnames.csv")))
    expect(bool(there), str(root), "folders with image_fnames.csv", "none")
    for name in classes or ():
        expect(name in there, "classes", f"WordNet ids among {list(there)[:5]}", repr(name))
    chosen = classes or there
    rows = [(wnid, *row) for wnid in chosen for row in _images_of(root / wnid, kinds.get(wnid, {}))]
    images, masks = torch.empty(len(rows), 3, size, size, dtype=torch.uint8), torch.zeros(len(rows), 2, size, size)
    for i, (_, name, features) in enumerate(tqdm(rows, desc="Salient ImageNet", leave=False, delay=1)):
        picture = Image.open(_there(features[0][0] / "images" / f"{name}.jpeg")).convert("RGB")
        images[i] = _scaled(picture, size)
        for folder, is_core in features:
            cam = Image.open(_there(folder / "cams" / f"{name}.jpeg")).convert("L")
            expect(cam.size == picture.size, str(folder / name), f"a map of {picture.size} px", cam.size)
            kind = masks[i, 0 if is_core else 1]
            kind.copy_(torch.maximum(kind, _scaled(cam, size)[0] / 255))
    labels = torch.tensor([chosen.index(wnid) for wnid, *_ in rows])
    return SalientImages(images, labels, masks[:, 0], masks[:, 1], tuple(chosen), tuple(name for _, name, _ in rows))


def _kinds(path: Path) -> dict[str, dict[int, bool]]:
    """For each class and feature, whether most annotators saw the main object."""
    expect(path.is_file(), "answers", "the file of annotators' answers", str(path))
    votes: dict[tuple[str, int], list[bool]] = collections.defaultdict(list)
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        expect(not missing, str(path), f"columns {', '.join(COLUMNS)}", f"a file without {', '.join(missing)}")
        for row in reader:
            wnid, feature, answer = (row[name] for name in COLUMNS)
            votes[wnid, int(feature)].append(answer == MAIN_OBJECT)
    found: dict[str, dict[int, bool]] = collections.defaultdict(dict)
    for (wnid, feature), answered in votes.items():
        found[wnid][feature] = 2 * sum(answered) > len(answered)
    return found


def _images_of(folder: Path, kinds: dict[int, bool]) -> list[tuple[str, list[tuple[Path, bool]]]]:
    """Names of a class's images, each with the folders of its features and whether those are core."""
    expect(bool(kinds), str(folder), "a class with annotated features", "none")
    features: dict[str, list[tuple[Path, bool]]] = collections.defaultdict(list)
    with (folder / "image_fnames.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for column, name in row.items():
                if name and column.isdigit() and int(column) in kinds:
                    features[name].append((folder / f"feature_{column}", kinds[int(column)]))
    expect(bool(features), str(folder), "images of annotated features", "none")
    return sorted(features.items())


def _there(path: Path) -> Path:
    expect(path.is_file(), "root", "a picture for every name in image_fnames.csv", f"none at {path}")
    return path


def _scaled(picture: Image.Image, size: int) -> Tensor:
    """[C,size,size] uint8: the shorter side scaled, the centre cut out."""
    height, width, top, left = cover(picture.height, picture.width, size)
    array = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
    pixels = torch.from_numpy(array.copy()).reshape(height, width, -1).permute(2, 0, 1)
    return pixels[:, top : top + size, left : left + size]
