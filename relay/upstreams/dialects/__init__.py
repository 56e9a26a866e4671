"""One file a dialect: the requests to one kind of upstream, and the reading of its answers."""
