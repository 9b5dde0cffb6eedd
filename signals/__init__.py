"""The words: value types, reason codes and profiles that every room shares. Standard library only."""
