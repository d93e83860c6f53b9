"""What we ask of the operating system, made safe: files, locks, processes, permissions, URLs."""
