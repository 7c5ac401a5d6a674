"""What a film is given beside its text: a picture or a video to start from, pictures of its cast."""
