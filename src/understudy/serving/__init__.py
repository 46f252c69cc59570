"""Models in use: what one says about an image or some numbers, on the command line and over HTTP."""

from understudy.serving.predictor import Answer, Numbers, Prediction, Predictor, open_predictor
from understudy.serving.samples import SampleForm

__all__ = ["Answer", "Numbers", "Prediction", "Predictor", "SampleForm", "open_predictor"]
