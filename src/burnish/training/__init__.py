"""Training of feature extractors, generators and guides, from one YAML file."""
