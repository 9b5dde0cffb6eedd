"""The threshold a score must reach in its market situation."""
