"""From an archive to a tree that is ready for its place; trusts nothing in it."""
