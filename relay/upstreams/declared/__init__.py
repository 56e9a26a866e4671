"""A JSON API by declaration: requests with placeholders, and expressions that find what the answers say."""
