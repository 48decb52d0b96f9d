"""Whether a guide can help some images, and what tells them from real ones."""
