"""A page in which trained networks run, their strides and padding can be changed, and geometry follows at once."""
