"""What a film, or a training, will take: memory, disk and minutes, said before the first step."""
