"""Many runs, one question: what is done, what is left, where runs are executed, progress, the end."""
