import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sslnb.data.salient_imagenet import load_salient_imagenet
from sslnb.encoders.resnet import untrained
from sslnb.metrics.heatmaps import direction_heatmaps, mask_iou

ANSWERS = "discover_spurious_features.csv"


def write(folder: Path, name: str, array: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(folder / f"{name}.jpeg", quality=100, subsampling=0)


@pytest.fixture
def root(tmp_path):
    """Two classes of 40×32 pictures: features 7 (core, left half) and 9 (spurious, top half), and 11, not annotated."""
    votes = {"n01": {7: 3, 9: 2}, "n02": {7: 5}}
    with (tmp_path / ANSWERS).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["WorkerId", "Input.wordnet_id", "Input.class_index", "Input.feature_index", "Answer.main"])
        for wnid, features in votes.items():
            for feature, core in features.items():
                for worker in range(5):
                    writer.writerow([worker, wnid, 0, feature, "main_object" if worker < core else "background"])
    names = {"n01": {7: ["a", "b"], 9: ["b", "c"], 11: ["a", "c"]}, "n02": {7: ["d", ""]}}
    left, above = np.zeros((32, 40), np.uint8), np.zeros((32, 40), np.uint8)
    left[:, :20], above[:16] = 255, 255
    for wnid, features in names.items():
        for feature, files in features.items():
            for name in filter(None, files):
                folder = tmp_path / wnid / f"feature_{feature}"
                write(folder / "images", name, np.full((32, 40, 3), ord(name), np.uint8))
                write(folder / "cams", name, left if feature == 7 else above)
        with (tmp_path / wnid / "image_fnames.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerows([features.keys(), *zip(*features.values(), strict=True)])
    return tmp_path


def test_images_come_once_with_the_masks_of_their_annotated_features(root):
    found = load_salient_imagenet(root, size=32)
    assert found.names == ("a", "b", "c", "d") and found.classes == ("n01", "n02")
    assert found.labels.tolist() == [0, 0, 0, 1] and found.images.shape == (4, 3, 32, 32)
    assert found.images[1, 0, 0, 0] == ord("b")
    half = torch.tensor([0.0, 1.0])
    columns, rows = found.core[:, 16, [31, 0]], found.spurious[:, [31, 0], 16]  # 4 px are cut off at each side
    torch.testing.assert_close(columns, torch.stack([half, half, 0 * half, half]), atol=0.02, rtol=0)
    torch.testing.assert_close(rows, torch.stack([0 * half, half, half, 0 * half]), atol=0.02, rtol=0)


def test_heatmaps_are_compared_with_soft_masks(root):
    found = load_salient_imagenet(root, size=32, classes=("n02",))
    encoder = untrained(0, width=4)
    heat = direction_heatmaps(encoder, found.images, torch.ones(encoder.feature_dim), layer="layer2")
    overlap = mask_iou(heat, found.core)
    naive = float((heat[0] * found.core[0]).sum() / heat[0].sum())
    assert float(overlap) == pytest.approx(naive, rel=1e-5) and 0 < naive < 1
    with pytest.raises(ValueError, match="masks: expected at least one pixel"):
        mask_iou(heat, found.spurious)


def test_what_is_missing_is_named(root, tmp_path):
    with pytest.raises(ValueError, match="root: expected a folder"):
        load_salient_imagenet(root / "nowhere")
    with pytest.raises(ValueError, match="answers: expected the file"):
        load_salient_imagenet(root, answers=root / "no.csv")
    with pytest.raises(ValueError, match=r"classes: .*'n03'"):
        load_salient_imagenet(root, classes=("n03",))
    write(root / "n02" / "feature_7" / "cams", "d", np.zeros((16, 16), np.uint8))
    with pytest.raises(ValueError, match=r"expected a map of \(40, 32\) px, got \(16, 16\)"):
        load_salient_imagenet(root, size=32)
    (root / "n02" / "feature_7" / "cams" / "d.jpeg").unlink()
    with pytest.raises(ValueError, match=r"none at .*d\.jpeg"):
        load_salient_imagenet(root, size=32)
    (root / ANSWERS).write_text("Input.wordnet_id,Answer.main\n")
    with pytest.raises(ValueError, match=r"a file without Input\.feature_index"):
        load_salient_imagenet(root)
