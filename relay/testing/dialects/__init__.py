"""Scripted upstreams that are asked about one task at a time, one small file a dialect."""
