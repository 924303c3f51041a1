"""What differs between operating systems: files that outlive a crash, locks, processes, memory."""
