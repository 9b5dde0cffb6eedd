"""Command line and one-off tools: each starts something."""
