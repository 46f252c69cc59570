"""What a teacher answered, on disk: the format, and reading it."""

from understudy.recordings.manifest import Manifest, Part
from understudy.recordings.recording import Recording
from understudy.recordings.storage import Storage

__all__ = ["Manifest", "Part", "Recording", "Storage"]
