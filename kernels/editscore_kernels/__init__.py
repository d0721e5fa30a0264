"""Compiled and reference kernels of EditScore."""
