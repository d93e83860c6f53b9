"""The project's whole suite under each Python, as one session."""
