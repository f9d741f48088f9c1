"""What the sandbox backends are made of: engines, shells, limits, images, and the removal of what dead owners left."""
