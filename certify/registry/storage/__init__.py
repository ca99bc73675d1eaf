"""Where a registry stores everything: tables, objects, migrations, backups, and the check that all of it is whole."""
