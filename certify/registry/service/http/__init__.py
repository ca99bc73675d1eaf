"""How requests reach the routes: what is taken for one on the connection, and below which path."""
