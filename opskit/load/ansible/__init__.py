"""Ansible's inventories: read as Ansible reads them, and handed on as opskit's own hosts."""
