"""Records as JSON, and a parser of event streams. No I/O."""
