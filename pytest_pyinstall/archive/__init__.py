"""Unpacks archives without trusting them, and prepares the tree for its final place."""
