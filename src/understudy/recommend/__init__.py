"""Which student to train for a teacher: architectures within a target, measured on this machine."""

from understudy.recommend.measuring import Option
from understudy.recommend.recommending import Recommendation, recommend

__all__ = ["Option", "Recommendation", "recommend"]
