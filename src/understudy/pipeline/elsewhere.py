"""Teachers that no stage of the recipe leaves: a recording that was made elsewhere."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Literal, final

from understudy.errors import InputError
from understudy.pipeline.stage import Context
from understudy.recordings import Recording
from understudy.spec import Spec
from understudy.teachers import Recorded, Teacher


class Elsewhere(Spec):
    """A teacher that was made elsewhere."""

    kind: str

    @abstractmethod
    def teacher(self, context: Context) -> Teacher:
        """The teacher, ready to be asked.

        Args:
            context: the run.

        Raises:
            InputError: when it is not there, or does not fit the run's data.
        """


@final
class Stored(Elsewhere):
    """A recording, such as one that `understudy record`, or a script in another framework, has written."""

    kind: Literal["recording"] = "recording"
    path: str
    """Its folder."""

    def teacher(self, context: Context) -> Recorded:
        """The recording, if it is of these data."""
        recording = Recording(Path(self.path).expanduser())
        manifest, data = recording.manifest, context.data
        now = manifest.model_copy(
            update={"data": data.fingerprint, "classes": data.classes, "input_shape": data.train.shape}
        )
        different = manifest.differences(now)
        if different:
            raise InputError(
                f"{self.path} is a recording of something else: {'; '.join(different)}. Record this recipe's data: "
                "put a `record` stage before this one, or run the script that wrote it again"
            )
        return Recorded(recording)


AnyElsewhere = Stored
"""What a recipe may say of a teacher from elsewhere."""
