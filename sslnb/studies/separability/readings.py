"""In which norms, up to which budgets, and under which reading of the standardization separability is measured."""

from sslnb.studies.measures import FEATURE_BUDGETS as BUDGETS
from sslnb.studies.measures import NORMS

__all__ = ["BUDGETS", "CURVE_POINTS", "NORMS", "PRIMARY"]

PRIMARY = "unit_variance"  # only this reading of "standardized" can give the paper's numbers: see the chapter
CURVE_POINTS = 501  # budgets at which exact curves are recorded, 0 included
