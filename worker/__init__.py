"""Processes that serve: job entry points, relay, candle follower, client."""
