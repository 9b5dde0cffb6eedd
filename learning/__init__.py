"""Closed positions become a new bundle, or a reason why not."""
