"""Blind surveys: a frozen study of pairs, a server for its raters, and what their votes say."""
