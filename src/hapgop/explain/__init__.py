"""Look inside a net: what each layer makes of one image, and what a convolution looks for.

Both questions take any `torch.nn.Module`, or a `hapgop.predict.Predictor`.
"""

from hapgop.explain.features import FeatureMap, feature_maps
from hapgop.explain.filters import Filters, filters

__all__ = ["FeatureMap", "Filters", "feature_maps", "filters"]
