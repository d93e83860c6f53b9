"""Owns the install directory: find, claim, publish, verify, remove."""
