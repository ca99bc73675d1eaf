"""A statement for people to read: what it says in both languages (`view`), and each form in which that is drawn."""
