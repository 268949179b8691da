"""In which norms, up to which budgets, and under which reading of the standardization separability is measured."""

import math

NORMS = {"l1": 1, "l2": 2, "linf": math.inf}
BUDGETS = {"l2": 5.0, "linf": 0.1}  # the paper's largest budgets, section 3.2
PRIMARY = "unit_variance"  # only this reading of "standardized" can give the paper's numbers: see the chapter
CURVE_POINTS = 501  # budgets at which exact curves are recorded, 0 included
