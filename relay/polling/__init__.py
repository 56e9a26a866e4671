"""When an upstream is polled for a job, and which events its answer leads to."""
