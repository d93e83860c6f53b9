"""Parses requests and chooses the build for each. No I/O."""
