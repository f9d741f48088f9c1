"""What a transition model is shown instead of real execution."""
