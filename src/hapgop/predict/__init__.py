"""A trained net at work: pictures in, labels out, without PyTorch."""

from hapgop.predict.folder import read_config, read_run
from hapgop.predict.images import SUFFIXES, open_image, plain
from hapgop.predict.onnx_file import read_onnx
from hapgop.predict.predictor import Prediction, Predictor
from hapgop.predict.preprocessing import Picture, Preprocessing
from hapgop.predict.reading import Reading, read_pictures

__all__ = [
    "SUFFIXES",
    "Picture",
    "Prediction",
    "Predictor",
    "Preprocessing",
    "Reading",
    "open_image",
    "plain",
    "read_config",
    "read_onnx",
    "read_pictures",
    "read_run",
]
