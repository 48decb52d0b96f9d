"""Reports: one HTML page of results, pictures of pairs, and the Markdown page of tables."""
