"""HTTP as adapters use it: bounded, with pinned addresses, and with secrets redacted."""
