def apply(name): raise KeyError(name)
