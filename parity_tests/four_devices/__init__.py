"""Tests that need four devices; `test_devices` runs them in a process that has four."""
