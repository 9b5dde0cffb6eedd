"""Signal, context and score become one verdict with all its reasons."""
