"""One training loop for any objective, and what goes on around it."""

from sslnb.training.config import PretrainConfig
from sslnb.training.loop import pretrain

__all__ = ["PretrainConfig", "pretrain"]
