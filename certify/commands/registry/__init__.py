"""The commands of ``petaseal registry``: of who talks to a registry, and of who runs one."""
