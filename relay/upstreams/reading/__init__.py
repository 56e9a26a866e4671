"""Fields, figures, links and lists as upstreams really send them, read without guessing. No I/O."""
