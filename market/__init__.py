"""Candles from files and exchanges, indicators, features and reference strategies."""
