import pytest
import torch
from scipy.stats import chi2_contingency

from sslnb.data import ImageSet
from sslnb.data import digit_scenes as module
from sslnb.data.digit_scenes import background_crops, digit_scenes, glyph_ids


def windows(backgrounds: int) -> torch.Tensor:
    """Every 32 px window onto every background: uint8 [backgrounds,13·13,3,32,32]."""
    return background_crops(backgrounds).unfold(2, 32, 1).unfold(3, 32, 1).permute(0, 2, 3, 1, 4, 5).flatten(1, 2)


def window_of(scenes: ImageSet, backgrounds: int) -> torch.Tensor:
    """Background and window that agree with each scene on every pixel off the glyph: [N,2]; fails where none does."""
    seen, found = windows(backgrounds), []
    corners = (slice(None), [0, 0, -1, -1], [0, -1, 0, -1])  # a few pixels leave a few windows to look at whole
    at_corners = seen[:, :, *corners]
    for image, mask in zip(scenes.images, scenes.masks, strict=True):
        possible = ((at_corners == image[corners]).all(2) | mask[corners[1:]]).all(2).nonzero()
        agrees = ((seen[tuple(possible.T)] == image).all(1) | mask).flatten(1).all(1)
        assert agrees.any() and len(possible[agrees, 0].unique()) == 1
        found.append(possible[agrees][0])
    return torch.stack(found)


def background_of(scenes: ImageSet, backgrounds: int) -> torch.Tensor:
    return window_of(scenes, backgrounds)[:, 0]


def hue_of(scenes: ImageSet, backgrounds: int) -> torch.Tensor:
    """Hue of each glyph's tint, recovered by taking the background's share away: [N] in [0, 1)."""
    behind = windows(backgrounds)[tuple(window_of(scenes, backgrounds).T)].float()
    inked = scenes.masks & torch.nn.functional.max_pool2d((~scenes.masks).float(), 3, 1, 1).eq(0)  # not at the outline
    tint = ((scenes.images - (1 - module.BLEND) * behind) * inked[:, None]).sum((2, 3))
    angle = torch.tensor([0.0, 1 / 3, 2 / 3]) * 2 * torch.pi
    return torch.atan2((tint * angle.sin()).sum(1), (tint * angle.cos()).sum(1)) / (2 * torch.pi) % 1


def test_shapes_dtypes_and_balanced_classes():
    scenes = digit_scenes("val")
    assert scenes.images.shape == (1000, 3, 32, 32) and scenes.masks.shape == (1000, 32, 32)
    assert scenes.labels.bincount().tolist() == [100] * 10
    assert scenes.classes == tuple("0123456789")


def test_each_glyph_belongs_to_one_split_and_each_class_to_all():
    ids = {split: glyph_ids(split) for split in ("train", "val", "test")}
    assert torch.cat(list(ids.values())).sort().values.tolist() == list(range(1797))
    labels = module._digits()[1]
    for split, share in (("train", 0.7), ("val", 0.1), ("test", 0.2)):
        of_class = labels[ids[split]].bincount() / labels.bincount()
        assert (of_class - share).abs().max() < 0.01


def test_no_glyph_crosses_a_split(monkeypatch):
    before = digit_scenes("train", scenes=500)
    test_before = digit_scenes("test", scenes=500)
    ink, labels = module._digits()
    changed = ink.clone().index_fill_(0, glyph_ids("test"), 1.0)
    monkeypatch.setattr(module, "_digits", lambda: (changed, labels))
    assert digit_scenes("train", scenes=500).checksum() == before.checksum()
    assert (digit_scenes("test", scenes=500).images != test_before.images).flatten(1).any(1).all()


def test_the_same_seed_gives_the_same_bytes_and_another_does_not():
    first = digit_scenes("test", scenes=100)
    state = torch.get_rng_state()
    assert digit_scenes("test", scenes=100).checksum() == first.checksum()
    assert digit_scenes("test", scenes=100, seed=1).checksum() != first.checksum()
    assert digit_scenes("val", scenes=100).checksum() != first.checksum()
    assert torch.equal(torch.get_rng_state(), state)


def test_masks_are_exactly_where_the_glyph_is():
    scenes = digit_scenes("test", scenes=500)
    behind = windows(4)[tuple(window_of(scenes, 4).T)]  # equality off the mask is asserted there
    differs = (scenes.images != behind).any(1)
    assert not (differs & ~scenes.masks).any()
    assert (differs & scenes.masks).sum() > 0.97 * scenes.masks.sum()
    assert (scenes.masks.flatten(1).sum(1) > 30).all()


def test_glyphs_are_20_to_28_px_tall():
    rows = digit_scenes("train", scenes=2000).masks.any(2).float()
    height = 32 - rows.argmax(1) - rows.flip(1).argmax(1)
    assert height.min() >= 16 and 20 <= height.float().mean() <= 28  # ink ends inside the box, blur just outside


