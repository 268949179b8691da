"""Training objectives, one short file each. Their losses are usable alone: ``from sslnb.objectives import nt_xent``."""

from sslnb.objectives import registry

_losses = {name: loss for name, loss in registry.exported().items() if not isinstance(loss, type)}
globals().update(_losses)
__all__ = [*_losses]
