"""A callback that ends a training, as Ctrl-C does."""


class Interrupt:
    """Ends a training after a step.

    Args:
        step: how many were made by then; 0 for none.
    """

    def __init__(self, step: int) -> None:
        self.step = step

    def stepped(self, moment) -> None:
        """End it, if it is so far."""
        if moment.step == self.step:
            raise KeyboardInterrupt

    def recorded(self, moment, record) -> None:
        """Let it go on."""
