"""A small web server for pages that burnish shows on this machine: routes in, replies out."""
