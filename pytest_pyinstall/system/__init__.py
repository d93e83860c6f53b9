"""Safe access to the operating system: files, locks, processes, permissions, URLs."""
