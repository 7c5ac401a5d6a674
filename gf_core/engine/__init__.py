"""From a storyboard and a model to a film: what is to be made, what is there already, the render and its report."""
