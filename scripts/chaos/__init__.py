"""Faults on real processes under load, and a count of what they cost: ``penumbra chaos``."""
