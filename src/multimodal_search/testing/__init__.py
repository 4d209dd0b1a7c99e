"""Contract tests for backends: subclass one in your own test suite."""
