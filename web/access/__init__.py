"""Access: what a request may do, and how it proves that."""
