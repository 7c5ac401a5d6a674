"""How good a film is: measured alone, by the hundred, and as one setting against another."""
