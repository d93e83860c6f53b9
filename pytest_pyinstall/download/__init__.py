"""Downloads files: one client, retries, resuming, and a cache that is verified."""
