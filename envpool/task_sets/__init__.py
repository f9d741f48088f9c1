"""Task sets on disk: what an agent may open, and the rest."""
