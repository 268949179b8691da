"""The pool of encoders: what exists at each scale, where it is, and how what is missing gets trained."""

from sslnb.pool.pool import Pool

__all__ = ["Pool"]
