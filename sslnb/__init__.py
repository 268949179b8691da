"""sslnb: self-supervised visual representations, compared, in five studies that rerun themselves."""

from sslnb.core.result import Result

__all__ = ["Result"]
__version__ = "0.1.0"
