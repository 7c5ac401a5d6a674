"""What was measured, drawn as pictures."""
