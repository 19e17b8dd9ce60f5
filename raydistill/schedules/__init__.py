"""What changes while the student is trained: weights, temperatures, the balance of the terms.

Reading order: ``weight.py`` (a factor at every step), ``temperature.py`` (by steps done, or from row to
row), ``learned.py`` (against the student), ``balance.py`` (terms of different scale in one sum), ``stages.py`` (parts of a run).
"""

from raydistill.schedules.balance import (
    RelativeBalance,
    UncertaintyBalance,
    relative_factors,
    uncertainty_sum,
)
from raydistill.schedules.learned import (
    LearnedTemperature,
    reversal_strength,
    reverse_gradient,
)
from raydistill.schedules.stages import Stage, frozen_names, plan_stages, stage_at
from raydistill.schedules.temperature import (
    cwsm_temperature,
    flsw_temperature,
    scheduled_temperature,
)
from raydistill.schedules.weight import weight_factor

__all__ = [
    "LearnedTemperature",
    "RelativeBalance",
    "Stage",
    "UncertaintyBalance",
    "cwsm_temperature",
    "flsw_temperature",
    "frozen_names",
    "plan_stages",
    "relative_factors",
    "reversal_strength",
    "reverse_gradient",
    "scheduled_temperature",
    "stage_at",
    "uncertainty_sum",
    "weight_factor",
]
