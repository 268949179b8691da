"""Numbers of which few digits are kept."""

import numpy as np
import pytest

from sslnb.core.result import bit_round


@pytest.mark.parametrize("bits", [4, 8, 13])
def test_rounded_values_are_near_and_have_no_more_digits_than_asked_for(bits):
    values = np.random.default_rng(0).normal(size=2000) * 10.0 ** np.arange(-10, 10).repeat(100)
    rounded = bit_round(values, bits)
    assert rounded.dtype == np.float32
    error = np.abs(rounded / values - 1).max()
    assert 2.0**-bits / 2 < error <= 2.0**-bits  # neither more digits than asked for nor fewer
    assert not (rounded.view(np.uint32) & ((1 << (24 - bits)) - 1)).any()  # what does not count is zero: it compresses
    assert (bit_round(rounded, bits) == rounded).all()  # joining what was rounded before changes nothing


def test_what_is_not_finite_stays_as_does_zero():
    kept = bit_round(np.array([np.nan, np.inf, -np.inf, 0.0, -1.0]), 5)
    assert np.array_equal(kept, np.array([np.nan, np.inf, -np.inf, 0.0, -1.0], np.float32), equal_nan=True)
