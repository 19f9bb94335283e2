"""Sources at work: who runs which, what each is given, and dead letters."""
