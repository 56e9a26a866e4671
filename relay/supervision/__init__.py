"""Tasks that run as long as the relay does, and the sinks and upstreams that it enters and leaves."""
