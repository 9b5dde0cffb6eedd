"""From features to a score between 0 and 100."""
