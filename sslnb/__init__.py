"""sslnb: self-supervised visual representations, compared, in five studies that rerun themselves."""

__version__ = "0.1.0"
