import pytest
import torch

from sslnb.core.checks import expect, expect_finite, expect_labels, expect_shape


def test_a_refusal_names_the_argument_the_expectation_and_what_came():
    expect(True, "width", "at least 1", 0)
    with pytest.raises(ValueError, match=r"^width: expected at least 1, got 0$"):
        expect(False, "width", "at least 1", 0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_non_finite_values_are_counted_and_the_first_is_located(value):
    tensor = torch.zeros(3, 4)
    expect_finite(tensor, "features")
    tensor[1, 2] = tensor[2, 3] = value
    with pytest.raises(ValueError, match=r"features: expected finite values, got 2 non-finite, the first at \(1, 2\)"):
        expect_finite(tensor, "features")


@pytest.mark.parametrize("shape", [(3,), (3, 5), (4, 4), (3, 4, 1), ()])
def test_shapes_fit_exactly_but_for_named_dimensions(shape):
    expect_shape(torch.zeros(3, 4), "x", 3, 4)
    expect_shape(torch.zeros(7, 4), "x", "N", 4)
    expect_shape(torch.zeros(0, 4), "x", "N", 4)
    with pytest.raises(ValueError, match=r"x: expected shape \[3, 4\], got shape"):
        expect_shape(torch.zeros(shape), "x", 3, 4)


def test_labels_are_integers_of_known_classes():
    expect_labels(torch.tensor([0, 2]), 3)
    expect_labels(torch.tensor([], dtype=torch.int64), 3)
    for wrong, message in (
        (torch.tensor([0, 3]), r"values in 0\.\.2, got values from 0 to 3"),
        (torch.tensor([-1, 1]), r"values from -1 to 1"),
        (torch.tensor([0.0]), r"integers, got dtype torch.float32"),
    ):
        with pytest.raises(ValueError, match=f"val_labels: expected .*{message}"):
            expect_labels(wrong, 3, "val_labels")
