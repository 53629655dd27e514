"""A net's training step, forward and back, each planned as one native call; without PyTorch."""

from hapgop.program.training.calls import TrainingCalls
from hapgop.program.training.nodes import Setting
from hapgop.program.training.plan import TrainingPlan, plan_training
from hapgop.program.training.tape import Place
from hapgop.program.training.ways import at_once

__all__ = ["Place", "Setting", "TrainingCalls", "TrainingPlan", "at_once", "plan_training"]
