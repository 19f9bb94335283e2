"""Usage questions as SQL, a file for each way that readings become figures.

Identifiers come from fixed lists (`customer`, `subject`, `d0` … `d15`, and names of this package), every value is bound.
The meaning of each aggregation is the oracle's (metering/evaluate.py); tests hold every statement to it.
"""

from tallystick.store.question.answer import VALUES_MAX, answer, answer_from_rollups
from tallystick.store.question.bound import Bound, Statement
from tallystick.store.question.condition import column_of, condition_of, conditions
from tallystick.store.question.stream import Bounds, batches, extent

__all__ = [
    "VALUES_MAX",
    "Bound",
    "Bounds",
    "Statement",
    "answer",
    "answer_from_rollups",
    "batches",
    "column_of",
    "condition_of",
    "conditions",
    "extent",
]
