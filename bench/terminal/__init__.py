"""What people see on a terminal: results in lines, and tables that change in place."""
