"""What was asked for, and which build answers it. No I/O."""
