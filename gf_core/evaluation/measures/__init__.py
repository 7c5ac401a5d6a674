"""Single measures: plain functions of pictures, or of what a reader sees in them."""
