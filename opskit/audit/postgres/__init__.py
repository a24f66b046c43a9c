"""The record in a PostgreSQL database, for a team. See docs/how-to/team-store.md."""
