"""Texts on the screen, token by token: a child process lets the model read, the browser colours what it expected."""
