"""How tokens merge: x + U (F(M x) - M x) around a part, a block or a stack, by hooks that find their own call."""
