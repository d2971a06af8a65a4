"""An encoder small enough that a toy run spends its time elsewhere."""

SMALL = ("width=32", "channels=4")
"""Options of AudioNTT, as `TrainConfig` and the command line take them."""
