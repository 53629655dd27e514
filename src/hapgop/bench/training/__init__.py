"""`hapgop bench train`: a whole training step of ours against that of others, on the same net, weights and images."""

from hapgop.bench.training.nets import NETS
from hapgop.bench.training.profile import Profile
from hapgop.bench.training.rows import TrainResult, TrainRow
from hapgop.bench.training.run import TrainRun, bench_train, plan_train
from hapgop.bench.training.table import train_table

__all__ = ["NETS", "Profile", "TrainResult", "TrainRow", "TrainRun", "bench_train", "plan_train", "train_table"]
