"""Live streams: what each client follows, where its stream begins, and how bytes reach its socket."""
