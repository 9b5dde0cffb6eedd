"""Scalp gates: which yes-or-no conditions of a signal go with winning, and what of that is luck."""
