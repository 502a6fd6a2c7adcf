"""Language models: texts as tokens, and what a distribution over a vocabulary says, token by token."""
