"""How bytes get here: one client, retries, resume, a verified cache."""
