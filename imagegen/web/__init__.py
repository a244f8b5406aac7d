"""The page: HTML, CSS and ES modules, sent as they are.

Belongs here: what the browser gets. Not here: the routes that send it (http/routes)."""
