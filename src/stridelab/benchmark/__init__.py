"""Speed of finished variants, measured apart from training: one at a time, in turns, each in a process of its own."""
