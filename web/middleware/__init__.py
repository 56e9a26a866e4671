"""The checks that every request passes on its way to a handler."""
