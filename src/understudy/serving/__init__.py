"""Models in use: what one says about an image or some numbers, on the command line and over HTTP."""

from understudy.serving.predictor import Prediction, Predictor, open_predictor
from understudy.serving.samples import SampleForm

__all__ = ["Prediction", "Predictor", "SampleForm", "open_predictor"]
