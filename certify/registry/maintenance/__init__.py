"""Operating what is stored: a backup, and the check that verifies everything anew."""
