"""What a frozen encoder gives, and what linear and nearest-neighbour classifiers read out of it."""

from sslnb.features.extract import extract
from sslnb.features.linear import LinearProbe, LinearProbeGrid
from sslnb.features.nearest import knn_predict
from sslnb.features.standardize import Standardizer

__all__ = ["LinearProbe", "LinearProbeGrid", "Standardizer", "extract", "knn_predict"]
