"""Image sets by name, and what a set of images is."""

from sslnb.data.images import ImageSet
from sslnb.data.splits import load

__all__ = ["ImageSet", "load"]
