"""The exit codes of every command."""

DONE = 0
FAILED = 1
"""A sample, or the self-test, failed; everything else was done and written."""
BAD_USAGE = 2
"""Wrong options, or input that cannot be read as a whole; nothing was written."""
INTERRUPTED = 130
PIPE_CLOSED = 141
