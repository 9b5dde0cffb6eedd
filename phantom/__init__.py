"""The rule that follows a position to its exit: pure, one closed candle at a time."""
