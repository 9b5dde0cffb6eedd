"""Settings, clock, embedded servers and the use cases: judge and follow."""