@pytest.mark.parametrize("backgrounds", [1, 4, 16])
def test_every_split_and_seed_shares_the_same_backgrounds(backgrounds):
    for split, seed in (("train", 0), ("test", 0), ("val", 3)):
        used = background_of(digit_scenes(split, scenes=300, backgrounds=backgrounds, seed=seed), backgrounds)
        assert used.unique().tolist() == list(range(backgrounds))


def test_fewer_backgrounds_are_the_first_of_more():
    assert torch.equal(background_crops(4), background_crops(16)[:4])
    assert len(background_crops(64).flatten(1).unique(dim=0)) == 64


@pytest.mark.parametrize("unlimited", [0, None])
def test_unlimited_backgrounds_give_each_scene_its_own(unlimited):
    scenes = digit_scenes("val", scenes=300, backgrounds=unlimited)
    corners = scenes.images[:, :, [0, 0, -1, -1], [0, -1, 0, -1]].flatten(1)
    assert len(corners.unique(dim=0)) > 290


def test_background_is_independent_of_the_class_by_default():
    scenes = digit_scenes("train", scenes=4000)
    table = torch.zeros(10, 4).index_put_((scenes.labels, background_of(scenes, 4)), torch.ones(4000), accumulate=True)
    assert chi2_contingency(table.numpy()).pvalue > 0.001


@pytest.mark.parametrize("bias", [0.5, 1.0])
def test_background_bias_is_the_share_of_scenes_whose_background_follows_the_class(bias):
    scenes = digit_scenes("train", scenes=4000, backgrounds=10, background_bias=bias)
    follows = (background_of(scenes, 10) == scenes.labels).float().mean()
    assert follows == pytest.approx(bias + (1 - bias) / 10, abs=0.03)


@pytest.mark.parametrize(("bias", "low", "high"), [(0.0, 0.05, 0.15), (1.0, 0.7, 1.0)])
def test_tint_bias_makes_the_hue_predict_the_class(bias, low, high):
    scenes = digit_scenes("train", scenes=1000, tint_bias=bias, contrast=0.1)
    predicted = (hue_of(scenes, 4) * 10).round().long() % 10
    assert low <= (predicted == scenes.labels).float().mean() <= high


def test_contrast_sets_the_distance_in_brightness():
    def distance(contrast: float) -> float:
        scenes = digit_scenes("train", scenes=300, contrast=contrast)
        behind = windows(4)[tuple(window_of(scenes, 4).T)].float()
        change = (scenes.images - behind).mean(1) * scenes.masks
        return float((change.sum((1, 2)) / scenes.masks.sum((1, 2))).abs().mean() / 255)

    assert distance(0.1) < 0.12 < 0.2 < distance(0.4)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"split": "trian"}, "split"),
        ({"scenes": 9}, "scenes"),
        ({"scenes": 10.5}, "scenes"),
        ({"backgrounds": -1}, "backgrounds"),
        ({"background_bias": 1.5}, "background_bias"),
        ({"background_bias": 0.5, "backgrounds": 0}, "backgrounds"),
        ({"tint_bias": -0.1}, "tint_bias"),
        ({"contrast": float("nan")}, "contrast"),
        ({"seed": -1}, "seed"),
    ],
)
def test_values_out_of_range_are_refused_by_name(given, named):
    with pytest.raises(ValueError, match=f"^{named}: expected"):
        digit_scenes(**given)


def test_glyphs_stand_in_the_middle_of_their_background_and_windows_move():
    scenes = digit_scenes("train", scenes=400)
    windows_seen = window_of(scenes, 4)[:, 1]
    top, left = windows_seen // 13, windows_seen % 13
    rows, columns = scenes.masks.any(2).float(), scenes.masks.any(1).float()
    middle = [(axis.argmax(1) + 31 - axis.flip(1).argmax(1)) / 2 for axis in (rows, columns)]
    assert (top + middle[0] - 21.5).abs().mean() < 1 and (left + middle[1] - 21.5).abs().mean() < 2
    assert len(top.unique()) > 6 and len(left.unique()) > 6


def test_raw_pixels_give_less_than_half_of_the_digits_away():
    def accuracy(backgrounds: int) -> float:
        train, test = digit_scenes("train", backgrounds=backgrounds), digit_scenes("test", backgrounds=backgrounds)
        known, asked = (torch.nn.functional.normalize(s.images.flatten(1).float()) for s in (train, test))
        votes = train.labels[(asked @ known.T).topk(200).indices]
        return float((votes.mode().values == test.labels).float().mean())

    assert 0.35 < accuracy(4) < 0.5
    assert accuracy(16) < 0.3  # then the background alone tells instances apart
